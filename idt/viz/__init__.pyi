from .pictures import draw_flow as draw_flow
from .pictures import draw_trajectory as draw_trajectory
from .pictures import overlay as overlay
from .pictures import write_video as write_video
