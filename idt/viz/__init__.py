"""Pictures: trajectories over the frames of their video, one trajectory and its descriptors, flow in colours."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
