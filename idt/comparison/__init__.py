"""Many methods on the splits of one dataset, and the report of what they found."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
