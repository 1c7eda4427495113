"""What the parts of the runner hand each other: jobs, who does them, where one stands, and what became of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias, TypeVar

from idt._util.checks import checked_integer
from idt._util.text import allowed_text
from idt.errors import IdtError, ParameterError

Backend: TypeAlias = Literal["local", "dask", "ray"]
T = TypeVar("T")

_BACKENDS = ("local", "dask", "ray")


@dataclass(frozen=True)
class Job:
    """One video and what is made of it.

    Attributes
    ----------
    source : str
        Video file, folder of images or glob of images.
    output : Path
        The file or folder to write.
    boxes, homographies : Path or None
        Side inputs of this video.
    error : IdtError or None
        Why there is nothing to be made of `source`: it fails with this.
    """

    source: str
    output: Path
    boxes: Path | None = None
    homographies: Path | None = None
    error: IdtError | None = None


Work: TypeAlias = Callable[[Job, Callable[..., None]], dict[str, Any]]
"""Does one job and returns the metadata of what it made; reports how far it is through the function that it gets."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who does the work.

    Processes are those of `multiprocessing`: a script that asks for them does so below ``if __name__ == "__main__":``.

    Parameters
    ----------
    jobs : int, optional
        Videos at a time, each in a process of its own. Default: on this machine one, which is worked on in this
        process, as it is with 1 and without a timeout; a decoder that crashes takes this process along. On a cluster as
        many as it has slots.
    timeout : float, optional
        Seconds after which the work on a video is given up.
    retries : int
        How often the work on a video that failed is tried again.
    backend : {"local", "dask", "ray"}
        Where the processes are: on this machine, or on the workers of a Dask or Ray cluster, which see the same files
        under the same names and have the same version of this package.
    scheduler : str, optional
        Address of the running cluster, such as ``tcp://10.0.0.1:8786`` of Dask or ``10.0.0.1:6379`` of Ray. Default:
        what these two do without an address, which is to start a cluster on this machine unless their own settings
        name one.
    shard : (int, int) or str, optional
        ``(k, n)`` or ``"k/n"``: of the videos only the k-th of every n, k from 1. The n runs together do all.

    Raises
    ------
    ParameterError
        A value is not one of these.
    """

    jobs: int | None = None
    timeout: float | None = None
    retries: int = 0
    backend: Backend = "local"
    scheduler: str | None = None
    shard: tuple[int, int] | str | None = None

    def __post_init__(self) -> None:
        checked_integer("jobs", 1 if self.jobs is None else self.jobs)
        checked_integer("retries", self.retries, 0)
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise ParameterError(f"timeout is {self.timeout!r}: it must be a number of seconds above 0.")
        if self.backend not in _BACKENDS:
            raise ParameterError(f"backend is {self.backend!r}: it must be one of "
                                 f"{allowed_text(self.backend, _BACKENDS)}")
        if self.scheduler is not None and self.backend == "local":
            raise ParameterError(f"scheduler is {self.scheduler}, but the backend is local: give the backend, dask or "
                                 "ray, too.")
        object.__setattr__(self, "shard", _shard(self.shard))

    @property
    def apart(self) -> bool:
        """Whether the work is done in processes of its own."""
        return self.backend != "local" or (self.jobs or 1) > 1 or self.timeout is not None

    def part(self, jobs: Sequence[T]) -> Sequence[T]:
        """Return those of the jobs that are in the shard."""
        if self.shard is None or isinstance(self.shard, str):
            return jobs
        return jobs[self.shard[0] - 1::self.shard[1]]


def _shard(given: tuple[int, int] | str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    numbers: Any = given
    if isinstance(given, str):
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", given)
        numbers = tuple(map(int, found.groups())) if found else ()
    if len(numbers) != 2 or not all(type(n) is int for n in numbers) or not 1 <= numbers[0] <= numbers[1]:
        raise ParameterError(f"shard is {given!r}: it must be K/N with K from 1 to N, such as 3/16.")
    return numbers[0], numbers[1]


@dataclass(frozen=True)
class Progress:
    """Where the work on a video stands.

    Attributes
    ----------
    job : Job
    number, videos : int
        It is the `number`-th (from 1) of so many videos.
    done : int
        Frames of this video that are processed, or pairs of frames whose flow is; 0 before the first.
    total : int or None
        Number of them that the video promises.
    trajectories : int or None
        Rows of this video so far; None of flow.
    share : float
        Of this video in the whole run, by the size of its file.
    """

    job: Job
    number: int
    videos: int
    done: int = 0
    total: int | None = None
    trajectories: int | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Ended:
    """A job that is done or failed.

    Attributes
    ----------
    number : int
    meta : dict or None
        What the work returned; None when it failed.
    error : Exception or None
    seconds : float
        Time that the work took.
    processed : int
        What `advance` was told last.
    logged : tuple of (int, str)
        Levels and texts of what was logged meanwhile in another process.
    """

    number: int
    meta: dict[str, Any] | None = None
    error: Exception | None = None
    seconds: float = 0.0
    processed: int = 0
    logged: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    job : Job
    state : {"done", "skipped", "failed"}
        Skipped: it was done before, or by another run.
    meta : dict or None
        Metadata of what was made when state is "done".
    error : Exception or None
        What went wrong when state is "failed".
    seconds : float
        Time that the work took.
    processed : int
        Frames (pairs, trajectories) that were processed.
    number : int
        It was the `number`-th job (from 1).
    share : float
        Of the whole run, by the size of the file.
    bytes : int
        Size of what was made.
    """

    job: Job
    state: Literal["done", "skipped", "failed"]
    meta: dict[str, Any] | None = None
    error: Exception | None = None
    seconds: float = 0.0
    processed: int = 0
    number: int = 0
    share: float = 0.0
    bytes: int = 0

    @property
    def reason(self) -> str | None:
        """One sentence about `error`."""
        if self.error is None:
            return None
        if isinstance(self.error, IdtError):
            return str(self.error)
        if isinstance(self.error, MemoryError):
            return f"{self.job.source}: there is not enough memory; smaller frames (short_side) need less."
        return f"{self.job.source}: unexpected {type(self.error).__name__}: {self.error}"

    @property
    def frames(self) -> int | None:
        """Frames that were decoded, None when that is not known."""
        frames: int | None = ((self.meta or {}).get("video") or {}).get("decoded_frames")
        return frames

    @property
    def rows(self) -> int | None:
        """Trajectories that were found or encoded, None when there are no such things."""
        rows: int | None = (self.meta or {}).get("rows")
        return rows


@dataclass(frozen=True)
class Summary:
    """What became of all jobs.

    It keeps nothing of the single videos that are done, so that it does not grow with their number; `report` gets the
    outcome of each.

    Attributes
    ----------
    done, skipped : int
        Videos that were done, and that had been done before or by another run meanwhile.
    failed : tuple of Outcome
        In the order of the jobs.
    frames, rows, bytes : int
        Decoded frames, trajectories and size of the files, of what was done.
    seconds : float
        Time of the run.
    """

    done: int = 0
    skipped: int = 0
    failed: tuple[Outcome, ...] = ()
    frames: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Executor(Protocol):
    """Context manager that does the jobs which it is given, and may do several at a time."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """End; after an error at once, without waiting for what is being done."""

    @property
    def free(self) -> bool:
        """Whether it should be given another job."""

    @property
    def busy(self) -> bool:
        """Whether a job that it was given has not been told as ended."""

    def submit(self, number: int, job: Job) -> None:
        """Begin a job, now or as soon as it can be."""

    def finished(self, pause: float) -> list[Ended]:
        """Wait for jobs to end, not longer than `pause` seconds, and return those that have."""
