"""idt.batch: what counts as done, failures; a stand-in does the extraction itself."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from outcomes import outcomes

import idt.batch
import idt.trajectories.cache
import idt.video_flow
from idt._util.files import replacing_folder
from idt._util.npz import check_replaceable
from idt.batch import extract_videos, flow_videos
from idt.batch.estimate import estimate_flow
from idt.errors import OutputError, ParameterError, VideoError
from idt.features.record import Features, FeatureWriter
from idt.params import Params
from idt.runner.inputs import work_list
from idt.runner.jobs import Job, Outcome, Progress
from idt.trajectories.cache import features_key, is_done
from idt.video import frames, identity
from idt.video_flow.params import FlowParams, flow_suffix
from synthetic import pan

# ---- done or not ----------------------------------------------------------------------------------------------------

def features_of(job: Job, params: Params) -> Features:
    """No rows, but the metadata that an extraction gives."""
    inputs = {what: None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
              for what, path in (("homographies", job.homographies), ("boxes", job.boxes))}
    video = identity(job.source)
    n = 0
    arrays = {name: np.zeros((n, *shape), dtype) for name, shape, dtype in (
        ("frame", (), "i4"), ("time", (), "f8"), ("mean", (2,), "f4"), ("std", (2,), "f4"), ("length", (), "f4"),
        ("scale", (), "f4"), ("position", (3,), "f4"), ("trajectory", (30,), "f4"), ("hog", (96,), "f2"),
        ("hof", (108,), "f2"), ("mbhx", (96,), "f2"), ("mbhy", (96,), "f2"))}
    return Features(**arrays, meta={
        "kind": "features", "format": 1, "params": params.to_dict(), "video": video, "inputs": inputs, "rows": n,
        "reason": "the video is still", "key": features_key(video["sha256"], params, inputs)})


@pytest.fixture
def job(tmp_path):
    """A job that is done."""
    video, boxes = tmp_path / "a.avi", tmp_path / "a.txt"
    video.write_bytes(b"first")
    boxes.write_text("0\n")
    done = Job(str(video), tmp_path / "a.avi.npz", boxes=boxes)
    features_of(done, Params()).save(done.output)
    assert is_done(done, Params())
    return done


def test_done_means_the_same_parameters(job):
    assert not is_done(job, Params(stride=6))


def test_done_means_the_same_side_inputs(job):
    assert not is_done(Job(job.source, job.output), Params())
    assert not is_done(Job(job.source, job.output, boxes=job.boxes, homographies=job.boxes), Params())
    job.boxes.write_text("0 1 1 5 5 1\n")
    assert not is_done(job, Params())


def test_a_new_time_stamp_alone_changes_nothing(job):
    os.utime(job.source, ns=(1, 1))
    assert is_done(job, Params())


def test_another_content_is_noticed_by_size_or_time(job):
    Path(job.source).write_bytes(b"longer than before")
    assert not is_done(job, Params())


def test_another_content_of_the_same_size_and_time_is_noticed_with_verify(job):
    stamp = Path(job.source).stat().st_mtime_ns
    Path(job.source).write_bytes(b"other")
    os.utime(job.source, ns=(stamp, stamp))
    assert is_done(job, Params())
    assert not is_done(job, Params(), verify=True)


def test_another_version_of_method_or_format_is_not_done(job, monkeypatch):
    monkeypatch.setattr(idt.trajectories.cache, "ALGORITHM", idt.trajectories.cache.ALGORITHM + 1)
    assert not is_done(job, Params())


@pytest.mark.parametrize("damage", [
    lambda path: path.unlink(),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:-100]),
    lambda path: np.savez(path, frame=np.zeros(3)),
], ids=["missing", "empty", "cut", "foreign"])
def test_a_file_that_does_not_open_is_not_done(job, damage):
    damage(job.output)
    assert not is_done(job, Params())


def test_features_saved_by_hand_are_not_done(job):
    whole = Features.load(job.output)
    Features(**whole.arrays(), meta={}).save(job.output)
    assert not is_done(job, Params())


def test_keys_differ_with_every_part():
    base = ("ab", Params(), {"boxes": None, "homographies": None})
    keys = {features_key(*base), features_key("cd", *base[1:]), features_key("ab", Params(stride=6), base[2]),
            features_key("ab", Params(), {"boxes": "ef", "homographies": None}),
            features_key("ab", Params(), {"boxes": None, "homographies": "ef"})}
    assert len(keys) == 5
    assert features_key(*base) == features_key("ab", Params(), {"homographies": None, "boxes": None})


# ---- extraction and flow ----------------------------------------------------------------------------------------

@pytest.fixture
def fake_extraction(monkeypatch):
    """A stand-in that decodes nothing; videos that hold "bad" fail half way."""
    calls = []

    def extract(job, progress, *, params, threads):
        calls.append(job.source)
        with FeatureWriter(job.output) as writer:
            features = features_of(job, params)
            writer.append(features)
            progress(3, 5, 7)
            if Path(job.source).read_bytes() == b"bad":
                raise VideoError(f"{job.source}: bad.")
        return features.meta

    monkeypatch.setattr(idt.batch.extraction, "extract_job", extract)
    return calls


def test_extract_videos_does_all_and_skips_what_is_done(tree, fake_extraction):
    Path("v/walk/a.avi").write_bytes(b"bad")
    seen: list[Outcome | Progress] = []
    extract_videos("v", "out", progress=seen.append, report=seen.append)
    assert [(o.job.source, o.state) for o in seen if isinstance(o, Outcome)] == [
        ("v/run/a.avi", "done"), ("v/run/deep/c.webm", "done"), ("v/top.mkv", "done"), ("v/walk/a.avi", "failed"),
        ("v/walk/b.MP4", "done")]
    assert sorted(p.relative_to("out").as_posix() for p in Path("out").rglob("*") if p.is_file()) == [
        "report.jsonl", "run/a.avi.npz", "run/deep/c.webm.npz", "top.mkv.npz", "walk/b.MP4.npz"]
    first = [e for e in seen if isinstance(e, Progress)][:2]
    assert [(p.number, p.videos, p.done, p.total, p.trajectories) for p in first] == [
        (1, 5, 0, None, None), (1, 5, 3, 5, 7)]
    assert [e.number for e in seen if isinstance(e, Progress)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]

    fake_extraction.clear()
    again = extract_videos("v", "out")
    assert fake_extraction == ["v/walk/a.avi"]
    assert (again.skipped, len(again.failed)) == (4, 1)

    fake_extraction.clear()
    assert extract_videos("v/top.mkv", "out", force=True).done == 1
    assert extract_videos("v/top.mkv", "out", Params(stride=6)).done == 1
    assert extract_videos("v/top.mkv", "out", Params(stride=6)).skipped == 1
    assert fake_extraction == ["v/top.mkv"] * 2


def test_a_clash_is_found_before_any_work(tree, fake_extraction):
    with pytest.raises(ParameterError, match="would both be written"):
        extract_videos(["v/walk", "v/run"], "out")
    assert fake_extraction == []
    assert not Path("out").exists()


def test_text_leaves_only_the_text_and_is_always_made_anew(tree, fake_extraction):
    for _ in range(2):
        assert extract_videos("v/top.mkv", "out", text=True).done == 1
        assert sorted(os.listdir("out")) == ["report.jsonl", "top.mkv.txt"]
    assert len(fake_extraction) == 2


def test_text_of_a_failed_video_leaves_nothing(tree, fake_extraction):
    Path("v/top.mkv").write_bytes(b"bad")
    assert len(extract_videos("v/top.mkv", "out", text=True).failed) == 1
    assert os.listdir("out") == ["report.jsonl"]


def test_an_output_folder_that_cannot_be_made_stops_before_any_work(tree, fake_extraction):
    with pytest.raises(OutputError, match=r"^v/top\.mkv/out cannot be written: Not a directory\.$"):
        extract_videos("v/walk", "v/top.mkv/out")
    assert fake_extraction == []


@pytest.mark.parametrize(("content", "called"), [
    ({"meta": '{"kind": "vectors"}'}, "vectors"), ({"meta": '{"kind": "codebook"}'}, "a codebook"),
    ({"meta": '{"kind": "model"}'}, "a model"), ({"meta": '{"kind": "flow"}'}, "flow"),
    ({"meta": '{"kind": ["features"]}'}, "something else"), ({"meta": "[]"}, "something else"),
    ({"homographies": np.zeros((2, 3, 3))}, "something else")])
def test_files_of_another_kind_are_not_replaced_by_features(tree, content, called):
    Path("out").mkdir()
    np.savez("out/top.mkv.npz", **content)
    before = Path("out/top.mkv.npz").read_bytes()
    for force in (False, True):
        assert [outcome.reason for outcome in outcomes(extract_videos, "v/top.mkv", "out", force=force)] == [
            f"out/top.mkv.npz holds {called}, which features must not replace: choose another output folder."]
    assert Path("out/top.mkv.npz").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut"])
def test_what_is_damaged_may_be_replaced(tree, content):
    Path("x.npz").write_bytes(content)
    check_replaceable("x.npz", "features")
    np.savez("x.npz", meta='{"kind": "features", "format": 0}')  # of another version
    check_replaceable("x.npz", "features")
    check_replaceable("none.npz", "features")
    check_replaceable("v", "features")


def test_an_output_that_cannot_be_written_fails_only_its_video(tree, fake_extraction):
    Path("out/walk/a.avi.npz").mkdir(parents=True)
    summary = extract_videos("v", "out")
    assert [o.job.source for o in summary.failed] == ["v/walk/a.avi"]
    assert isinstance(summary.failed[0].error, OutputError)
    assert summary.done == 4


# ---- flow -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def clips(tmp_path, monkeypatch):
    """The folders v/a and v/b of images of a moving texture, as the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path("v", name).mkdir(parents=True)
        for n, picture in enumerate(pan(frames=6, height=40, width=48).frames):
            cv2.imwrite(f"v/{name}/{n}.png", picture)
    return tmp_path


