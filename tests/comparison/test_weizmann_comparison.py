"""idt compare on the Weizmann clips, from videos to the report; every figure of it computed anew from its scores.

The methods are such as take seconds. With IDT_COMPARISON=FOLDER the files in that folder are checked instead, those of
another comparison of these clips:

    idt compare ../shared/data/weizmann --preset weizmann -o FOLDER
    IDT_COMPARISON=FOLDER pytest tests/comparison/test_weizmann_comparison.py
"""

from __future__ import annotations

import csv
import os
from fractions import Fraction
from pathlib import Path

import browser as browsers
import numpy as np
import pytest
import recomputed

from idt.cli import main

pytestmark = pytest.mark.slow

ELSEWHERE = os.environ.get("IDT_COMPARISON")
EXTRACTION = "scales = 1\nstride = 12\nstep = 2\nlength = 10\ntemporal_cells = 2\nend = 40"
ENCODING = 'words = 4\nsamples = 4000\nchannels = ["hog", "mbhx"]'
METHODS = f"""
[[method]]
name = "DT"
camera = false
{EXTRACTION}
{ENCODING}

[[method]]
name = "iDT"
{EXTRACTION}
{ENCODING}

[[method]]
name = "scores"
scores = "scores.csv"

[[method]]
name = "features"
features = "features.npz"

[[method]]
name = "mean"
of = ["DT", "scores"]

[[method]]
name = "rank"
of = ["DT", "iDT", "scores"]
fusion = "rank"

[[method]]
name = "weighted"
of = ["iDT", "scores"]
fusion = "weighted"

[[method]]
name = "concatenation"
of = ["DT", "iDT", "features"]
fusion = "concatenation"
"""


def write_tables(clips, folder):
    """Write scores that are wrong of each sixth clip, and features by which all clips of one actor look like others."""
    classes = sorted({clip["label"] for clip in clips})
    with open(folder / "scores.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", *classes])
        for n, clip in enumerate(clips):
            taken = (classes.index(clip["label"]) + (n % 6 == 0)) % len(classes)
            table.writerow([clip["path"], *(2.0 if k == taken else 0.1 * ((n + k) % 7) for k in range(len(classes)))])
    names = np.array([clip["path"] for clip in clips])
    alike = [(classes.index(clip["label"]) + (clip["group"] == "lena")) % len(classes) for clip in clips]
    np.savez(folder / "features.npz", path=names, features=np.eye(len(classes), dtype=np.float32)[alike])


def compared(videos, clips, folder):
    """Compare the methods; return the folder of the results."""
    write_tables(clips, folder)
    (folder / "m.toml").write_text(METHODS)
    assert main(["compare", str(videos), "--methods", str(folder / "m.toml"), "-o", str(folder / "out"), "--reference",
                 "iDT", "--quiet"]) == 0
    return folder / "out"


@pytest.mark.usefixtures("one_core")
def test_every_figure_follows_from_the_scores(data, tmp_path):
    """One test, as several might be run in different processes, each of which would have to compare."""
    clips = recomputed.rows_of(data / "weizmann/labels.csv")
    folder = Path(ELSEWHERE) if ELSEWHERE else compared(data / "weizmann", clips, tmp_path)
    found = recomputed.read(folder, {clip["path"]: clip["group"] for clip in clips})
    assert {path: label for (path, *_), label in zip(found.first.clips, found.first.labels, strict=True)} == {
        clip["path"]: clip["label"] for clip in clips}
    assert len(found.first.clips) == 90
    recomputed.check(found)
    assert (folder / "report.html").stat().st_size <= 15_000_000
    if not ELSEWHERE:
        accuracies = {name: method.accuracy for name, method in found.methods.items()}
        assert (accuracies["scores"], accuracies["features"]) == (Fraction(75, 90), Fraction(80, 90))
        assert min(accuracies["DT"], accuracies["iDT"]) >= 0.8
    with browsers.opened(tmp_path / "profile") as browser:  # or it is skipped, when all else has been checked
        recomputed.check_page(found, browser)
