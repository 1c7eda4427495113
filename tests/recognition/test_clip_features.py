"""dataset_features: where the features of clips lie, what is extracted anew, and the trajectories of segments."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from outcomes import outcomes
from random_features import random_features

from idt.batch import extract_videos
from idt.errors import FormatError, ParameterError, VideoError
from idt.features.record import Features
from idt.params import Params
from idt.recognition.clip_features import features_of, features_paths, load_features, rows_of
from idt.recognition.datasets import Dataset, Item, read_dataset
from idt.trajectories.extraction import extract as extract_one
from idt.video import frames
from synthetic import moving_square, pan

QUICK = Params(scales=1, stride=8, length=5, temporal_cells=1, descriptors=("hog", "mbhx"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with four clips of two classes in set/."""
    monkeypatch.chdir(tmp_path)
    for n in range(2):
        write_clip(tmp_path / "set" / "pan" / f"{n}.avi", pan((2.0, 1.0), frames=9, seed=n).frames)
        write_clip(tmp_path / "set" / "square" / f"{n}.avi", moving_square(frames=9, seed=n).frames)
    return tmp_path


def outcomes_of(folder="features", **options):
    """Features of the clips of set/, and the states of their videos."""
    seen = []
    found = features_of(read_dataset("set"), folder, report=seen.append, **options)
    return found, {os.path.relpath(o.job.source, "set"): o.state for o in seen}


def extract(video, params=QUICK, **options):
    """Extract one clip of set/ as idt extract set -o features does."""
    (outcome,) = outcomes(extract_videos, f"set/{video}", os.path.dirname(f"features/{video}"), params, **options)
    assert outcome.state == "done"


def change_meta(path, **changes):
    """Write other values into the meta of a features file; None takes one out."""
    features = Features.load(path)
    meta = {name: value for name, value in {**features.meta, **changes}.items() if value is not None}
    dataclasses.replace(features, meta=meta).save(path)


def test_what_is_missing_is_extracted_as_the_rest_was(folder):
    extract("pan/0.avi")
    before = (folder / "features/pan/0.avi.npz").stat()
    found, states = outcomes_of()
    assert states == {"pan/0.avi": "skipped", "pan/1.avi": "done", "square/0.avi": "done", "square/1.avi": "done"}
    assert (folder / "features/pan/0.avi.npz").stat() == before
    assert [f.path for f in found] == [f"features/{v}.npz" for v in states]
    assert all(f.meta["params"] == QUICK.to_dict() for f in found)
    assert all(f.hof is None and f.hog.shape[1] == 32 for f in found)
    assert extract_videos("set", "features", QUICK).skipped == 4  # as idt extract would have done it
    assert set(outcomes_of()[1].values()) == {"skipped"}


def test_features_of_other_parameters_than_asked_for_are_made_anew(folder):
    extract_videos("set", "features", QUICK)
    extract("pan/1.avi", dataclasses.replace(QUICK, stride=9))
    found, states = outcomes_of(params=dataclasses.replace(QUICK, stride=9))
    assert states == {"pan/1.avi": "skipped", "pan/0.avi": "done", "square/0.avi": "done", "square/1.avi": "done"}
    assert [f.meta["params"]["stride"] for f in found] == [9] * 4
    assert set(outcomes_of(params=dataclasses.replace(QUICK, stride=9))[1].values()) == {"skipped"}


def test_an_empty_folder_gets_the_default_parameters(folder):
    for name in ("pan/1.avi", "square/0.avi", "square/1.avi"):
        (folder / "set" / name).unlink()
    write_clip(folder / "set/square/0.avi", pan(frames=3).frames)
    found, states = outcomes_of("new/features")
    assert states == {"pan/0.avi": "done", "square/0.avi": "done"}
    assert [f.meta["params"] for f in found] == [Params().to_dict()] * 2
    assert [len(f) for f in found] == [0, 0]  # too short


