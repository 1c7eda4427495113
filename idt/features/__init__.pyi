from .difference import diff as diff
from .record import Features as Features
from .record import FeatureWriter as FeatureWriter
from .record import load_any as load_any
from .text import read_text as read_text
from .text import write_text as write_text
