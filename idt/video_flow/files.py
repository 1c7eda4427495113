"""The flow of a video as files, those that two-stream networks are trained on among them.

Decoding, solving and encoding overlap when there are several threads; the files are the same whatever their number.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import logging
import os
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from idt import __version__, flow
from idt._util.checks import checked_integer
from idt._util.files import replacing, replacing_folder
from idt._util.hashing import json_digest
from idt._util.npz import is_sound
from idt._util.threads import OneOpenCVThread, end_of
from idt.errors import FormatError, IdtError, OutputError, ParameterError
from idt.flow import files
from idt.flow.colours import flow_colours
from idt.runner.jobs import Job
from idt.video import Frame, FrameReader, Source, content, frames, frames_were, identity, span_length
from idt.video_flow.pairs import Pair, Run, difference, opened
from idt.video_flow.params import ARRAY_FORMATS, FlowParams, pairs_of

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
FilePath = str | os.PathLike[str]

ALGORITHM = 1
"""Version of the method: raised when the same video and parameters come to give other numbers."""

FULL_COLOUR = 1 / 48
"""Part of the shorter side that is the motion with the full colour; fixed, so that pictures do not flicker."""

_FILE = re.compile(rf"meta\.json|({'|'.join((*files.FLOWS.values(), *files.PICTURES.values()))})(_[xy])?_[0-9]+"
                   r"\.(jpg|png|flo)")

_log = logging.getLogger("idt")


def write_flow(source: Source, path: FilePath, params: FlowParams | None = None, *, device: str = "cpu",
               threads: int = 1, progress: Callable[[int, int | None], None] | None = None) -> dict[str, Any]:
    """Write the flow of a video to files and return their meta; `idt.flow.files.open_flows` reads them.

    Parameters
    ----------
    source, device
        As for `video_flow`.
    path : path
        The folder (formats jpg, png, kitti, flo) or file (npz, h5). It appears whole or not at all. What an earlier
        call wrote there is replaced when the new is complete; any other folder is left alone.
    params : FlowParams, optional
    threads : int
        Threads that solve, and as many that encode; 1 does everything one after the other. The files are the same.
    progress : callable, optional
        Called after each pair with the number of pairs done and the number that the video promises, or None.

    Returns
    -------
    dict
        What ``meta.json`` in the folder, or ``meta`` in the file, holds; ``docs/command-line.md`` lists it.

    Raises
    ------
    VideoError, ParameterError, DeviceError
        As for `video_flow`.
    OutputError
        The files cannot be written, or their number is not what the frames of the video give.
    """
    params = params or FlowParams()
    threads = checked_integer("threads", threads)
    who = identity(source)
    with OneOpenCVThread(), opened(source, params, threads) as reader:
        first = next(reader, None)  # a video that cannot be read makes no folder
        size = _size(source, params) if first is None else first.grey.shape
        run = Run(params, device, threads, keep_images=params.rgb)
        items = itertools.chain(() if first is None else (first,), reader)
        with (replacing(path) if params.format in ARRAY_FORMATS else replacing_folder(path, made_here)) as place:
            where = place if isinstance(place, Path) else place.name
            with files.open_writer(where, format=params.format, height=size[0], width=size[1], bound=params.bound,
                                   quality=params.quality, naming=params.naming) as writer:
                counts = _add_all(run, items, reader, writer, threads, progress)
                meta = _meta(run, reader, who)
                if counts != (expected := _expected(params, meta["frames"])):
                    raise OutputError(f"{os.fspath(path)} was not written: {meta['frames']} frames must give "
                                      f"{expected}, but {counts} came out; please report this.")
                writer.close(meta)
            if isinstance(place, Path):
                files.open_flows(place).close()  # which counts the files
    with files.open_flows(path) as flows:
        meta = flows.meta
    if reader.damaged:
        count = frames_were(reader.damaged, "damaged ")
        _log.warning("%s: %s concealed or skipped by the decoder.", who["name"], count)
    return meta


def read_meta(path: FilePath) -> dict[str, Any] | None:
    """Return the meta of the flow of a video that `write_flow` wrote, or None when it is missing or incomplete."""
    try:
        with files.open_flows(path) as flows:  # which counts the files of a folder
            meta = flows.meta
        # A power failure may leave empty files, whose names come to disk before their content.
        whole = not Path(path).is_dir() or all(file.stat().st_size for file in Path(path).iterdir())
    except (IdtError, OSError):
        return None
    return meta if whole else None


def made_here(folder: Path) -> bool:
    """Tell whether all that lies in a folder is of `write_flow`, complete or not."""
    try:
        meta = (folder / "meta.json").read_bytes().strip(b"\0")  # nothing is left of it after a power failure, perhaps
        return (not meta or json.loads(meta)["kind"] == "flow") and all(map(_FILE.fullmatch, os.listdir(folder)))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def flow_key(video: str, params: FlowParams) -> str:
    """Return what identifies the flow of a video whose content has the SHA-256 `video`: the same key, the same files.

    The device does not count: flow from a GPU is as good as flow from a processor.
    """
    return json_digest({"video": video, "params": params.fingerprint(), "inputs": {}, "algorithm": ALGORITHM,
                        "format": files.FORMAT})


def is_done(job: Job, params: FlowParams, *, verify: bool = False) -> bool:
    """Tell whether the flow of a video is there, of which no file may be missing, and was made in the same way.

    The video is the same when size and time stamp are, or else when its content is; with `verify` only its content
    counts, and files are read whole. Of those without check sums, such as jpg, it finds what cannot be read. The device
    does not count.
    """
    meta = read_meta(job.output)
    if meta is None or meta.get("key") != flow_key(content(job.source, meta, verify=verify), params):
        return False
    return not verify or (is_sound(job.output) if params.format == "npz" else _is_readable(job.output))


def _is_readable(path: Path) -> bool:
    """Tell whether each array of the flow of a video can be read."""
    try:
        with files.open_flows(path) as flows:
            for kind, count in flows.counts.items():
                for number in range(count):
                    flows.get(kind, number)
    except FormatError:
        return False
    return True


def check_usable(params: FlowParams, device: str) -> None:
    """Raise `DeviceError` or `ParameterError` when flow cannot be solved so on that device, or not be stored."""
    deque(flow.pairs((), method=params.method, device=device, params=params.solver), maxlen=0)
    if params.format == "h5" and importlib.util.find_spec("h5py") is None:
        raise ParameterError("format is h5, which needs h5py, but that is not installed: pip install densetraj[h5].")


def files_of(count: int, params: FlowParams) -> int:
    """Return how many files are written of a video of which so many frames are processed."""
    if params.format in ARRAY_FORMATS:
        return 1
    planes = 2 if params.format in ("jpg", "png") else 1
    return 1 + sum(number * (planes if kind in files.FLOWS else 1) for kind, number in _expected(params, count).items())


def _expected(params: FlowParams, count: int) -> dict[str, int]:
    """Return the number of arrays of each kind that so many processed frames give."""
    pairs = pairs_of(count, params)
    stacks = 0 if params.stack is None else max((count - params.step - params.stack) // params.every + 1, 0)
    expected = dict.fromkeys(params.kinds, pairs if params.stack is None else stacks)
    expected |= {"image": -(-count // params.every) if params.rgb else 0,
                 "difference": pairs if params.difference else 0, "colours": pairs if params.colours else 0}
    return {kind: number for kind, number in expected.items() if number}


def _size(source: Source, params: FlowParams) -> tuple[int, int]:
    """Return height and width of the frames of a video that ends before the first that is to be processed."""
    with frames(source, end=0, short_side=params.short_side) as reader:
        height, width = next(reader).grey.shape
    return height, width


class _Adder:
    """Hands arrays to a writer: in threads when there are several, as many as the format bears."""

    def __init__(self, writer: files.Writer, params: FlowParams, threads: int) -> None:
        self.counts: Counter[str] = Counter()
        self._writer = writer
        workers = 0 if threads == 1 else 1 if params.format in ARRAY_FORMATS else threads
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="idt") if workers else None
        self._room = threading.Semaphore(4 * workers)
        self._error: Exception | None = None

    def add(self, kind: str, number: int, make: Callable[[], Array]) -> None:
        """Write what `make` makes, before long; an error may come with a later call."""
        if self._error is not None:
            raise self._error
        self.counts[kind] += 1
        if self._pool is None:
            self._writer.add(kind, number, make())
        else:
            self._room.acquire()
            self._pool.submit(self._work, kind, number, make)

    def _work(self, kind: str, number: int, make: Callable[[], Array]) -> None:
        try:
            if self._error is None:
                self._writer.add(kind, number, make())
        except Exception as error:
            self._error = error
        finally:
            self._room.release()

    def finish(self) -> None:
        """Wait until everything is written."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let the threads end, whatever is left to write."""
        if self._pool is not None:
            end_of(self._pool)


