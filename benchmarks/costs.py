"""What well-known datasets cost, in hours of one core and in space, from what the clips of the test data cost.

Extraction, flow and vectors from three clips of 320x240; learning and encoding, as idt evaluate and idt compare do it
in each split, from the Weizmann clips.

Run: python benchmarks/costs.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from common import data, described, machine

from idt.batch import extract_videos, fit_codebook, flow_videos
from idt.encoding.bags import one_thread
from idt.encoding.model import Codebook
from idt.params import Params
from idt.recognition.classifier import encode_all
from idt.recognition.clip_features import features_of
from idt.recognition.codebook_learning import Learner
from idt.recognition.datasets import read_dataset
from idt.recognition.vectors import EncodingParams
from idt.runner.jobs import Summary
from idt.video_flow.params import FlowParams

CLIPS = ("bikes_320x240_80.avi", "v_Bowling_g01_c01.avi",
         "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi")  # all of 320x240
PIXELS = 320 * 240
# Clips, frames and pixels of a frame: as published where that tells, see docs/many-videos.md.
DATASETS = {"UCF101": (13_320, 2_400_000, 320 * 240), "HMDB51": (6_766, 640_000, 360 * 240),
            "Kinetics-400": (306_245, 92_000_000, 340 * 256)}
ROUNDS = 3
CHANNEL = "mbhx"
ENCODINGS = {"Fisher vectors, K = 256": EncodingParams(), "VLAD, K = 256": EncodingParams(encoder="vlad"),
             "bags of words, K = 4000": EncodingParams(encoder="bow", words=4000, pca=1.0, norm="l1")}


def modes(folder: Path) -> dict[str, tuple[str, Callable[..., Summary], bool]]:
    """Return how each mode is called, what does it, and whether its space goes with the clips, not the frames."""
    clips = [data("clips") / name for name in CLIPS]
    extract_videos(clips, folder / "sample", keep=10_000)
    book = folder / "x.codebook.npz"
    fit_codebook(folder / "sample", book, EncodingParams(words=256, samples=30_000))
    run: Any = partial(extract_videos, clips)
    flow: Any = partial(flow_videos, clips)
    return {
        "features": ("idt extract", run, False),
        "dense": ("idt extract --no-camera", partial(run, params=Params(camera=False)), False),
        "text": ("idt extract --text", partial(run, text=True), False),
        "sample": ("idt extract --keep 1000", partial(run, keep=1000), True),
        "vectors": ("idt extract --encode", partial(run, encode=book), True),
        "DIS": ("idt flow --method dis", partial(flow, params=FlowParams(method="dis")), False),
        "Farnebäck": ("idt flow --method farneback", partial(flow, params=FlowParams(method="farneback")), False),
        "TV-L1": ("idt flow", flow, False)}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder, rows = Path(scratch), 0.0
        measured = {}
        for name, (called, function, by_clips) in modes(folder).items():
            taken = []
            for _ in range(ROUNDS + 1):  # the first compiles
                began = time.process_time()  # of all threads of this process: other work on the machine matters little
                made = function(output=folder / name, force=True)
                taken.append(time.process_time() - began)
            assert made.done == len(CLIPS)
            measured[name] = (called, made.frames / median(taken[1:]),
                              made.bytes / (made.done if by_clips else made.frames), by_clips)
            rows = made.rows / made.frames if name == "features" else rows
        learnt = {name: learning(folder, params) for name, params in ENCODINGS.items()}
    print(f"{described(machine())}\n\n| | frames/s of a core | size |\n|---|---|---|")
    for called, speed, size, by_clips in measured.values():
        print(f"| `{called}` | {speed:.1f} | {size / 1000:.1f} KB a {'clip' if by_clips else 'frame'} |")
    names = " | ".join(f"{name}: hours of a core | GB" for name in DATASETS)
    print(f"\n| | {names} |\n|---{'|---|---' * len(DATASETS)}|")
    for called, speed, size, by_clips in measured.values():
        cells = []
        for clips, frames, pixels in DATASETS.values():
            hours = frames * pixels / PIXELS / speed / 3600
            space = clips * size if by_clips else frames * pixels / PIXELS * size
            cells.append(f"{hours:,.0f} | {space / 1e9:,.{0 if space > 1e10 else 1}f}")
        print(f"| `{called}` | {' | '.join(cells)} |")
    names = " | ".join(f"{name}: encoding its clips, hours of a core" for name in DATASETS)
    print(f"\n| a split, all five channels | learning, hours of a core | µs a trajectory | {names} |\n"
          f"|---|---|---{'|---' * len(DATASETS)}|")
    for called, (hours, each) in learnt.items():
        cells = [f"{frames * pixels / PIXELS * rows * each / 3600:.1f}" for _, frames, pixels in DATASETS.values()]
        print(f"| {called} | {hours:.2f} | {1e6 * each:.1f} | {' | '.join(cells)} |")


def learning(folder: Path, params: EncodingParams) -> tuple[float, float]:
    """Return the hours of one core that learning a codebook takes, and the seconds for each trajectory encoded by it.

    They are five times those of MBHx. Learning is taken to grow with the descriptors that are drawn.
    """
    dataset = read_dataset(data("weizmann"))
    videos = features_of(dataset, folder / "weizmann")
    with one_thread():
        channel, seconds = Learner(videos).channel(CHANNEL, params)
    began = time.process_time()
    encode_all(videos, Codebook({CHANNEL: channel}))
    encoding = time.process_time() - began
    drawn, every = sum(min(len(video), -(-params.samples // len(videos))) for video in videos), sum(map(len, videos))
    channels = len(params.channels)
    return channels * seconds * params.samples / drawn / 3600, channels * encoding / every


if __name__ == "__main__":
    main()
