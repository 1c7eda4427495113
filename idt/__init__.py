"""Classical video features: improved dense trajectories, optical flow and their encodings.

The names below are loaded when first used, so that ``import idt`` and the leaves ``idt.flow`` and
``idt.encoding`` stay light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idt.errors import DeviceError, FormatError, IdtError, OutputError, ParameterError, VideoError
    from idt.features import Features
    from idt.params import Params
    from idt.pipeline import extract, stream

__version__ = "0.1.0"

_HOME = {
    "extract": "idt.pipeline", "stream": "idt.pipeline", "Params": "idt.params", "Features": "idt.features",
    "IdtError": "idt.errors", "VideoError": "idt.errors", "ParameterError": "idt.errors",
    "FormatError": "idt.errors", "OutputError": "idt.errors", "DeviceError": "idt.errors",
}

__all__ = ["DeviceError", "Features", "FormatError", "IdtError", "OutputError", "ParameterError", "Params",
           "VideoError", "__version__", "extract", "stream"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'idt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
