"""Encodings of bags of vectors (arrives in a later version)."""