QUICK = FlowParams(method="farneback")


def states(**options) -> list[str]:
    return [o.state for o in outcomes(flow_videos, "v/*", "out", options.pop("params", QUICK), **options)]


def test_flow_mirrors_the_inputs_and_reports(clips):
    seen: list[Outcome | Progress] = []
    summary = flow_videos("v/*", "out", QUICK, progress=seen.append, report=seen.append, threads=2)
    assert (summary.done, summary.skipped, summary.failed, summary.frames) == (2, 0, (), 12)
    assert [(o.job.output, o.meta["counts"]) for o in seen if isinstance(o, Outcome)] == [
        (Path("out/a"), {"flow": 5}), (Path("out/b"), {"flow": 5})]
    assert [(p.number, p.videos, p.done, p.total) for p in seen if isinstance(p, Progress)] == [
        (video, 2, done, total) for video in (1, 2) for done, total in [(0, None), *((n, 5) for n in range(1, 6))]]
    assert all(p.trajectories is None for p in seen if isinstance(p, Progress))
    assert [job.output for job in work_list("v/*", "out", suffix=flow_suffix(FlowParams(format="h5")))] == [
        Path("out/a.h5"), Path("out/b.h5")]


def test_flow_is_done_again_when_anything_differs_or_is_missing(clips):
    assert states() == ["done", "done"]
    assert states() == ["skipped", "skipped"]
    assert states(force=True) == ["done", "done"]
    assert states(device="auto", threads=2, verify=True) == ["skipped", "skipped"]
    for changed in (FlowParams(method="farneback", quality=90), FlowParams(tvl1={"warps": 1}), QUICK):
        assert states(params=changed) == ["done", "done"]
    Path("out/a/flow_y_00003.jpg").unlink()
    assert states() == ["done", "skipped"]
    Path("out/b/flow_x_00005.jpg").write_bytes(b"")
    assert states() == ["skipped", "done"]
    Path("out/b/Thumbs.db").write_bytes(b"x")
    assert states() == ["skipped", "skipped"]
    stamp = Path("v/a/0.png").stat().st_mtime_ns
    os.utime("v/a/0.png", ns=(stamp + 10**12, stamp + 10**12))
    assert states() == ["skipped", "skipped"]
    cv2.imwrite("v/a/0.png", np.zeros((40, 48), np.uint8))
    assert states() == ["done", "skipped"]