def test_damaged_and_outdated_features_are_made_anew(folder):
    extract_videos("set", "features", QUICK)
    (folder / "features/pan/0.avi.npz").write_bytes(b"PK\x03\x04 damaged")
    change_meta("features/pan/1.avi.npz", key="made by another version")
    write_clip(folder / "set/square/0.avi", pan(frames=10, seed=7).frames)
    os.utime("set/square/1.avi", ns=(1, 1))  # another time stamp, the same content
    found, states = outcomes_of()
    assert states == {"pan/0.avi": "done", "pan/1.avi": "done", "square/0.avi": "done", "square/1.avi": "skipped"}
    assert all(f.meta["params"] == QUICK.to_dict() for f in found)
    assert found[2].meta["video"]["decoded_frames"] == 10


def test_features_that_are_all_outdated_keep_their_parameters_and_it_is_told(folder, caplog):
    extract_videos("set", "features", QUICK)
    for path in folder.glob("features/*/*.npz"):
        change_meta(path, key="made by another version")
    found, states = outcomes_of()
    assert set(states.values()) == {"done"}
    assert all(f.meta["params"] == QUICK.to_dict() for f in found)
    assert caplog.messages == [
        "features holds features that are out of date (the video is another now, or the version of the method): they "
        "are extracted anew, with the parameters that they were made with."]
    outcomes_of()
    assert len(caplog.messages) == 1


