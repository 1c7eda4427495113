"""idt.batch.estimate: what a run will take, by the headers and from a probe; its table."""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import write_clip

import idt.batch.estimate
import idt.flow.devices
from idt.batch import extract_videos, fit_codebook
from idt.batch.estimate import ExtractionEstimate, FlowEstimate, estimate_extraction, estimate_flow
from idt.cli import main
from idt.cli.estimates import table
from idt.errors import FormatError, ParameterError, VideoError
from idt.features.record import Features
from idt.params import Params
from idt.recognition.vectors import EncodingParams
from synthetic import moving_square, pan

QUICK = Params(length=5, camera=False)


@pytest.fixture
def clip(tmp_path, monkeypatch, one_core):
    """A video of 12 frames in the working folder, which a probe reads whole."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(idt.batch.estimate, "_PROBE_FRAMES", 12)
    return write_clip(Path("a.avi"), moving_square((3.0, 1.0), frames=12).frames)


@pytest.mark.parametrize("mode", ["features", "text", "encode", "keep"])
def test_a_video_that_is_probed_whole_gives_what_its_extraction_gives(clip, monkeypatch, mode):
    params = QUICK
    if mode == "features":
        params = dataclasses.replace(QUICK, short_side=64, step=2)
        monkeypatch.setattr(idt.batch.estimate, "_PROBE_FRAMES", 1)
        monkeypatch.setattr(idt.batch.estimate, "_PROBE_SECONDS", 0.0)
    extract_videos(clip, "whole", params)
    rows = len(Features.load("whole/a.avi.npz"))
    assert rows > 30
    if mode == "encode":
        fit_codebook("whole", "x.codebook.npz", EncodingParams(channels=("hog",), words=2, samples=100))
    options = {"features": {}, "text": {"text": True}, "encode": {"encode": "x.codebook.npz"},
               "keep": {"keep": 20}}[mode]
    before = sorted(Path().rglob("*"))
    found = estimate_extraction(clip, "out", params, **options)
    assert sorted(Path().rglob("*")) == before
    extract_videos(clip, "out", params, **options)
    (made,) = Path("out").glob("a.avi.*")
    assert (found.videos, found.unreadable, found.frames) == (1, 0, 6 if mode == "features" else 12)
    assert found.probed == found.frames
    assert found.rows == pytest.approx(20 if mode == "keep" else rows)
    assert found.size == pytest.approx(max(made.stat().st_size + 2048, 4096), abs=50)
    assert 0 < found.seconds < 60


def test_time_and_rows_grow_with_frames_and_pixels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("none").mkdir()
    Path("bad.avi").write_bytes(b"no video")
    for name, frames, height in (("a", 100, 48), ("b", 40, 96), ("c", 6, 48), ("d", 5, 48)):
        write_clip(Path(f"{name}.avi"), pan((0, 0), frames=frames, height=height, width=64).frames)
    asked = []

    def probe(job, *, work, params):
        asked.append(job.source)
        if job.source == "c.avi":
            raise VideoError("c.avi: damaged.")
        pixels = 64 * (48 if job.source == "a.avi" else 96)
        n = 30 if job.source == "a.avi" else 20
        made = idt.batch.estimate._Run
        return (made(1, 1.0, 5000, 0),
                made(n, 1.0 + (n - 1) * pixels / 1000, 5000 + 7 * (n - 5) * pixels, (n - 5) * pixels))

    monkeypatch.setattr(idt.batch.estimate, "_probe_extraction", probe)
    Path("e.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((48, 64), np.uint8))[1])
    inputs = ["a.avi", "b.avi", "c.avi", "d.avi", "bad.avi", "gone.avi", "none", "a.avi/*", "e.jpg"]
    found = estimate_extraction(inputs, "out", QUICK)
    assert asked == ["a.avi", "b.avi", "c.avi"]  # d is too short for trajectories
    assert (found.videos, found.unreadable, found.frames, found.probed) == (9, 5, 151, 50)
    seconds = [1 + frames * 64 * height / 1000 for frames, height in ((100, 48), (40, 96), (6, 48), (5, 48))]
    rows = [95 * 64 * 48, 35 * 64 * 96, 1 * 64 * 48, 0]
    assert found.rows == pytest.approx(sum(rows))
    assert found.seconds == pytest.approx(sum(seconds))
    assert found.size == pytest.approx(sum(5000 + 7 * number + 2048 for number in rows))
    kept = estimate_extraction(inputs, "out", QUICK, keep=10_000, jobs=2)
    assert kept.rows == pytest.approx(10_000 + 10_000 + 3072)
    assert kept.seconds == pytest.approx(max(sum(seconds) / 2, seconds[0]))
    assert estimate_extraction(inputs, "out", QUICK, jobs=100).seconds == pytest.approx(max(seconds))


def test_nothing_to_be_extracted(clip):
    Path("bad.avi").write_bytes(b"no video")
    found = estimate_extraction("bad.avi", "out")
    assert found == ExtractionEstimate(videos=1, unreadable=1, frames=0, seconds=0, size=0, probed=0, rows=0)
    late = estimate_extraction(clip, "out", dataclasses.replace(QUICK, start=50))
    assert (late.videos, late.unreadable, late.frames, late.seconds, late.size) == (1, 0, 0, 0, 0)


def test_what_can_be_opened_but_not_be_processed(clip, monkeypatch):
    def probe(job, **options):
        raise VideoError(f"{job.source}: damaged.")

    monkeypatch.setattr(idt.batch.estimate, "_probe_extraction", probe)
    found = estimate_extraction(clip, "out", QUICK)
    assert (found.frames, found.probed) == (12, 0)
    assert all(map(math.isnan, (found.seconds, found.size, found.rows)))


def test_no_further_video_is_probed_after_enough_time(clip, monkeypatch):
    shutil.copy(clip, "b.avi")
    assert estimate_extraction(["a.avi", "b.avi"], "out", QUICK).probed == 24
    monkeypatch.setattr(idt.batch.estimate, "_ENOUGH", 0.0)
    assert estimate_extraction(["a.avi", "b.avi"], "out", QUICK).probed == 12


def test_arguments_are_those_of_an_extraction(clip):
    for options, error, message in (
            ({"text": True, "keep": 3}, ParameterError, r"^text and keep are given, but are different outputs"),
            ({"keep": 0}, ParameterError, r"^keep is 0: it must be an integer from 1\.$"),
            ({"encode": "no.npz"}, FormatError, r"^no\.npz"),
            ({"boxes": "no.txt"}, FormatError, r"^no\.txt"),
            ({"jobs": 0}, ParameterError, r"^jobs is 0: it must be an integer from 1\.$")):
        with pytest.raises(error, match=message):
            estimate_extraction(clip, "out", Params(length=5), **options)
    with pytest.raises(ParameterError, match=r"^jobs is 0"):
        estimate_flow(clip, "out", jobs=0)


def test_several_flows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, frames in (("a", 10), ("b", 4), ("c", 4)):
        write_clip(Path(f"{name}.avi"), pan((0, 0), frames=frames, height=48, width=64).frames)
    monkeypatch.setattr(idt.batch.estimate, "_probe_flow", lambda job, **options: (2, 1.0, 100))
    inputs = ["a.avi", "b.avi", "c.avi"]
    assert [estimate_flow(inputs, "out", jobs=jobs).seconds for jobs in (1, 2, 3)] == pytest.approx([7.5, 4.5, 4.5])

    used = []

    def probe(job, *, device, **options):
        used.append(device)
        return 2, 1.0, 100

    monkeypatch.setattr(idt.batch.estimate, "_probe_flow", probe)
    monkeypatch.setattr(idt.flow.devices, "_count", lambda: 4)
    monkeypatch.setattr(idt.flow.devices, "_check", lambda number: None)
    monkeypatch.setattr(idt.flow.devices, "_sharing", 1)
    assert [estimate_flow(inputs, "out", device=device, jobs=jobs).seconds for device, jobs in (
        ("cuda", 2), ("cuda:1,2", 1), ("cuda:1,2", 3))] == pytest.approx([7.5, 7.5, 4.5])
    assert used == ["cuda:0"] * 3 + ["cuda:1,2"] * 3 + ["cuda:1"] * 3


def test_the_table():
    found = ExtractionEstimate(videos=13_320, unreadable=2, frames=2_480_000, seconds=98_000, size=3.02e11, probed=410,
                               rows=2.4e8)
    assert table(found, jobs=8, threads=1).splitlines() == [
        "videos  13,320, 2 of them cannot be read", "frames  2,480,000 by their headers", "rows    240,000,000",
        "time    27.2 h on this machine (cpu, 8 processes of 1 thread), 25.3 frames/s", "disk    302 GB",
        "Rows, time and disk are estimates from 410 frames; nothing was written."]
    nothing = FlowEstimate(videos=1, unreadable=0, frames=1, seconds=0, size=0, probed=0, pairs=0, files=1)
    assert table(nothing, jobs=1, threads=2, device="cuda").splitlines() == [
        "videos  1", "frames  1 by their headers", "pairs   0", "files   1",
        "Time and disk are estimates from 0 pairs; nothing was written."]
    for seconds, text in ((3, "3.0 s"), (100, "100 s"), (120, "2.0 min"), (7200, "2.0 h"), (172_800, "2.0 days")):
        assert f"time    {text} on" in table(dataclasses.replace(found, seconds=seconds), jobs=1, threads=1)


def test_the_command(clip, capsys):
    write_clip(Path("b.avi"), pan(frames=3).frames)
    for more in ([], ["--jobs", "2"], ["--keep", "5", "--shard", "1/1"]):
        assert main(["extract", "a.avi", "b.avi", "gone.avi", "-o", "out", "--length", "5", "--no-camera", "--estimate",
                     *more]) == 0
        out, err = capsys.readouterr()
        assert err in ("", "idt: compiling the kernels; this happens once and takes up to half a minute\n")
        lines = out.splitlines()
        assert lines[:2] == ["videos  3, 1 of them cannot be read", "frames  15 by their headers"]
        assert re.fullmatch(r"rows    5" if "--keep" in more else r"rows    \d\d+", lines[2])
        who = "2 processes of 1 thread" if "2" in more else "1 thread"
        assert re.fullmatch(rf"time    [0-9.]+ s on this machine \(cpu, {who}\), [0-9.e+]+ frames/s", lines[3])
        assert re.fullmatch(r"disk    [0-9.]+ KB", lines[4])
        assert lines[5:] == ["Rows, time and disk are estimates from 12 frames; nothing was written."]
    assert not Path("out").exists()
    assert main(["extract", "a.avi", "-o", "-", "--estimate"]) == 2
    assert "only the --text rows of one video can go to stdout" in capsys.readouterr().err
    assert main(["extract", "a.avi", "-o", "-", "--text", "--estimate"]) == 0
    assert capsys.readouterr().out.startswith("videos  1\n")


def test_the_flags_that_say_how_many_videos_are_worked_on(clip, monkeypatch, capsys):
    given = []

    def stub(inputs, output, params, **options):
        given.append(([found.source for found in inputs], options["jobs"], options["threads"]))
        return ExtractionEstimate(videos=1, unreadable=0, frames=1, seconds=0, size=0, probed=0, rows=0)

    monkeypatch.setattr(idt.batch.estimate, "estimate_extraction", stub)
    names = ["a.avi", "b.avi", "c.avi", "d.avi"]
    assert main(["extract", *names, "-o", "out", "--estimate", "--jobs", "3", "--threads", "2"]) == 0
    assert main(["extract", *names, "-o", "out", "--estimate", "--shard", "2/2"]) == 0
    assert given == [(names, 3, 2), (["b.avi", "d.avi"], 1, 1)]
