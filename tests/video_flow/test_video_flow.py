"""idt.video_flow: which pairs, which flow, which files, what they say of themselves, and what remains when it fails."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import idt.flow.files
import idt.video_flow
from idt import flow
from idt._util.fields import limits_text
from idt.errors import DeviceError, OutputError, ParameterError, VideoError
from idt.flow.colours import flow_colours
from idt.flow.files import dequantise, open_flows, quantise
from idt.flow.tvl1 import PRESETS, TVL1Params
from idt.video_flow.files import files_of, read_meta, write_flow
from idt.video_flow.pairs import difference, video_flow
from idt.video_flow.params import FlowParams, pairs_of
from synthetic import moving_square, pan, translation, turn
from waiting import PATIENCE_S

MOTION = (1.5, -0.75)
INNER = (slice(12, -12), slice(12, -12))


def quick(**values) -> FlowParams:
    return FlowParams(**{"method": "farneback", **values})


@pytest.fixture(scope="module")
def panned():
    """12 grey frames of a plane that moves by MOTION."""
    return pan(MOTION, frames=12).frames


@pytest.fixture(scope="module")
def coloured(panned):
    """The same in RGB, each channel another."""
    return np.stack([panned, 255 - panned, np.roll(panned, 9, axis=2)], axis=3)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def solved(frames: np.ndarray, i: int, j: int) -> np.ndarray:
    return flow.compute(frames[i], frames[j], method="farneback")


# ---- parameters -----------------------------------------------------------------------------------------------------

def test_defaults_are_those_of_the_field():
    p = FlowParams()
    assert (p.method, p.preset, p.step, p.format, p.quality, p.bound, p.naming) == (
        "tvl1", "opencv", 1, "jpg", 95, 20.0, "dense_flow")
    assert p.solver == PRESETS["opencv"]
    assert p.kinds == ("flow",)


@pytest.mark.parametrize(("values", "message"), [
    ({"method": "lucas"}, "method is 'lucas': allowed are tvl1, farneback, dis, deepflow."),
    ({"step": 0}, "step is 0: it must be from 1 to 1000000."),
    ({"bound": 0}, "bound is 0: it must be above 0, at most 1000000."),
    ({"format": "gif"}, "format is 'gif': allowed are jpg, png, kitti, flo, npz, h5."),
    ({"start": 5, "end": 4}, "end is 4: it must not lie before start (5)."),
    ({"stack": 10}, "stack is 10, but format is jpg: stacks are arrays, format npz or h5."),
    ({"method": "dis", "preset": "accurate"}, "method is dis, but a preset is given, which only tvl1 has: leave one of "
                                              "the two out."),
    ({"method": "dis", "tvl1": {"tau": 0.2}}, "method is dis, but numbers of tvl1 are given, which only tvl1 has: "
                                              "leave one of the two out."),
    ({"tvl1": {"tau": 7}}, "tau is 7: it must be above 0, at most 1."),
    ({"tvl1": {"tua": 0.2}}, "tua is not a number of tvl1: these are tau, lambda, theta, scales, scale_step, warps, "
                             "epsilon, iterations, median, interpolation."),
    ({"tvl1": 3}, "tvl1 is 3: it must be a TVL1Params or a dict of its numbers."),
])
def test_a_bad_value_is_one_sentence(values, message):
    with pytest.raises(ParameterError) as error:
        FlowParams(**values)
    assert str(error.value) == message


def test_numbers_of_tvl1_change_the_preset():
    p = FlowParams(preset="accurate", tvl1={"warps": 3, "lambda": 0.2})
    assert p.solver == dataclasses.replace(PRESETS["accurate"], warps=3, lambda_=0.2)
    assert FlowParams(tvl1=TVL1Params(warps=3)).solver == TVL1Params(warps=3)
    assert quick().solver is None


def test_dict_file_and_fingerprint(tmp_path):
    p = FlowParams(preset="accurate", tvl1={"warps": 3}, step=2, rgb=True)
    assert FlowParams.from_dict(p.to_dict()).to_dict() == p.to_dict()
    assert p.to_dict()["tvl1"]["median"] == PRESETS["accurate"].median
    assert quick().to_dict()["tvl1"] is None
    path = tmp_path / "p.toml"
    path.write_text('preset = "accurate"\nstep = 2\nrgb = true\nstack = 3\n[tvl1]\nwarps = 3\ntheta = 0.2\n')
    # What the file has is completed and overridden by what comes on top, in sections name by name.
    given = FlowParams.from_toml(path, format="npz", tvl1={"theta": 0.3})
    assert given.to_dict() == {**p.to_dict(), "stack": 3, "format": "npz"}
    with pytest.raises(ParameterError, match=r"p\.toml: stack is 3, but format is jpg"):
        FlowParams.from_toml(path)
    with pytest.raises(ParameterError, match=r"^bound is -1: "):
        FlowParams.from_toml(path, format="npz", bound=-1)
    for name in ("warps", "lambda", "lambda_"):
        path.write_text(f"{name} = 3\n")
        with pytest.raises(ParameterError, match=rf"p\.toml: {name} is a number of tvl1: it stands in a section "):
            FlowParams.from_toml(path)
    prints = {q.fingerprint() for q in (FlowParams(), p, quick(), FlowParams(tvl1={"tau": 0.2}), FlowParams(every=2),
                                        FlowParams(preset="accurate"), FlowParams(difference=True))}
    assert len(prints) == 7
    assert FlowParams(tvl1=TVL1Params()).fingerprint() == FlowParams().fingerprint()


def test_the_page_in_docs_is_made_from_the_fields():
    page = Path(__file__).parents[2] / "docs" / "flow-parameters.md"
    assert page.read_text(encoding="utf-8") == idt.video_flow.params.parameters_page(), (
        "run: python -m idt.video_flow > docs/flow-parameters.md")
    fields = {f.name: f for f in dataclasses.fields(TVL1Params)}
    assert limits_text(fields["median"], TVL1Params) == "1, 3, 5"


# ---- pairs ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("values", "expected"), [
    ({}, [(i, i + 1) for i in range(11)]),
    ({"step": 3}, [(i, i + 3) for i in range(9)]),
    ({"every": 4}, [(0, 1), (4, 5), (8, 9)]),
    ({"step": 2, "every": 3}, [(0, 2), (3, 5), (6, 8), (9, 11)]),
    ({"start": 5, "end": 8}, [(5, 6), (6, 7), (7, 8)]),
    ({"start": 2, "step": 4, "every": 2}, [(2, 6), (4, 8), (6, 10)]),
    ({"end": 400}, [(i, i + 1) for i in range(11)]),
    ({"step": 12}, []),
    ({"start": 20}, []),
    ({"stack": 2, "every": 5, "format": "npz"}, [(0, 1), (1, 2), (5, 6), (6, 7), (10, 11)]),
])
@pytest.mark.parametrize("threads", [1, 3])
def test_pairs_and_their_number(panned, values, expected, threads):
    p = quick(**values)
    pairs = list(video_flow(panned, p, threads=threads))
    assert [(pair.first.index, pair.second.index) for pair in pairs] == expected
    assert [pair.number for pair in pairs] == list(range(len(expected)))
    last = 11 if p.end is None else min(p.end, 11)
    assert pairs_of(max(last - p.start + 1, 0), p) == len(expected)
    for pair in pairs:
        np.testing.assert_array_equal(pair.flow, solved(panned, pair.first.index, pair.second.index))
        assert (pair.backward, pair.homography, pair.first.bgr) == (None, None, None)


def test_backward_flow_is_that_from_the_later_frame(panned):
    both = list(video_flow(panned, quick(direction="both", step=2)))
    alone = list(video_flow(panned, quick(direction="backward", step=2)))
    for pair, only in zip(both, alone, strict=True):
        i, j = pair.first.index, pair.second.index
        np.testing.assert_array_equal(pair.flow, solved(panned, i, j))
        np.testing.assert_array_equal(pair.backward, solved(panned, j, i))
        np.testing.assert_array_equal(only.backward, pair.backward)
        assert only.flow is None
        np.testing.assert_allclose(pair.flow[INNER], np.broadcast_to([3.0, -1.5], pair.flow[INNER].shape), atol=0.25)
        np.testing.assert_allclose(pair.backward[INNER], -pair.flow[INNER], atol=0.3)


def test_tvl1_is_that_of_the_parameters(panned):
    for p in (FlowParams(), FlowParams(tvl1={"warps": 1, "iterations": 5})):
        (pair,) = video_flow(panned[:2], p)
        np.testing.assert_array_equal(pair.flow, flow.compute(panned[0], panned[1], method="tvl1", params=p.solver))


@pytest.mark.parametrize("clip", [pan((4.0, -2.0), frames=4, height=120, width=160),
                                  turn(frames=4, height=120, width=160)], ids=["pan", "turn"])
def test_warped_flow_of_camera_motion_is_nothing(clip):
    plain = list(video_flow(clip.frames, quick(direction="both")))
    warped = list(video_flow(clip.frames, quick(direction="both", warped=True), threads=2))
    for before, after in zip(plain, warped, strict=True):
        np.testing.assert_allclose(after.homography, clip.homographies[1], atol=0.3)
        for here, there in ((before.flow, after.flow), (before.backward, after.backward)):
            assert np.hypot(*np.moveaxis(here[INNER], 2, 0)).mean() > 0.4
            assert np.hypot(*np.moveaxis(there[INNER], 2, 0)).mean() < 0.05


def test_warped_flow_keeps_what_moves_by_itself():
    clip = moving_square((3.0, 0.0), camera=translation(-2.0, 1.0), frames=3, height=120, width=160)
    (first, _) = video_flow(clip.frames, quick(warped=True))
    moving = cv2.erode(clip.moving[0].astype(np.uint8), np.ones((15, 15))) == 1
    assert np.abs(np.median(first.flow[moving], axis=0) - (3.0, 0.0)).max() < 0.2
    assert np.abs(np.median(first.flow[~clip.moving[0]], axis=0)).max() < 0.05


def test_warped_flow_without_a_homography_is_plain():
    blank = np.full((2, 72, 96), 9, np.uint8)
    (pair,) = video_flow(blank, quick(warped=True))
    assert pair.homography is None
    assert not pair.flow.any()


def test_short_side_also_enlarges(panned):
    (pair,) = video_flow(panned[:2], quick(short_side=144))
    assert pair.flow.shape == (144, 192, 2)
    assert np.abs(np.median(pair.flow, axis=(0, 1)) - (3.0, -1.5)).max() < 0.1


def test_colour_only_where_it_is_asked_for(coloured):
    (pair,) = video_flow(coloured[:2], quick(rgb=True))
    np.testing.assert_array_equal(pair.first.bgr, coloured[0, :, :, ::-1])
    np.testing.assert_array_equal(pair.second.bgr, coloured[1, :, :, ::-1])
    assert next(iter(video_flow(coloured[:2], quick()))).first.bgr is None


def test_differences_in_eight_bits():
    first, second = np.array([0, 255, 7, 7, 8, 0], np.uint8), np.array([255, 0, 7, 8, 7, 1], np.uint8)
    halved = difference(first, second)
    assert halved.tolist() == [255, 0, 128, 128, 127, 128]
    restored = 2 * (halved.astype(int) - 128)
    assert set((second.astype(int) - first - restored).tolist()) <= {0, 1}


@pytest.mark.parametrize("threads", [1, 2])
def test_pairs_that_are_not_taken_to_the_end_leave_no_thread(panned, threads):
    import threading

    before = threading.active_count()
    pairs = video_flow(panned, quick(warped=True), threads=threads)
    next(pairs)
    pairs.close()
    assert threading.active_count() == before


# ---- files ----------------------------------------------------------------------------------------------------------

def test_folder_of_images_with_all_kinds(coloured, tmp_path):
    calls = []
    p = quick(format="png", rgb=True, difference=True, colours=True, direction="both", step=2)
    folder = tmp_path / "out" / "a"
    meta = write_flow(coloured, folder, p, progress=lambda *state: calls.append(state))
    assert names(tmp_path / "out") == ["a"]
    pairs = [f"{n:05d}.png" for n in range(1, 11)]
    frames = [f"{n:05d}.png" for n in range(1, 13)]
    assert names(folder) == sorted([
        *(f"{kind}_{axis}_{n}" for kind in ("flow", "back") for axis in "xy" for n in pairs),
        *(f"{kind}_{n}" for kind in ("diff", "colour") for n in pairs), *(f"img_{n}" for n in frames), "meta.json"])
    assert meta["counts"] == {"flow": 10, "flow_backward": 10, "image": 12, "difference": 10, "colours": 10}
    assert len(names(folder)) == files_of(12, p)
    assert calls == [(n, 10) for n in range(1, 11)]
    assert json.loads((folder / "meta.json").read_text()) == meta
    grey = [cv2.cvtColor(np.ascontiguousarray(f[:, :, ::-1]), cv2.COLOR_BGR2GRAY) for f in coloured]
    for k in range(10):
        expected = quantise(solved(grey, k, k + 2), 20.0)
        for axis, plane in zip("xy", np.moveaxis(expected, 2, 0), strict=True):
            image = cv2.imread(str(folder / f"flow_{axis}_{k + 1:05d}.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(image, plane)
        image = cv2.imread(str(folder / f"diff_{k + 1:05d}.png"))
        np.testing.assert_array_equal(image, difference(coloured[k], coloured[k + 2])[:, :, ::-1])
        image = cv2.imread(str(folder / f"colour_{k + 1:05d}.png"))  # of the forward flow, 1.5 px in full colour
        np.testing.assert_array_equal(image, flow_colours(solved(grey, k, k + 2), largest=72 / 48))
    np.testing.assert_array_equal(cv2.imread(str(folder / "img_00012.png")), coloured[11, :, :, ::-1])
    with open_flows(folder) as flows:
        for kind, i, j in (("flow", 3, 5), ("flow_backward", 5, 3)):
            expected = dequantise(quantise(solved(grey, i, j), 20.0), 20.0)
            np.testing.assert_array_equal(flows.get(kind, 3), expected)


def test_naming_from_zero_and_every(coloured, tmp_path):
    write_flow(coloured, tmp_path / "a", quick(naming="denseflow", every=5, rgb=True, quality=80))
    assert names(tmp_path / "a") == sorted([*(f"flow_{axis}_{n:05d}.jpg" for axis in "xy" for n in range(3)),
                                            *(f"img_{n:05d}.jpg" for n in range(3)), "meta.json"])
    image = cv2.imread(str(tmp_path / "a" / "img_00002.jpg"))  # the first frame of the third pair
    assert np.abs(image.astype(int) - coloured[10, :, :, ::-1]).mean() < 12
    meta = read_meta(tmp_path / "a")
    assert (meta["naming"], meta["quality"], meta["bound"], meta["pairs"]) == ("denseflow", 80, 20.0, 3)


@pytest.mark.parametrize(("form", "tolerance"), [("kitti", 1 / 128), ("flo", 0), ("npz", 0.002), ("h5", 0.002)])
def test_other_formats(panned, tmp_path, form, tolerance):
    path = tmp_path / "a"
    meta = write_flow(panned, path, quick(format=form, warped=True, rgb=True), threads=2)
    assert (meta["counts"], meta["encoding"]) == ({"warped": 11, "image": 12}, form)
    pairs = video_flow(panned, quick(warped=True))
    with open_flows(path) as flows:
        for k, pair in enumerate(pairs):
            np.testing.assert_allclose(flows.get("warped", k), pair.flow, atol=tolerance)
        np.testing.assert_array_equal(flows.get("image", 4)[:, :, 0], panned[4])


@pytest.mark.parametrize(("every", "begins"), [(1, range(7)), (4, (0, 4)), (6, (0, 6))])
def test_stacks(panned, tmp_path, every, begins):
    p = quick(format="npz", stack=5, every=every, direction="both")
    meta = write_flow(panned, tmp_path / "a.npz", p, threads=2)
    assert meta["counts"] == {"stack": len(begins), "stack_backward": len(begins)}
    assert meta["reason"] is None
    forward = [solved(panned, i, i + 1) for i in range(11)]
    backward = [solved(panned, i + 1, i) for i in range(11)]
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        for kind, flows in (("stack", forward), ("stack_backward", backward)):
            assert file[kind].shape == (len(begins), 72, 96, 10)
            assert file[kind].dtype == np.float16
            for m, begin in enumerate(begins):  # x y x y ..., earlier first
                np.testing.assert_array_equal(file[kind][m], np.concatenate(flows[begin:begin + 5], 2).astype("f2"))


def test_meta_tells_what_was_done(data, tmp_path):
    source = data / "awkward" / "frames_17.mp4"
    meta = write_flow(source, tmp_path / "a", quick(start=2, short_side=40))
    assert meta["kind"] == "flow"
    assert meta["video"].pop("mtime_ns") == source.stat().st_mtime_ns
    assert len(meta["video"].pop("sha256")) == 64
    assert meta["video"].pop("fps") == pytest.approx(25, abs=10)
    assert meta["video"] == {"name": "frames_17.mp4", "size": source.stat().st_size, "decoded_frames": 17,
                             "damaged_frames": 0}
    assert (meta["frames"], meta["pairs"], meta["counts"], meta["height"]) == (15, 14, {"flow": 14}, 40)
    assert (meta["stabilised"], meta["reason"], meta["clipped"]) == (None, None, {})
    assert FlowParams.from_dict(meta["params"]) == quick(start=2, short_side=40)
    text = (tmp_path / "a" / "meta.json").read_text()
    assert os.uname().nodename not in text
    assert str(tmp_path) not in text


def test_clipped_values_are_counted(panned, tmp_path):
    meta = write_flow(panned, tmp_path / "a", quick(bound=1.0))
    flows = [solved(panned, i, i + 1) for i in range(11)]
    assert meta["clipped"] == {"flow": sum(int((np.abs(f) > 1.0).sum()) for f in flows)}


@pytest.mark.parametrize("form", ["jpg", "npz", "h5"])
@pytest.mark.parametrize(("values", "reason"), [
    ({"step": 12}, "too short: 12 frames were processed, a pair needs 13"),
    ({"start": 11}, "too short: 1 frame was processed, a pair needs 2"),
    ({"start": 12}, "too short: start is 12, but the video has 12 frames"),
])
def test_too_short_is_a_result_with_a_reason(panned, tmp_path, form, values, reason):
    p = quick(format=form, **values)
    meta = write_flow(panned, tmp_path / "a", p, threads=2)
    assert (meta["reason"], meta["pairs"], meta["counts"]) == (reason, 0, {})
    assert (meta["height"], meta["width"]) == (72, 96)
    assert read_meta(tmp_path / "a") == meta
    write_flow(panned, tmp_path / "a", p)  # and may be replaced


def test_too_few_pairs_for_a_stack_is_a_result_with_a_reason(panned, tmp_path):
    meta = write_flow(panned[:5], tmp_path / "a", quick(format="npz", stack=5))
    assert (meta["reason"], meta["counts"], meta["pairs"]) == (
        "too short: 5 frames were processed, a stack of 5 flows needs 6", {}, 4)


@pytest.mark.parametrize("form", ["jpg", "png", "npz", "h5"])
def test_the_threads_change_no_byte(coloured, tmp_path, form):
    p = quick(format=form, rgb=True, difference=True, warped=True, direction="both", colours=True)
    for threads in (1, 2, 5):
        write_flow(coloured, tmp_path / str(threads), p, threads=threads)
    one, *others = ({path.relative_to(tmp_path / str(threads)).as_posix(): path.read_bytes()
                     for path in ([tmp_path / str(threads)] if form in ("npz", "h5") else
                                  (tmp_path / str(threads)).iterdir())} for threads in (1, 2, 5))
    assert all(other == one for other in others)


@pytest.mark.parametrize(("form", "threads", "room"), [("jpg", 3, 15), ("npz", 3, 5), ("jpg", 1, 0)])
def test_what_waits_to_be_written_is_bounded(panned, tmp_path, monkeypatch, form, threads, room):
    real, written, waiting = idt.flow.files.Writer.add, [], []

    def add(self, *array):
        time.sleep(0.01)  # writing is slower than solving
        real(self, *array)
        written.append(array)

    monkeypatch.setattr(idt.flow.files.Writer, "add", add)
    write_flow(np.tile(panned, (5, 1, 1)), tmp_path / "a", quick(format=form), threads=threads,
               progress=lambda done, _: waiting.append(done - len(written)))
    assert max(waiting) <= room


def test_a_frame_is_written_before_the_pair_that_ends_with_it(coloured, tmp_path, monkeypatch):
    real, order = idt.flow.files.Writer.add, []

    def add(self, kind, number, array):
        order.append((kind, number))
        real(self, kind, number, array)

    monkeypatch.setattr(idt.flow.files.Writer, "add", add)
    write_flow(coloured, tmp_path / "a", quick(rgb=True, step=3, every=2))
    assert order == [("image", 0), ("image", 1), ("flow", 0), ("image", 2), ("flow", 1), ("image", 3), ("flow", 2),
                     ("image", 4), ("flow", 3), ("image", 5), ("flow", 4)]


# ---- what goes wrong ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("threads", [0, True, "2"])
def test_threads_are_checked(panned, tmp_path, threads):
    with pytest.raises(ParameterError, match=r"^threads is .*: it must be an integer from 1\.$"):
        video_flow(panned, threads=threads)
    with pytest.raises(ParameterError, match="threads"):
        write_flow(panned, tmp_path / "a", threads=threads)


def test_devices_are_checked(panned, tmp_path):
    with pytest.raises(ParameterError, match=r"^device is 'tpu': allowed are cpu"):
        write_flow(panned, tmp_path / "a", device="tpu")
    with pytest.raises(ParameterError, match=r"^device is 'cuda', but farneback runs on the CPU alone"):
        write_flow(panned, tmp_path / "a", quick(), device="cuda")
    with pytest.raises((DeviceError, ParameterError)):
        write_flow(panned, tmp_path / "a", device="cuda:99")
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["garbage.mp4", "audio_only.mp4", "truncated_no_moov.mp4", "zero_byte.mp4",
                                  "zero_frames.mp4", "text_file.avi", "resolution_change.ts"])
@pytest.mark.parametrize("form", ["jpg", "npz"])
def test_a_bad_video_leaves_nothing(data, tmp_path, name, form):
    with pytest.raises(VideoError):
        write_flow(data / "awkward" / name, tmp_path / "a", quick(format=form), threads=2)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("name", "frames"), [
    ("frames_01.mp4", 1), ("tiny_16x16.mp4", 30), ("odd_161x121.avi", 30), ("rotated_90.mp4", None), ("vfr.mp4", None),
    ("gray8_ffv1.mkv", None), ("tenbit_h264.mp4", None), ("const_black.mp4", None), ("truncated_half.avi", 121)])
def test_an_odd_video_gives_its_flows(data, tmp_path, name, frames):
    source = data / "awkward" / name
    meta = write_flow(source, tmp_path / "a", quick(end=20 if frames != 121 else None, short_side=32), threads=2)
    expected = meta["video"]["decoded_frames"]
    if frames is not None:
        assert expected == min(frames, 21 if frames != 121 else 121)
    assert meta["counts"] == ({"flow": expected - 1} if expected > 1 else {})
    assert meta["video"]["damaged_frames"] == (1 if frames == 121 else 0)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("form", ["jpg", "npz"])
def test_a_failure_half_way_leaves_what_was_there(panned, tmp_path, monkeypatch, threads, form):
    path = tmp_path / "a"
    before = write_flow(panned, path, quick(format=form))
    real = idt.flow.files.Writer.add

    def add(self, kind, number, array):
        if number == 5:
            raise OSError(28, "No space left on device")
        real(self, kind, number, array)

    monkeypatch.setattr(idt.flow.files.Writer, "add", add)
    with pytest.raises(OutputError, match=r"a cannot be written: No space left on device\.$"):
        write_flow(panned, path, quick(format=form, rgb=True), threads=threads)
    assert names(tmp_path) == ["a"]
    assert read_meta(path) == before


def test_flows_that_are_lost_are_an_error(panned, tmp_path, monkeypatch):
    real = flow.pairs
    monkeypatch.setattr(flow, "pairs", lambda *args, **options: itertools.islice(real(*args, **options), 7))
    with pytest.raises(OutputError, match=r"12 frames must give \{'flow': 11\}, but \{'flow': 7\} came out"):
        write_flow(panned, tmp_path / "a", quick())
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [{}, {"notes.txt": b"x"}, {"flow_x_00001.jpg": b"x"}, {"meta.json": b"{}"},
                                     {"meta.json": b"[1"}, {"meta.json": b'{"kind": "flow"}', "mine.doc": b"x"}])
def test_a_folder_of_others_is_left_alone(panned, tmp_path, content):
    path = tmp_path / "a"
    path.mkdir()
    for name, some in content.items():
        (path / name).write_bytes(some)
    with pytest.raises(OutputError, match=r"a cannot be written: there is a folder of that name with other things"):
        write_flow(panned, path, quick())
    assert {name: (path / name).read_bytes() for name in names(path)} == content
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("meta", [b"", bytes(300)])
def test_what_a_power_failure_left_is_replaced(panned, tmp_path, meta):
    path = tmp_path / "a"
    write_flow(panned, path, quick(end=5))
    (path / "meta.json").write_bytes(meta)
    assert read_meta(path) is None
    assert write_flow(panned, path, quick()) == read_meta(path)
    (path / "meta.json").write_bytes(meta)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="other things in it"):
        write_flow(panned, path, quick())


def test_a_file_or_folder_in_the_way(panned, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"file cannot be written: it is not a folder\.$"):
        write_flow(panned, tmp_path / "file", quick())
    with pytest.raises(OutputError, match=r"b cannot be written: .*file is not a folder\.$"):
        write_flow(panned, tmp_path / "file" / "b", quick())
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"folder cannot be written: it is a folder"):
        write_flow(panned, tmp_path / "folder", quick(format="npz"))
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_new_result_replaces_the_whole_old_one(panned, tmp_path):
    write_flow(panned, tmp_path / "a", quick(rgb=True, colours=True))
    write_flow(panned, tmp_path / "a", quick(end=3))
    assert names(tmp_path / "a") == sorted([*(f"flow_{axis}_{n:05d}.jpg" for axis in "xy" for n in (1, 2, 3)),
                                            "meta.json"])
    assert names(tmp_path) == ["a"]


def test_the_meta_of_an_incomplete_result_is_not_read(panned, tmp_path):
    assert read_meta(tmp_path / "a") is None
    write_flow(panned, tmp_path / "a", quick(rgb=True))
    assert read_meta(tmp_path / "a")["counts"] == {"flow": 11, "image": 12}
    for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(b"")):
        for name in ("flow_y_00007.jpg", "img_00012.jpg", "meta.json"):
            shutil.copytree(tmp_path / "a", tmp_path / "b")
            damage(tmp_path / "b" / name)
            assert read_meta(tmp_path / "b") is None, name
            shutil.rmtree(tmp_path / "b")


# ---- in child processes ---------------------------------------------------------------------------------------------

CHILD = """
import sys
import numpy as np
from idt.video_flow.files import write_flow
from idt.video_flow.params import FlowParams
write_flow(np.load(sys.argv[1]), sys.argv[2], FlowParams(method="farneback", format=sys.argv[3]), threads=2,
           progress=lambda *_: print(end=".", flush=True))
