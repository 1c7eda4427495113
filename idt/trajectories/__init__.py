"""Improved dense trajectories: points that are sampled, tracked and described while the camera's motion is removed."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
