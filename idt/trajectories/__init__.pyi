from .extraction import extract as extract
from .extraction import extract_file as extract_file
from .extraction import stream as stream