"""


@pytest.mark.parametrize("form", ["png", "npz", "h5"])
def test_a_full_disk_is_an_output_error_and_leaves_nothing(panned, tmp_path, form):
    np.save(tmp_path / "video.npy", panned)
    (tmp_path / "out").mkdir()
    limit = 200 if form == "png" else 100_000
    result = subprocess.run([sys.executable, "-c", CHILD, tmp_path / "video.npy", tmp_path / "out" / "a", form],
                            capture_output=True, text=True, timeout=PATIENCE_S,
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert result.stderr.splitlines()[-1].endswith("a cannot be written: File too large.")
    assert "OutputError" in result.stderr
    assert names(tmp_path / "out") == []


def test_a_killed_run_leaves_the_old_result(panned, tmp_path):
    np.save(tmp_path / "video.npy", np.tile(panned, (40, 1, 1)))
    out = tmp_path / "out"
    before = write_flow(panned, out / "a", quick())
    with subprocess.Popen([sys.executable, "-c", CHILD, tmp_path / "video.npy", out / "a", "jpg"],
                          stdout=subprocess.PIPE) as process:
        assert process.stdout.read(20) == b"." * 20
        held = [name for name in names(out) if name != "a"]
        assert sorted(Path(name).suffix for name in held) == [".lock", ".tmp"]
        idt._util.files.remove_leftovers(out)  # of another run at the same time: that of the living is left alone
        assert names(out) == [*held, "a"]
        assert len(names(out / next(name for name in held if name.endswith(".tmp")))) >= 20
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert read_meta(out / "a") == before
    idt._util.files.remove_leftovers(out)
    assert names(out) == ["a"]