def test_flow_with_something_else_in_it_is_not_thrown_away(clips):
    assert states() == ["done", "done"]
    Path("out/a/notes.txt").write_text("mine")
    summary = flow_videos("v/*", "out", QUICK, force=True)
    assert (summary.done, len(summary.failed)) == (1, 1)
    assert summary.failed[0].reason == ("out/a cannot be written: there is a folder of that name with other things in "
                                        "it; move it away or choose another output.")
    assert Path("out/a/notes.txt").read_text() == "mine"
    assert states() == ["skipped", "skipped"]


def test_features_are_not_replaced_by_flow(clips):
    Path("out").mkdir()
    np.savez("out/a.npz", meta='{"kind": "features"}')
    arrays = dataclasses.replace(QUICK, format="npz")
    first, second = outcomes(flow_videos, "v/*", "out", arrays)
    assert first.reason == "out/a.npz holds features, which flow must not replace: choose another output folder."
    assert second.state == "done"
    assert [outcome.state for outcome in outcomes(flow_videos, "v/b", "out", arrays, force=True)] == ["done"]


def test_another_version_of_the_method_is_not_done(clips, monkeypatch):
    assert states() == ["done", "done"]
    monkeypatch.setattr(idt.video_flow.files, "ALGORITHM", idt.video_flow.files.ALGORITHM + 1)
    assert states() == ["done", "done"]


