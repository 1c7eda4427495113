"""Damaged bytes: whatever a few wrong bytes do to a video, features come out or one `IdtError`, and never a hang.

The mutated files are read in a child process, since the decoder is C code that may crash: a crash is counted and said,
and the child is started again.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import av
import numpy as np
import pytest

import synthetic
from waiting import PATIENCE_S

MUTATIONS = 200  # in all
HANG_S = 60.0  # one mutation; the undamaged clip takes a few hundredths of a second
CRASHES = 3  # so many are the decoder's; there is no telling whose a crash is
MEMORY = 4 << 30  # bytes; a damaged header may promise pictures of any size

CONTAINERS = {"avi": "mpeg4", "mp4": "libx264"}


def serve(pipe: Connection) -> None:
    """Answer each path with what became of it: (kind, detail)."""
    import logging
    import resource
    import traceback

    import idt
    from idt.errors import IdtError

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    logging.getLogger("idt").addHandler(logging.NullHandler())
    while True:
        try:
            features = idt.extract(pipe.recv())
            assert len(features) == features.meta["rows"]
            assert features.meta["reason"] is None or not len(features)
            answer = ("features", f"{len(features)} rows")
        except EOFError:
            return
        except IdtError as error:
            answer = ("refused", str(error))
        except BaseException:
            answer = ("unforeseen", traceback.format_exc())
        pipe.send(answer)


class Child:
    """The process that reads the files; a new one is started when it has died or hung."""

    def __init__(self, whole: Path) -> None:
        self._whole = whole
        self._process: SpawnProcess | None = None

    def start(self) -> SpawnProcess:
        """Start the process and let it read the undamaged clip, which imports and perhaps compiles everything."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self._process = process
        kind, detail = self._ask(process, self._whole, limit_s=PATIENCE_S)
        assert kind == "features", detail
        assert detail != "0 rows"
        return process

    def _ask(self, process: SpawnProcess, path: Path, limit_s: float) -> tuple[str, str]:
        try:
            self._pipe.send(str(path))
            answer: tuple[str, str] = self._pipe.recv() if self._pipe.poll(limit_s) else ("hang", f"{limit_s} s")
        except (EOFError, ConnectionError):
            process.join()
            answer = ("crash", f"exit code {process.exitcode}")
        if answer[0] in ("hang", "crash"):
            self.stop()
        return answer

    def read(self, path: Path) -> tuple[str, str]:
        """Return what became of the file: features, refused, unforeseen, crash or hang, and a detail."""
        return self._ask(self._process or self.start(), path, HANG_S)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def write_clip(path: Path, codec: str) -> Path:
    """20 frames, 64x48, of a textured square that slides over a panning background."""
    clip = synthetic.moving_square((2.0, 1.0), camera=synthetic.translation(0.7, 0.3), height=48, width=64)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for grey in clip.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="gray")))
        container.mux(stream.encode())
    return path


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with 1 to 64 bytes replaced; half of the time within one short stretch."""
    out = np.frombuffer(content, np.uint8).copy()
    count = int(2 ** rng.uniform(0, 6))
    low, high = 0, len(out)
    if rng.random() < 0.5:
        low = int(rng.integers(len(out)))
        high = min(low + 256, len(out))
    out[rng.integers(low, high, count)] = rng.integers(0, 256, count, np.uint8)
    return out.tobytes()


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_wrong_bytes_give_features_or_one_error(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str],
                                                record_testsuite_property: Callable[[str, object], None]) -> None:
    clip = write_clip(tmp_path / f"whole.{suffix}", CONTAINERS[suffix])
    content, path = clip.read_bytes(), tmp_path / f"mutated.{suffix}"
    outcomes: Counter[str] = Counter()
    bad: list[str] = []
    child = Child(clip)
    child.start()
    try:
        for seed in range(MUTATIONS // len(CONTAINERS)):
            path.write_bytes(mutated(content, np.random.default_rng([seed, *suffix.encode()])))
            kind, detail = child.read(path)
            outcomes[kind] += 1
            if kind not in ("features", "refused"):
                bad.append(f"seed {seed}: {kind}, {detail}")
    finally:
        child.stop()
    for kind, count in outcomes.items():
        record_testsuite_property(f"fuzz {suffix}: {kind}", count)
    with capsys.disabled():
        print(f"\nfuzz, {suffix}: {dict(outcomes)} {'; '.join(bad)}")
    assert outcomes["features"] > 10  # mutations that reach the decoder, not only the demuxer
    assert outcomes["crash"] <= CRASHES, bad
    assert outcomes["hang"] == outcomes["unforeseen"] == 0, bad
