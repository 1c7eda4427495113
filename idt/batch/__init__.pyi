from .encoding import encode_videos as encode_videos
from .encoding import fit_codebook as fit_codebook
from .estimate import estimate_extraction as estimate_extraction
from .estimate import estimate_flow as estimate_flow
from .extraction import extract_videos as extract_videos
from .flow import flow_videos as flow_videos
from .prediction import predict_videos as predict_videos
