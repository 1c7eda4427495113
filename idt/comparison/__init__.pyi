from .methods import ExternalMethod as ExternalMethod
from .methods import FeatureMethod as FeatureMethod
from .methods import Fusion as Fusion
from .methods import read_methods as read_methods
from .run import Comparison as Comparison
from .run import compare as compare