def _add_all(run: Run, items: Iterator[Frame], reader: FrameReader, writer: files.Writer, threads: int,
             progress: Callable[[int, int | None], None] | None) -> dict[str, int]:
    """Write all arrays of a video and return how many there were of each kind."""
    p = run.params
    with contextlib.closing(_Adder(writer, p, threads)) as adder:
        windows: dict[str, deque[FloatArray]] = {kind: deque(maxlen=p.stack) for kind in p.kinds}
        with contextlib.closing(run.pairs(items)) as pairs:
            for pair in pairs:
                # In this order, whatever the threads, which decides the bytes of an .h5.
                while run.images and run.images[0][1].index <= pair.second.index:
                    number, frame = run.images.popleft()
                    adder.add("image", number, partial(_bgr, frame))
                solved = [f for f in (pair.flow, pair.backward) if f is not None]
                for kind, one in zip(p.kinds, solved, strict=True):
                    if p.stack is None:
                        adder.add(kind, pair.number, partial(_itself, one))
                        continue
                    window = windows[kind]
                    window.append(one)
                    begin = pair.first.index - p.start + 1 - p.stack  # which pair the stack that is full begins with
                    if len(window) == p.stack and begin % p.every == 0:
                        adder.add(kind, begin // p.every, partial(np.concatenate, tuple(window), axis=2))
                if p.difference:
                    adder.add("difference", pair.number, partial(_difference, pair))
                if p.colours:
                    adder.add("colours", pair.number, partial(_colours, solved[0]))
                if progress is not None:
                    progress(pair.number + 1, _promised(reader, p))
        for number, frame in run.images:
            adder.add("image", number, partial(_bgr, frame))
        adder.finish()
        return dict(adder.counts)


def _itself(array: Array) -> Array:
    return array


def _bgr(frame: Frame) -> Array:
    assert frame.bgr is not None
    return frame.bgr


def _colours(flow: FloatArray) -> Array:
    return flow_colours(flow, largest=min(flow.shape[:2]) * FULL_COLOUR)


def _difference(pair: Pair) -> Array:
    return difference(_bgr(pair.first), _bgr(pair.second))


def _promised(reader: FrameReader, params: FlowParams) -> int | None:
    """Return how many pairs there will be if the container tells the truth, or None when it tells nothing."""
    if reader.total is None:
        return None
    return pairs_of(span_length(reader.total, params.start, params.end), params)


def _meta(run: Run, reader: FrameReader, who: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about the flow of a video that the writer does not know."""
    p = run.params
    count = span_length(reader.decoded, p.start, p.end)  # from what was decoded, not from what was solved
    reason = None
    if not count:
        reason = f"too short: start is {p.start}, but the video has {reader.decoded} frames"
    elif count <= p.step:
        reason = f"too short: {frames_were(count)} processed, a pair needs {p.step + 1}"
    elif p.stack is not None and count - p.step < p.stack:
        reason = (f"too short: {frames_were(count)} processed, a stack of {p.stack} flows needs "
                  f"{p.step + p.stack}")
    return {"algorithm": ALGORITHM, "package": __version__, "params": p.to_dict(), "key": flow_key(who["sha256"], p),
            "video": {**who, "fps": reader.fps, "decoded_frames": reader.decoded, "damaged_frames": reader.damaged},
            "frames": count, "pairs": pairs_of(count, p), "stabilised": run.stabilised if p.warped else None,
            "reason": reason}
