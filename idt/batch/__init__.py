"""Many videos: the features, flow, vectors or labels of each; what is done already is skipped."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