def test_leftovers_of_dead_runs_are_removed_and_nothing_else(clips):
    for name in (".idt-0123.tmp", ".idt-45.tmp", ".other.tmp"):
        Path("out", name).mkdir(parents=True)
        Path("out", name, "flow_x_00001.jpg").touch()
    Path("out/.idt-67.tmp").write_bytes(b"npz")
    with replacing_folder("out/of-another-run", lambda folder: True) as held:
        assert states() == ["done", "done"]
        assert sorted(os.listdir("out")) == sorted([
            ".other.tmp", "a", "b", held.name, held.with_suffix(".lock").name, "report.jsonl"])


def test_flow_that_cannot_be_made_anywhere_is_an_error_before_any_work(clips, monkeypatch):
    with pytest.raises(ParameterError, match=r"^device is 'tpu': allowed are cpu"):
        states(device="tpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ParameterError, match=r"^format is h5, which needs h5py, .*: pip install densetraj\[h5\]\.$"):
        states(params=FlowParams(format="h5"))
    assert not Path("out").exists()


def test_an_estimate_counts_by_the_headers(clips):
    Path("v/c").mkdir()
    shutil.copy("v/a/0.png", "v/c/0.png")
    Path("v/d").mkdir()
    Path("v/d/0.png").write_bytes(b"no image")
    found = estimate_flow("v/*", "out", FlowParams(method="farneback", rgb=True), threads=2)
    assert (found.videos, found.unreadable, found.frames, found.pairs) == (4, 1, 13, 10)
    assert found.files == 2 * (10 + 6 + 1) + 2
    assert found.probed >= 10
    assert found.seconds > 0
    assert found.size >= 4096 * 34
    assert not Path("out").exists()
    nothing = estimate_flow("v/c", "out", QUICK)
    assert (nothing.probed, nothing.pairs, nothing.files, nothing.seconds, nothing.size) == (0, 0, 1, 0, 0)


@pytest.mark.slow
def test_a_real_video_is_done_after_its_extraction(data, tmp_path):
    source = data / "awkward" / "frames_17.mp4"
    (first,) = outcomes(extract_videos, source, tmp_path, threads=1)
    assert first.state == "done"
    assert first.meta["rows"] == len(Features.load(first.job.output))
    (second,) = outcomes(extract_videos, source, tmp_path)
    assert second.state == "skipped"
    with frames(source) as reader:
        assert first.meta["video"]["decoded_frames"] == len(list(reader)) == 17
