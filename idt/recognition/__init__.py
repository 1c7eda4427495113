"""From features to labels: datasets and their splits, codebooks and vectors of channels, classifiers, evaluation."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
