"""idt view."""
def view() -> int:
    """Not yet."""
    return 0