def break_meta(path, name, value):
    """Write a value of any type into the meta of a features file."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    meta = json.loads(str(np.load(path)["meta"]))
    meta[name] = value
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            with archive.open(member, "w") as file:
                if member == "meta.npy":
                    np.save(file, np.array(json.dumps(meta)))
                else:
                    file.write(content)


@pytest.mark.parametrize(("name", "value"), [
    ("params", None), ("params", 3), ("params", {"stride": []}), ("params", {"strides": 8}), ("inputs", "none"),
    ("video", []), ("video", None), ("key", None), ("key", {})])
def test_meta_of_the_wrong_kind_is_no_meta(folder, name, value):
    extract_videos("set", "features", QUICK)
    break_meta(folder / "features/pan/0.avi.npz", name, value)
    found, states = outcomes_of()
    assert states["pan/0.avi"] == "done"
    assert [f.meta["params"] for f in found] == [QUICK.to_dict()] * 4


@pytest.mark.parametrize("value", [None, 3, {"stride": []}, {"strides": 8}])
def test_where_no_features_tell_their_parameters_they_are_the_default_ones(folder, value):
    extract("pan/0.avi")
    break_meta(folder / "features/pan/0.avi.npz", "params", value)
    found, states = outcomes_of()
    assert set(states.values()) == {"done"}
    assert [f.meta["params"] for f in found] == [Params().to_dict()] * 4


def test_outdated_features_of_other_parameters_give_way(folder):
    extract("pan/0.avi", dataclasses.replace(QUICK, stride=6))
    change_meta("features/pan/0.avi.npz", key="made by another version")
    extract("pan/1.avi")
    found, _ = outcomes_of()
    assert [f.meta["params"] for f in found] == [QUICK.to_dict()] * 4


def test_side_inputs_of_an_earlier_extraction_do_not_count(folder):
    (folder / "boxes").mkdir()
    (folder / "boxes/0.avi.txt").write_text("".join(f"{n} 10 10 40 40 1\n" for n in range(9)))
    extract("pan/0.avi", boxes="boxes")
    extract("pan/1.avi")
    found, states = outcomes_of()
    assert [states["pan/0.avi"], states["pan/1.avi"]] == ["skipped", "skipped"]
    assert found[0].meta["inputs"]["boxes"]
    assert not found[1].meta["inputs"]["boxes"]


def test_features_of_different_parameters_are_refused_before_any_work(folder):
    extract("pan/0.avi")
    extract("square/1.avi", dataclasses.replace(QUICK, stride=6, camera=False))
    with pytest.raises(ParameterError) as error:
        features_of(read_dataset("set"), "features")
    assert str(error.value) == (
        "features/pan/0.avi.npz and features/square/1.avi.npz were extracted with different parameters (stride 8 and "
        "6, camera True and False): delete the features of one kind, or give another folder.")
    assert len(list(folder.glob("features/*/*.npz"))) == 2


def test_a_channel_that_the_features_lack_is_told_before_any_work(folder):
    extract("pan/0.avi")
    with pytest.raises(ParameterError, match=r"^features: its features have no hof: leave it out of channels, or give"):
        features_of(read_dataset("set"), "features", channels=("hog", "hof"))
    assert len(list(folder.glob("features/*/*.npz"))) == 1


def test_a_video_that_fails_costs_the_others_nothing(folder):
    extract("pan/1.avi")
    (folder / "set/pan/0.avi").write_bytes(b"no video" * 100)
    (folder / "set/square/0.avi").write_bytes(b"")
    with pytest.raises(VideoError) as error:
        outcomes_of()
    assert re.fullmatch(r"2 of 4 videos of set cannot be extracted: set/pan/0\.avi, set/square/0\.avi\. Repair them or "
                        r"take them out of the dataset; all others are done\. The first: set/pan/0\.avi.*",
                        str(error.value))
    assert sorted(p.name for p in folder.glob("features/*/*.npz")) == ["1.avi.npz", "1.avi.npz"]


def test_many_failures_are_counted_not_listed(folder):
    for n in range(7):
        (folder / f"set/pan/{n}.avi").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"^7 of 9 videos of set cannot be .*set/pan/4\.avi and 2 more\. Repair"):
        outcomes_of()


def test_segments_of_one_video_share_its_extraction(folder):
    write_clip(folder / "long.avi", moving_square(frames=40).frames)
    (folder / "list.csv").write_text("path,label,start,end\nlong.avi,a,0,0.8\n./long.avi,b,0.8,\n")
    seen = []
    a, b = features_of(read_dataset("list.csv"), "features", report=seen.append)
    assert [os.fspath(o.job.output) for o in seen] == ["features/long.avi.npz"]
    assert len(a)
    assert len(b)
    assert a.frame.max() <= 20
    assert b.frame.min() >= 20 + 15


def paths_of(root, *videos, folder="f", **options):
    dataset = Dataset(tuple(Item(video, "a") for video in videos), ("a",), "d", "csv", root, **options)
    return [os.fspath(path) for path in features_paths(dataset, folder)]


def test_videos_outside_the_root_have_their_features_in_the_folder_all_the_same(tmp_path):
    assert paths_of(f"{tmp_path}/x", f"{tmp_path}/x/1/a.avi", f"{tmp_path}/x/../y/a.avi", f"{tmp_path}/xx/a.avi") == [
        "f/1/a.avi.npz", f"f{tmp_path}/y/a.avi.npz", f"f{tmp_path}/xx/a.avi.npz"]


def test_features_of_two_videos_are_never_one_file():
    assert paths_of("/x", "/x/1/a.avi", "/x/2/../1/a.avi") == ["f/1/a.avi.npz"] * 2
    with pytest.raises(ParameterError) as error:
        paths_of("/x", "/x/y/a.avi", "/x/b.avi", "/y/a.avi")
    assert str(error.value) == ("The features of /x/y/a.avi and of /y/a.avi would both be in f/y/a.avi.npz: move one "
                                "of the videos, or give it another name.")


@pytest.fixture
def lists(folder):
    """Clips as UCF101 has them, in HERE/videos and named by lists in HERE/lists."""
    os.makedirs("HERE/lists")
    os.rename("set", "HERE/UCF-101")
    clips = [f"{label}/{n}.avi" for label in ("pan", "square") for n in range(2)]
    Path("HERE/lists/classInd.txt").write_text("1 pan\n2 square\n")
    Path("HERE/lists/trainlist01.txt").write_text("".join(f"{clip} {1 + ('sq' in clip)}\n" for clip in clips[::2]))
    Path("HERE/lists/testlist01.txt").write_text("".join(f"{clip}\n" for clip in clips[1::2]))
    return clips


@pytest.mark.parametrize(("given", "below"), [("HERE", "UCF-101/"), ("HERE/UCF-101", "")])
def test_features_are_found_however_the_videos_were_given(lists, caplog, given, below):
    extract_videos(given, "features", QUICK)
    os.unlink(f"features/{below}pan/1.avi.npz")
    dataset = read_dataset("HERE")
    assert (dataset.folder, dataset.root) == ("HERE", "HERE/UCF-101")
    seen = []
    features_of(dataset, "features", report=seen.append)
    assert {os.fspath(o.job.output): o.state for o in seen} == {
        f"features/{below}{clip}.npz": "done" if clip == "pan/1.avi" else "skipped" for clip in lists}
    assert [f.path for f in load_features(dataset, "features")] == [
        f"features/{below}{os.path.relpath(item.path, dataset.root)}.npz" for item in dataset.items]
    assert not caplog.messages


def test_features_of_videos_that_lie_elsewhere_are_found(lists):
    os.rename("HERE/UCF-101", "videos")
    dataset = read_dataset("HERE", videos="videos")
    assert {os.fspath(path) for path in features_paths(dataset, "f")} == {f"f/{clip}.npz" for clip in lists}


def test_a_folder_of_other_features_is_told(lists, caplog):
    extract_videos("HERE/UCF-101/pan", "features", QUICK)
    features_of(read_dataset("HERE"), "features")
    assert caplog.messages == ["features holds .npz files, but none for a clip of HERE, such as features/UCF-101/pan/"
                               "0.avi.npz: all videos are extracted."]


def test_segments_hold_the_trajectories_that_lie_within():
    features = random_features(200, 3, frames=100)
    features.meta["video"]["fps"] = 25.0
    part = rows_of(features, Item("v.avi", "a", start_s=1.0, end_s=2.0))
    assert 0 < len(part) < 200
    assert part.frame.min() >= 25 + 15
    assert part.frame.max() <= 50
    expected = np.count_nonzero((features.frame >= 40) & (features.frame <= 50))
    assert len(part) == expected
    assert rows_of(features, Item("v.avi", "a")) is features
    with pytest.raises(ParameterError, match=r"v\.avi is given as a segment in seconds, but its features do not tell"):
        rows_of(random_features(5), Item("v.avi", "a", start_s=1.0))


def test_segments_of_a_video_with_a_variable_frame_rate():
    times = np.cumsum(np.random.default_rng(0).choice([0.01, 0.04, 0.3], 100)) - 0.01
    features = random_features(600, 3, frames=100)
    features.meta["video"]["fps"] = 99 / times[99]
    features = dataclasses.replace(features, time=times[features.frame])
    assert len(np.unique(features.frame)) == 85
    for first, last in ((15, 40), (20, 60), (33, 99), (70, 99)):
        part = rows_of(features, Item("v.avi", "a", start_s=times[first], end_s=times[last]))
        inside = (features.frame - 15 >= first) & (features.frame <= last)
        assert np.count_nonzero(inside) > 10
        np.testing.assert_array_equal(part.points, features.points[inside])
        np.testing.assert_allclose(part.position[:, 2], (part.frame - 7.5 - first) / (last + 1 - first), atol=1e-6)
        assert part.meta["span"] == {"first": first, "last": last, "frames": last + 1 - first}


def test_a_start_that_was_rounded_is_that_of_the_nearest_frame():
    features = random_features(300, 3, frames=60)
    features.meta["video"]["fps"] = 30.0
    steady = dataclasses.replace(features, time=features.frame / 30)
    for start, first in ((0.83, 25), (0.84, 25), (0.86, 26)):
        part = rows_of(steady, Item("v.avi", "a", start_s=start))
        assert part.meta["span"] == {"first": first, "last": 59, "frames": 60 - first}
        assert len(part) == np.count_nonzero(features.frame - 15 >= first)
    # Frame 25 is shown for a second: what began with it is not in a segment that starts later.
    frozen = dataclasses.replace(features, time=features.frame / 30 + (features.frame > 25))
    for start, first in ((25 / 30 + 0.01, 25), (25 / 30 + 0.1, 26)):
        assert rows_of(frozen, Item("v.avi", "a", start_s=start)).meta["span"]["first"] == first


def test_a_real_video_with_a_variable_frame_rate(data):
    video = data / "awkward" / "vfr.mp4"
    times = [frame.time_s for frame in frames(video)]
    features = extract_one(video, Params(scales=1, stride=8, descriptors=("hog",)))
    part = rows_of(features, Item("v", "a", start_s=round(times[20], 3), end_s=times[40]))
    inside = (features.frame >= 35) & (features.frame <= 40)
    assert np.count_nonzero(inside) > 10
    np.testing.assert_array_equal(part.points, features.points[inside])


def test_a_segment_is_open_at_the_ends_of_the_video_that_were_processed():
    features = random_features(300, 3, frames=60)
    features = features[features.frame >= 20]
    features.meta["video"].update(fps=25.0, decoded_frames=100)
    features.meta["span"] = {"first": 5, "last": 94, "frames": 90}
    features = dataclasses.replace(features, meta={**features.meta, "params": Params(start=5, end=94).to_dict()})
    whole = (features.frame - 7.5 - 5) / 90
    for segment in ({"start_s": 0.0}, {"end_s": 99.0}, {"start_s": 0.2, "end_s": 3.8}):
        part = rows_of(features, Item("v.avi", "a", **segment))
        np.testing.assert_array_equal(part.points, features.points)
        np.testing.assert_allclose(part.position[:, 2], whole, atol=1e-6)
        assert part.meta["span"] == features.meta["span"]
    part = rows_of(features, Item("v.avi", "a", start_s=1.0))
    np.testing.assert_allclose(part.position[:, 2], (part.frame - 7.5 - 25) / 70, atol=1e-6)
    for nothing in ({"start_s": 3.9}, {"end_s": 0.1}):
        part = rows_of(features, Item("v.avi", "a", **nothing))
        assert len(part) == part.meta["span"]["frames"] == 0


def test_a_segment_behind_the_end_of_its_video_is_refused():
    features = random_features(100, 3, frames=60)
    features.meta["video"].update(fps=25.0, decoded_frames=100)
    assert len(rows_of(features, Item("v.avi", "a", start_s=3.99))) == 0
    for end, words in ((None, ""), (200.0, " to 200 s")):
        with pytest.raises(ParameterError) as error:
            rows_of(features, Item("v.avi", "a", start_s=100.0, end_s=end))
        assert str(error.value) == (f"v.avi: the segment from 100 s{words} begins after the end of its video, which is "
                                    "4.00 s long: start and end are times in seconds, not frames.")


def test_features_are_found_as_extract_wrote_them(tmp_path):
    items = tuple(Item(f"v/{name}_{actor}.avi", name, actor) for name in "abc" for actor in ("p", "q", "r", "s"))
    dataset = Dataset(items, ("a", "b", "c"), "made", "csv", "v")
    videos = [random_features(20, seed) for seed in range(len(items))]
    for item, features in zip(dataset.items, videos, strict=True):
        features.save(tmp_path / f"{item.path.removeprefix('v/')}.npz")
    loaded = load_features(dataset, tmp_path)
    np.testing.assert_array_equal(loaded[7].hog, videos[7].hog)
    (tmp_path / "a_q.avi.npz").unlink()
    (tmp_path / "c_s.avi.npz").unlink()
    with pytest.raises(FormatError, match=r"a_q\.avi\.npz is missing, and 1 more: extract the videos first, idt"):
        load_features(dataset, tmp_path)
