"""The optical flow of a video: pairs of frames in order, and the files that networks are trained on."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
