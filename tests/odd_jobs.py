"""Jobs that die, hang, fail or wait, by the first word of their names, and what remains of them."""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from pathlib import Path

from idt._util.files import replacing
from idt.errors import VideoError
from idt.runner.jobs import Job
from idt.runner.log import NAME
from waiting import PATIENCE_S, until


def jobs_of(*names: str) -> list[Job]:
    return [Job(name, Path(f"{name}.npz")) for name in names]


def odd(job: Job, advance, *, folder: str = ".") -> dict:
    """Work whose way depends on the first word of the name of the job."""
    kind = job.source.partition(" ")[0]
    advance(1, 4, 10)
    tries = Path(folder, f"{job.source}.tries")
    with tries.open("a") as file:
        file.write("x")
    with replacing(job.output) as file:
        file.write(b"half")
        file.flush()
        if kind == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "leave":
            os._exit(3)
        time.sleep({"hang": 10 * PATIENCE_S}.get(kind, 0))
        if kind == "held":
            until(Path(folder, "go").exists)
        if kind == "shared":  # until two runs do such work
            Path(folder, f"run-{os.environ['RUN']}").touch()
            until(lambda: len(list(Path(folder).glob("run-*"))) == 2)
        if kind == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if kind == "bad":
            raise VideoError(f"{job.source}: bad.")
        if kind == "bug":
            raise ZeroDivisionError("oops")
        if kind == "flaky" and tries.stat().st_size < 3:
            os.kill(os.getpid(), signal.SIGKILL)
    if kind == "warns":
        logging.getLogger("idt").warning("%s warns.", job.source)
    advance(4, 4, 40)
    return {"rows": 40, "process": os.getpid()}


def files(folder: str = ".") -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.endswith(".tries") and name != NAME)


def alive(session: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found
