"""Classical video features: improved dense trajectories, optical flow and their encodings.

The names below are loaded when first used, so that ``import idt`` and the leaves ``idt.flow`` and
``idt.encoding`` stay light.
"""

from lazy_loader import attach_stub

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
