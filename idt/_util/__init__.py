"""Tools below all else, which know nothing of videos."""
