"""Very many videos: all are done once, the memory of the program does not grow, a second run only looks."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip

from idt.batch import extract_videos
from idt.features.record import Features
from idt.runner.jobs import Outcome, Workers
from idt.runner.log import read_status
from synthetic import pan

VIDEOS = 1000


def resident() -> float:
    """Memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_a_thousand_videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = write_clip(Path("clip.avi"), pan(frames=4, height=32, width=48).frames).read_bytes()
    os.mkdir("videos")
    for number in range(VIDEOS):
        Path(f"videos/{number:04}.avi").write_bytes(clip)
    Path("videos/0500.avi").write_bytes(b"no video")
    memory: list[float] = []

    def report(outcome: Outcome) -> None:
        memory.append(resident())

    summary = extract_videos("videos", "out", workers=Workers(jobs=2), report=report)
    assert (summary.done, summary.skipped, len(summary.failed)) == (VIDEOS - 1, 0, 1)
    assert summary.frames == 4 * (VIDEOS - 1)
    assert summary.bytes == sum(path.stat().st_size for path in Path("out").glob("*.npz"))
    assert memory[-1] - memory[VIDEOS // 4] < 5
    status = read_status("out")
    assert len(status.videos) == VIDEOS
    assert (status.runs[0].ended["done"], status.runs[0].ended["failed"]) == (VIDEOS - 1, 1)
    lines = [json.loads(line) for line in Path("out/report.jsonl").read_text().splitlines()]
    assert len({line["output"] for line in lines if "output" in line}) == len(lines) - 2 == VIDEOS
    first, last = Features.load("out/0000.avi.npz"), Features.load("out/0999.avi.npz")
    assert first.homographies.shape == (4, 3, 3)
    np.testing.assert_array_equal(first.homographies, last.homographies)
    assert last.meta["reason"].startswith("too short: 4 frames were processed")

    memory.clear()
    again = extract_videos("videos", "out", workers=Workers(jobs=2), report=report)
    assert (again.done, again.skipped, len(again.failed)) == (0, VIDEOS - 1, 1)
    assert memory[-1] - memory[VIDEOS // 4] < 5
