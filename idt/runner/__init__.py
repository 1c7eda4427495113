"""Many jobs: which are to be done, where they run, and what becomes of each; knows nothing of the method."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
