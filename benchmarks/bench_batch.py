"""What the runner costs over very many videos: time a video, memory of the parent, a second run that finds all done.

Run: python benchmarks/bench_batch.py [--videos 20000] [--jobs 2]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from idt.batch import extract_videos
from idt.runner.jobs import Outcome, Workers

CLIPS = 50  # that differ; the others are copies under names of their own


def write_clips(folder: Path, videos: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(min(CLIPS, videos)):
        texture = cv2.GaussianBlur(rng.integers(0, 256, (80, 100), np.uint8), (5, 5), 1.5)
        path = folder / f"{number:05}.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
        for t in range(20):
            writer.write(cv2.cvtColor(texture[t:t + 48, t:t + 64], cv2.COLOR_GRAY2BGR))
        writer.release()
    for number in range(CLIPS, videos):
        (folder / f"{number:05}.avi").write_bytes((folder / f"{number % CLIPS:05}.avi").read_bytes())


def resident() -> float:
    """Memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def measure(folder: Path, output: Path, workers: Workers, videos: int) -> None:
    work, memory = 0.0, {}
    ended = 0

    def report(outcome: Outcome) -> None:
        nonlocal work, ended
        work += outcome.seconds
        ended += 1
        if ended in (videos // 20, videos // 4, videos // 2, videos):
            memory[ended] = resident()

    for name in ("first run", "second run"):
        work, ended = 0.0, 0
        memory.clear()
        began, cpu = time.perf_counter(), time.process_time()
        summary = extract_videos(folder, output, workers=workers, report=report)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        # What is left when the processes' own work is taken out of the time: their idle time, and what this one cost.
        left = (wall - work / (workers.jobs or 1)) / videos * 1000
        print(f"| {name} | {summary.done} | {summary.skipped} | {wall:.1f} | {work:.1f} | {left:.2f} | "
              f"{cpu / videos * 1000:.2f} | {', '.join(f'{mb:.0f}' for mb in memory.values())} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=20000)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, output = Path(scratch, "videos"), Path(scratch, "features")
        folder.mkdir()
        write_clips(folder, given.videos)
        extract_videos(folder / "00000.avi", Path(scratch, "warm"))  # compiled, and imported here
        print(f"{given.videos} clips of 20 frames of 64x48, {given.jobs} processes\n")
        print("| | done | skipped | wall s | work s | runner ms a video | CPU of the parent, ms a video | "
              "MB of the parent after 1/20, 1/4, 1/2, all |\n|---|---|---|---|---|---|---|---|")
        measure(folder, output, Workers(jobs=given.jobs), given.videos)


if __name__ == "__main__":
    main()
