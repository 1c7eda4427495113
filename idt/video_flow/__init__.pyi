from .files import read_meta as read_meta
from .files import write_flow as write_flow
from .pairs import Pair as Pair
from .pairs import difference as difference
from .pairs import video_flow as video_flow
from .params import FlowParams as FlowParams
