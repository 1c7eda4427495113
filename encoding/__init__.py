"""Encodings of videos: bags of descriptors in, one vector for each video out, in the style of scikit-learn.

A bag is an array (n, d) with one descriptor a row: those of one video. Estimators take an iterable of bags, float16,
float32 or float64, that may make them as they are asked for; they work on them in chunks and in float32. The names
below are loaded when first used.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
