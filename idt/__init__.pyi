from .errors import DeviceError as DeviceError
from .errors import FormatError as FormatError
from .errors import IdtError as IdtError
from .errors import OutputError as OutputError
from .errors import ParameterError as ParameterError
from .errors import VideoError as VideoError
from .features.record import Features as Features
from .params import Params as Params
from .trajectories.extraction import extract as extract
from .trajectories.extraction import stream as stream

__version__: str
