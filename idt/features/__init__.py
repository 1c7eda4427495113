"""The features of one video: the record, its file, other formats, and two of them compared."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
