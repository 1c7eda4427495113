from .inputs import work_list as work_list
from .jobs import Job as Job
from .jobs import Outcome as Outcome
from .jobs import Progress as Progress
from .jobs import Summary as Summary
from .jobs import Workers as Workers
from .log import read_status as read_status
from .scheduler import run as run
