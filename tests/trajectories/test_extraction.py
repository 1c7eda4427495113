"""idt.trajectories.extraction: whole clips against the oracle, known motion, people, and how a pass behaves."""

from __future__ import annotations

import hashlib
import json
import re
import threading

import cv2
import numpy as np
import pytest

import idt
import naive
import synthetic
from idt import Params
from idt.errors import FormatError, ParameterError
from idt.features.record import Features
from idt.flow import compute
from idt.trajectories import camera
from idt.trajectories.extraction import extract, extract_file, stream
from idt.video import frames

CHANNELS = ("hog", "hof", "mbhx", "mbhy")
SHORT = Params(length=5, temporal_cells=2)


def busy(count=14, height=45, width=61):
    """A square that slides over a plane, seen by a moving camera: something of everything."""
    return synthetic.moving_square((1.5, 0.75), camera=synthetic.translation(-1.25, 0.5), frames=count, height=height,
                                   width=width)


def same(a, b):
    """Whether two Features have the same bytes and the same meta."""
    return ({k: (v.dtype, v.shape, v.tobytes()) for k, v in a.arrays().items()}
            == {k: (v.dtype, v.shape, v.tobytes()) for k, v in b.arrays().items()} and a.meta == b.meta)


# Against the oracle


CASES = {
    "default": (Params(), busy(18, 67, 90)),
    "turn": (Params(length=8, temporal_cells=2, dtype="float32"), synthetic.moving_square(
        (1.5, -1.0), camera=synthetic.similarity(0.9, 1.015, (32, 32)), frames=11, height=64, width=66)),
    "long": (Params(length=20, temporal_cells=2, dtype="float32"), busy(22)),
    "patch": (Params(length=6, stride=8, patch=24, spatial_cells=3, dtype="float32"), busy(9, 51, 70)),
    "resample": (Params(length=5, resample=3, dtype="float32"), busy(13)),
    "step": (Params(length=5, step=2, dtype="float32"), busy()),
    "part": (Params(length=5, start=3, end=11, dtype="float32"), busy()),
    "part in steps": (Params(length=4, start=1, end=12, step=2, resample=2, dtype="float32"), busy()),
    "dense": (Params(length=6, camera=False, dtype="float32"), busy(9)),
    "one scale": (Params(length=6, scales=1, dtype="float32"), busy(9, 64, 64)),
    "constants": (Params(length=5, quality=0.05, epsilon=1.0, hof_threshold=0.8, min_motion=0.3, min_std=0.5,
                         max_std=2.5, max_step=2.0, max_step_share=0.21, dtype="float32"), busy(9)),
    "subset": (Params(length=5, descriptors=("trajectory", "hof")), busy(9)),
    "wide": (Params(length=5, min_std=0.5, dtype="float32"), busy(11, 32, 200)),
}

# Largest difference from the oracle: float32 positions of up to 200 px after up to 20 steps, each with a flow that is
# good to 1e-5 px; descriptors as in test_descriptors.
TOLERANCE = {"mean": 1e-4, "std": 1e-4, "length": 2e-4, "points": 2e-4, "scale": 0, "position": 2e-6,
             "trajectory": 5e-6, "hog": 2e-5, "hof": 1e-4, "mbhx": 1e-4, "mbhy": 1e-4}


@pytest.mark.numeric
@pytest.mark.parametrize("name", CASES)
def test_rows_equal_the_oracle(name):
    """Row by row: the same trajectories in the same order; a point on the edge between two pixels may go elsewhere."""
    params, clip = CASES[name]
    given = np.array([np.linalg.matrix_power(clip.homographies[-1], params.step)] * len(clip.frames))
    expected = naive.improved_trajectories(clip.frames, given, params, approximate=True)
    found = extract(clip.frames, params, homographies=given if params.camera else None)
    assert len(found) == len(expected["frame"]) > 10
    # the middle of a trajectory in frames of the video, which the oracle knows only for a step of 1
    last = min(params.end or 10**9, len(clip.frames) - 1)
    span = (last - params.start) // params.step * params.step + 1
    middle = expected["frame"] - params.step * params.length / 2 - params.start
    expected["position"][:, 2] = np.clip(middle / span, 0, 0.999)
    np.testing.assert_array_equal(found.frame, expected["frame"])
    np.testing.assert_array_equal(found.points[:, 0], expected["points"][:, 0])
    for key, tolerance in TOLERANCE.items():
        values = getattr(found, key)
        if key in (*CHANNELS, "trajectory") and key not in params.descriptors:
            assert values is None
            continue
        if key in CHANNELS:
            assert values.dtype == params.dtype
            tolerance += {"float16": 2.0**-12, "float32": 0}[params.dtype]  # half a step of float16 below 1
        far = np.abs(values.astype(np.float32) - expected[key]).reshape(len(found), -1).max(1) > tolerance
        assert far.mean() <= 0.01, key
    np.testing.assert_array_equal(np.isnan(found.time), True)  # an array has no time stamps


def test_homographies_of_the_file():
    """Entry t for every index to the last processed frame, identity where none was used."""
    clip = busy()
    params = Params(length=5, start=3, end=11, step=2)
    given = clip.homographies.copy()
    given[:, 0, 2] += np.arange(len(given)) / 100
    found = extract(clip.frames, params, homographies=given).homographies
    assert found.shape == (12, 3, 3)
    used = np.array([5, 7, 9, 11])
    np.testing.assert_array_equal(found[used], given[used])
    np.testing.assert_array_equal(np.delete(found, used, axis=0), np.broadcast_to(np.eye(3), (8, 3, 3)))
    off = extract(clip.frames, Params(length=5, camera=False)).homographies
    np.testing.assert_array_equal(off, np.broadcast_to(np.eye(3), (14, 3, 3)))


@pytest.mark.parametrize(("params", "inputs", "message"), [
    (Params(camera=False), {"homographies": np.eye(3)[None]}, "homographies are given, but camera is off"),
    (Params(camera=False), {"boxes": [None]}, "boxes are given, but camera is off"),
    (Params(), {"homographies": np.eye(3)[None], "boxes": [None]}, "boxes are given with homographies"),
    (Params(people="hog"), {"boxes": [None]}, "boxes are given, but people is hog"),
    (Params(), {"boxes": 5}, "boxes is of type int: give a box file, or a list"),
    (Params(), {"boxes": [[[1, 2], [3]]]}, "The boxes of frame 0 are no numbers")])
def test_inputs_that_contradict_each_other_or_are_no_boxes(params, inputs, message):
    with pytest.raises(ParameterError, match=message):
        stream(busy(3).frames, params, **inputs)  # said at once, not at the first row


def test_two_streams_at_a_time_give_opencv_its_threads_back():
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        a, b = stream(busy().frames, SHORT), stream(busy().frames, SHORT)
        next(a), next(b)
        assert cv2.getNumThreads() == 1
        assert len(list(a)) == len(list(b)) > 1
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_homographies_are_handed_on_without_rows():
    """A long video in which nothing moves holds none back."""
    chunks = list(stream(np.zeros((2500, 32, 32), np.uint8), Params(length=2, temporal_cells=1, scales=1)))
    assert [len(chunk.homographies) for chunk in chunks] == [1000, 1000, 500]
    assert sum(map(len, chunks)) == 0


def test_the_border_of_the_warp_counts_without_camera_motion():
    """With identity the outer pixels of the warped frame are still those of the previous: section 7.4."""
    clip = synthetic.pan((1.5, 0.5), frames=7, height=45, width=61)
    identity = np.stack([np.eye(3)] * 7)
    with_border = extract(clip.frames, SHORT, homographies=identity)
    without = extract(clip.frames, Params(length=5, temporal_cells=2, camera=False))
    near = np.minimum(without.mean, (61, 45) - without.mean).min(1) < 8
    assert 0 < len(with_border) <= len(without)
    assert near.any()
    middle = ~near
    assert middle.sum() > 10
    order = {tuple(p): i for i, p in enumerate(with_border.points[:, 0])}
    pairs = [(i, order[tuple(p)]) for i, p in enumerate(without.points[:, 0]) if tuple(p) in order]
    change = {i: np.abs(without.trajectory[i] - with_border.trajectory[j]).max() for i, j in pairs}
    assert max(change[i] for i in np.flatnonzero(near) if i in change) > 0.02


# Known motion


MOVES = {"pan": synthetic.pan((1.5, -0.75), frames=20, height=96, width=128),
         "other pan": synthetic.pan((-2.25, 1.5), frames=20, height=96, width=128),
         "turn": synthetic.turn(0.6, 1.01, frames=20, height=96, width=128)}


def corner_error(found, truth, width, height):
    """Largest distance in px at a corner of the frame."""
    x, y = np.array([0, width - 1, 0, width - 1.0]), np.array([0, 0, height - 1, height - 1.0])
    return np.hypot(*np.subtract(synthetic.map_points(found, x, y), synthetic.map_points(truth, x, y))).max()


@pytest.mark.parametrize("matches", [("flow",), ("flow", "orb"), ("sift",)])
@pytest.mark.parametrize("name", MOVES)
def test_camera_motion_is_found_and_leaves_nothing(name, matches):
    clip = MOVES[name]
    found = extract(clip.frames, Params(matches=matches))
    dense = extract(clip.frames, Params(camera=False))
    assert len(dense) > 400
    assert len(found) < 0.01 * len(dense)
    errors = [corner_error(h, truth, 128, 96) for h, truth in zip(found.homographies, clip.homographies, strict=True)]
    assert errors[0] == 0
    assert np.median(errors) < 0.1
    assert max(errors) < 0.3
    assert found.meta["matches"] == list(matches)


def test_a_moving_square_keeps_its_trajectories():
    """Over a panning camera: every one that is left is on the square or within the reach of the flow's windows."""
    clip = synthetic.moving_square((2.0, 0.5), camera=synthetic.translation(-1.5, 0.75), frames=20, height=96,
                                   width=128)
    rows, dense = extract(clip.frames), extract(clip.frames, Params(camera=False))
    assert 20 < len(rows) < len(dense) / 4
    squares = [np.argwhere(moving)[:, ::-1] for moving in clip.moving]
    low, high = np.array([s.min(0) for s in squares]), np.array([s.max(0) for s in squares])
    for frame, scale, points in zip(rows.frame, rows.scale, rows.points, strict=True):
        span, reach = slice(frame - 15, frame + 1), 5 * scale
        assert ((points > low[span] - reach) & (points < high[span] + reach)).all(1).any()


# People


def crowd(count=6, height=110, width=120):
    """A person who covers most of the frame and moves, over a background that moves otherwise; and the boxes."""
    square = synthetic.Square(14.0, 18.0, 84.0, (4.0, -3.0))
    clip = synthetic.scene(count, height, width, camera=synthetic.translation(-1.0, 0.5), square=square, seed=3)
    boxes = []  # with a margin for the frame before, whose corners are used, and for the flow's windows
    for moving in clip.moving:
        rows, columns = (np.flatnonzero(moving.any(axis)) for axis in (1, 0))
        boxes.append(np.array([[columns[0] - 7, rows[0] - 7, columns[-1] + 7, rows[-1] + 7]], np.float64))
    return clip, boxes


def test_people_are_left_out_of_the_estimate():
    clip, boxes = crowd()
    assert clip.moving[2].mean() > 0.5
    person = synthetic.translation(3.0, -2.5)  # its own motion and the camera's
    without, masked = extract(clip.frames, SHORT), extract(clip.frames, SHORT, boxes=boxes)
    for t in range(1, 6):
        assert corner_error(masked.homographies[t], clip.homographies[t], 120, 110) < 0.2
        assert corner_error(without.homographies[t], person, 120, 110) < 0.5
    assert masked.meta["inputs"]["boxes"] is not None
    assert without.meta["inputs"]["boxes"] is None


@pytest.mark.parametrize("matches", ["flow", "sift"])
def test_no_match_inside_a_box_is_used(monkeypatch, matches):
    """Corners are found on the previous frame with the mask of the current one."""
    clip, boxes = crowd()
    seen = []

    def record(source, target, params):
        seen.append((source.copy(), target.copy()))

    monkeypatch.setattr(camera, "homography", record)
    extract(clip.frames, Params(length=5, matches=matches), boxes=boxes)
    assert len(seen) == 5
    for t, (source, target) in enumerate(seen, 1):
        at, (x1, y1, x2, y2) = (source if matches == "flow" else target), boxes[t][0]
        inside = (at[:, 0] >= x1) & (at[:, 0] <= x2) & (at[:, 1] >= y1) & (at[:, 1] <= y2)
        assert len(at) > 20
        assert not inside.any()
    seen.clear()
    extract(clip.frames, Params(length=5, matches=matches), boxes=[np.empty((0, 4))] * 6)
    assert len(seen[0][0]) > 60


def test_flow_matches_are_corners_of_the_previous_frame_and_the_flow_there(monkeypatch):
    clip = busy(3)
    seen = []
    monkeypatch.setattr(camera, "homography", lambda source, target, params: seen.append((source, target)))
    extract(clip.frames, Params(length=2, temporal_cells=1, corners=30, corner_distance=5.0))
    flow = compute(clip.frames[0], clip.frames[1], method="farneback")
    expected = cv2.goodFeaturesToTrack(clip.frames[0], 30, 0.001, 5.0, blockSize=3).reshape(-1, 2)
    source, target = seen[0]
    assert {tuple(p) for p in source} == {tuple(p) for p in expected}
    x, y = source.astype(int).T
    np.testing.assert_array_equal(target - source, (source + flow[y, x]) - source)


def test_boxes_from_a_file_are_those_of_a_list(tmp_path):
    clip, boxes = crowd()
    path = tmp_path / "boxes.txt"
    path.write_text("".join(f"{t} {' '.join(map(str, b[0]))} 0.9\n" for t, b in enumerate(boxes)))
    listed, read = extract(clip.frames, SHORT, boxes=boxes), extract(clip.frames, SHORT, boxes=path)
    np.testing.assert_array_equal(listed.homographies, read.homographies)
    np.testing.assert_array_equal(listed.points, read.points)
    assert read.meta["inputs"]["boxes"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len({f.meta["key"] for f in (listed, read, extract(clip.frames, SHORT))}) == 3


def test_boxes_are_in_pixels_of_the_video_before_the_resize():
    clip, boxes = crowd()
    small = np.array([frame.grey for frame in frames(clip.frames, short_side=80)])
    height, width = small.shape[1:]
    scaled = [b * np.tile([width / 120, height / 110], 2) for b in boxes]
    resized = extract(clip.frames, Params(length=5, short_side=80), boxes=boxes)
    expected = extract(small, Params(length=5), boxes=scaled)
    np.testing.assert_array_equal(resized.homographies, expected.homographies)
    np.testing.assert_array_equal(resized.points, expected.points)
    np.testing.assert_array_equal(resized.position, expected.position)
    assert (resized.meta["video"]["width"], resized.meta["video"]["height"]) == (width, height)


@pytest.mark.parametrize("threads", [1, 2])
def test_too_few_boxes(tmp_path, threads):
    clip, boxes = crowd()
    with pytest.raises(FormatError, match=r"boxes has 4 frames and no line 5, but the video has a frame 4: give one"):
        extract(clip.frames, SHORT, boxes=boxes[:4], threads=threads)
    path = tmp_path / "b.txt"
    path.write_text("0\n1\n")
    with pytest.raises(FormatError, match=r"b\.txt has 2 frames and no line 3, but the video has a frame 2"):
        extract(clip.frames, SHORT, boxes=path, threads=threads)


def test_more_boxes_than_frames_are_fine():
    clip, boxes = crowd()
    a, b = extract(clip.frames, SHORT, boxes=boxes), extract(clip.frames, SHORT, boxes=boxes + boxes)
    np.testing.assert_array_equal(a.homographies, b.homographies)


def test_an_empty_list_is_nobody():
    clip, boxes = crowd()
    a = extract(clip.frames, SHORT, boxes=[[], *boxes[1:5], []])
    b = extract(clip.frames, SHORT, boxes=[np.empty((0, 4)), *boxes[1:5], np.empty((0, 4))])
    np.testing.assert_array_equal(a.homographies, b.homographies)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((1, 3)), np.zeros((1, 5)), np.zeros(4)])
def test_boxes_of_another_shape(bad):
    clip, boxes = crowd()
    with pytest.raises(ParameterError, match=r"The boxes have the shape .*: it must be \(n, 4\)"):
        extract(clip.frames, SHORT, boxes=[bad, *boxes[1:]])


def test_boxes_of_other_frames_have_another_digest():
    """Two boxes on frame 0 are not one on each of the first two frames."""
    clip = busy(3)
    nobody, one, two = np.empty((0, 4)), np.ones((1, 4)), np.ones((2, 4))
    a, b = (extract(clip.frames, SHORT, boxes=boxes).meta for boxes in ([two, nobody, nobody], [one, one, nobody]))
    assert a["inputs"]["boxes"] != b["inputs"]["boxes"]
    assert a["key"] != b["key"]


# Homographies that are given


def test_homographies_from_files(tmp_path):
    clip = busy(9)
    direct = extract(clip.frames, SHORT, homographies=clip.homographies)
    np.save(tmp_path / "h.npy", clip.homographies)
    np.savez(tmp_path / "h.npz", homographies=clip.homographies, other=np.zeros(3))
    direct.save(tmp_path / "features.npz")
    for name in ("h.npy", "h.npz", "features.npz"):
        found = extract(clip.frames, SHORT, homographies=tmp_path / name)
        np.testing.assert_array_equal(found.points, direct.points)
        np.testing.assert_array_equal(found.hof, direct.hof)
        np.testing.assert_array_equal(found.homographies, direct.homographies)
        assert found.meta["matches"] == []
        assert found.meta["inputs"]["homographies"] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert direct.meta["inputs"]["homographies"] == hashlib.sha256(clip.homographies.tobytes()).hexdigest()


@pytest.mark.parametrize("threads", [1, 2])
def test_homographies_too_short(threads):
    clip = busy(9)
    with pytest.raises(ParameterError, match="homographies has 5 entries, but there is a frame 5: give one for every"):
        extract(clip.frames, SHORT, homographies=clip.homographies[:5], threads=threads)
    part = Params(length=3, end=4)
    assert extract(clip.frames, part, homographies=clip.homographies[:5]).homographies.shape == (5, 3, 3)


@pytest.mark.parametrize(("given", "message"), [
    (np.eye(3), r"homographies has shape \(3, 3\) and type float64: it must be \(T, 3, 3\) finite numbers"),
    (np.zeros((9, 2, 3)), r"has shape \(9, 2, 3\)"),
    (np.full((9, 3, 3), np.nan), "finite numbers"),
    (np.full((9, 3, 3), "x"), "type <U1"),
    (np.zeros((9, 3, 3), complex), "type complex128")])
def test_homographies_of_another_shape_or_type(given, message):
    with pytest.raises(FormatError, match=message):
        extract(busy(3).frames, SHORT, homographies=given)


@pytest.mark.parametrize(("name", "content"), [
    ("missing.npz", None), ("empty.npy", b""), ("text.txt", b"1 2 3\n"), ("cut.npz", b"PK\x03\x04")])
def test_homographies_that_cannot_be_read(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError, match=rf"{name}: no homographies can be read from it \("):
        extract(busy(3).frames, SHORT, homographies=path)


def test_homographies_files_that_are_damaged_or_hold_something_else(tmp_path):
    clip = busy(3)
    np.savez(tmp_path / "h.npz", matrices=clip.homographies)
    with pytest.raises(FormatError, match=r"h\.npz: .* it must be an \.npz with an array named homographies"):
        extract(clip.frames, SHORT, homographies=tmp_path / "h.npz")
    np.savez(tmp_path / "h.npz", homographies=clip.homographies)
    damaged = bytearray((tmp_path / "h.npz").read_bytes())
    damaged[300] ^= 255
    (tmp_path / "h.npz").write_bytes(damaged)
    with pytest.raises(FormatError, match=r"h\.npz: no homographies can be read from it"):
        extract(clip.frames, SHORT, homographies=tmp_path / "h.npz")
    with pytest.raises(FormatError, match="no homographies can be read from it"):
        extract(clip.frames, SHORT, homographies=tmp_path)


# A pass


def test_chunks_make_the_whole():
    clip = busy()
    chunks = list(stream(clip.frames, SHORT))
    whole = extract(clip.frames, SHORT)
    assert same(Features.concatenate(chunks), whole)
    assert len(chunks) > 3
    assert all(len(np.unique(chunk.frame)) == 1 for chunk in chunks[:-1])
    assert len(chunks[-1]) == 0
    assert sum(len(chunk.homographies) for chunk in chunks) == 14
    for chunk in chunks:
        assert np.isnan(chunk.position[:, 2]).all()
        assert "video" not in chunk.meta or chunk is chunks[-1]
    np.testing.assert_allclose(whole.position[:, 2], np.clip((whole.frame - 2.5) / 14, 0, 0.999), rtol=1e-6)


@pytest.mark.parametrize("params", [Params(), Params(camera=False), Params(length=5, matches=("flow", "orb", "sift"))])
def test_threads_and_repetition_change_nothing(params):
    clip = busy(19, 67, 90)
    first = extract(clip.frames, params)
    assert len(first) > 10
    for threads in (1, 2, 3, 2):
        assert same(extract(clip.frames, params, threads=threads), first)


def test_opencv_threads_change_nothing():
    clip = busy(9)
    results = []
    before = cv2.getNumThreads()
    try:
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            results.append(extract(clip.frames, Params(length=5, matches=("flow", "sift"))))
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    assert same(*results)


def test_meta():
    clip = busy(12)
    found = extract(clip.frames, Params(length=4, start=2, end=9, step=3))
    assert found.meta["kind"] == "features"
    assert found.meta["params"] == Params(length=4, start=2, end=9, step=3).to_dict()
    assert found.meta["span"] == {"first": 2, "last": 8, "frames": 7}
    assert found.meta["rows"] == len(found)
    video = found.meta["video"]
    assert (video["width"], video["height"], video["damaged_frames"], video["fps"]) == (61, 45, 0, None)
    assert found.meta["package"] == idt.__version__
    assert json.loads(json.dumps(found.meta)) == found.meta
    assert found.meta["inputs"] == {"homographies": None, "boxes": None}
    assert found.meta["key"] != extract(clip.frames, Params(length=4, start=2, end=9)).meta["key"]
    assert found.meta["key"] != extract(clip.frames[:, ::-1], Params(length=4, start=2, end=9, step=3)).meta["key"]


def test_written_features_are_those_in_memory(tmp_path):
    clip = busy()
    meta = extract_file(clip.frames, tmp_path / "f.npz", SHORT, threads=2)
    loaded, whole = Features.load(tmp_path / "f.npz"), extract(clip.frames, SHORT)
    assert {k: v.tobytes() for k, v in loaded.arrays().items()} == {k: v.tobytes() for k, v in whole.arrays().items()}
    assert meta["key"] == whole.meta["key"] == loaded.meta["key"]
    assert len(whole) == meta["rows"] > 0
    for threads in (1, 2):
        extract_file(clip.frames, tmp_path / f"{threads}.npz", SHORT, threads=threads)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes() == (tmp_path / "f.npz").read_bytes()


def test_grey_and_colour_arrays():
    """Three equal channels are that grey; other colours are weighed by the luma."""
    grey = busy(9).frames
    plain, coloured = extract(grey, SHORT), extract(np.stack([grey] * 3, axis=3), SHORT)
    for name, values in plain.arrays().items():
        np.testing.assert_array_equal(values, getattr(coloured, name), err_msg=name)
    rgb = np.stack([grey, grey[:, ::-1], grey[:, :, ::-1]], axis=3)
    luma = (rgb.astype(np.int64) @ [9798, 19235, 3735] + 2**14) >> 15
    mixed, expected = extract(rgb, SHORT), extract(luma.astype(np.uint8), SHORT)
    np.testing.assert_array_equal(mixed.points, expected.points)
    np.testing.assert_array_equal(mixed.hog, expected.hog)


def test_any_memory_order_of_the_array():
    frames_ = busy(9).frames
    expected = extract(frames_, SHORT)
    backwards = frames_[:, ::-1].copy()
    for view in (np.asfortranarray(frames_), np.repeat(frames_, 2, axis=2)[:, :, ::2], backwards[:, ::-1]):
        view.flags.writeable = False
        np.testing.assert_array_equal(extract(view, SHORT).points, expected.points)


def test_the_default_is_the_default():
    clip = busy(17)
    assert same(extract(clip.frames), extract(clip.frames, Params()))


@pytest.mark.parametrize("descriptors", ["trajectory", "hog", ("hof", "mbhy"), ("trajectory", "mbhx")])
def test_only_what_is_wanted(descriptors):
    clip = busy(9)
    whole = extract(clip.frames, SHORT)
    part = extract(clip.frames, Params(length=5, temporal_cells=2, descriptors=descriptors))
    assert len(part) == len(whole) > 0
    for name in ("trajectory", *CHANNELS):
        if name in descriptors:
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))
        else:
            assert getattr(part, name) is None
    np.testing.assert_array_equal(part.points, whole.points)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("params", "total"), [(SHORT, 14), (Params(length=3, start=2, end=11, step=3), 4),
                                               (Params(length=3, end=99), 14)])
def test_progress(threads, params, total):
    calls = []
    found = extract(busy().frames, params, progress=lambda *a: calls.append(a), threads=threads)
    assert [c[0] for c in calls] == list(range(1, total + 1))
    assert {c[1] for c in calls} == {total}
    rows = [c[2] for c in calls]
    assert rows == sorted(rows)
    assert rows[-1] == len(found)
    assert rows[params.length - 1] == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_closing_early_leaves_nothing_behind(threads):
    before = cv2.getNumThreads()
    running = set(threading.enumerate())
    try:
        cv2.setNumThreads(2)
        chunks = stream(busy().frames, SHORT, threads=threads)
        assert cv2.getNumThreads() == 2  # nothing happens before the first chunk is asked for
        assert len(next(chunks)) > 0
        chunks.close()
        assert cv2.getNumThreads() == 2
        assert set(threading.enumerate()) <= running
        assert list(chunks) == []
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_on_the_way_leaves_nothing_behind(threads):
    before = cv2.getNumThreads()
    running = set(threading.enumerate())

    def stop(done, total, rows):
        if done == 4:
            raise KeyboardInterrupt

    try:
        cv2.setNumThreads(2)
        with pytest.raises(KeyboardInterrupt):
            extract(busy().frames, SHORT, progress=stop, threads=threads)
        assert cv2.getNumThreads() == 2
        assert set(threading.enumerate()) <= running
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2", None])
def test_number_of_threads(threads):
    with pytest.raises(ParameterError, match=f"threads is {threads!r}: it must be an integer from 1"):
        extract(busy(3).frames, SHORT, threads=threads)


# Nothing to find


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("video", "params", "reason"), [
    (synthetic.still(frames=17, height=45, width=61).frames, Params(), "still: no track moved enough"),
    (synthetic.still(frames=17, height=45, width=61).frames, Params(camera=False), "still: no track moved enough"),
    (synthetic.flat(frames=17).frames, Params(), "still: no track moved enough"),
    (synthetic.flat(0, frames=17).frames, Params(), "still: no track moved enough"),
    (busy(15).frames, Params(), "too short: 15 frames were processed, a trajectory of length 15 needs 16"),
    (busy(1).frames, Params(), "too short: 1 frame was processed, a trajectory of length 15 needs 16"),
    (busy().frames, Params(length=5, step=3), "too short: 5 frames were processed, a trajectory of length 5 needs 6"),
    (busy().frames, Params(length=5, start=10), "too short: 4 frames"),
    (busy().frames, Params(length=5, start=50), "too short: start is 50, but the video has 14 frames"),
    (busy(17, 31, 61).frames, Params(), r"too small: the frames are 61x31 pixels, .* at least the patch \(32\)"),
    (busy(17, 45, 61).frames, Params(patch=46, length=5), r"too small: .*at least the patch \(46\)")])
def test_zero_rows_and_why(video, params, reason, threads):
    found = extract(video, params, threads=threads)
    assert len(found) == 0
    assert re.match(reason, found.meta["reason"])
    assert found.trajectory.shape == (0, 2 * params.length)
    assert found.points.shape == (0, params.length + 1, 2)
    assert found.hog.shape == (0, 96)
    assert found.hof.shape == (0, 108)
    assert found.hof.dtype == np.float16
    assert found.meta["rows"] == 0
    assert found.homographies.shape == (found.meta["span"]["last"] + 1, 3, 3)


def test_there_is_no_reason_when_there_are_rows():
    assert extract(busy(9).frames, SHORT).meta["reason"] is None


@pytest.mark.parametrize(("params", "size"), [(Params(length=3, patch=4, stride=2), (16, 17)),
                                              (Params(length=3), (32, 33)),
                                              (Params(length=3, patch=9, spatial_cells=3, stride=3), (20, 31))])
def test_the_smallest_frames(params, size):
    """Short sides down to the patch; against the oracle again, since levels shrink to a few pixels."""
    clip = synthetic.pan((1.5, 1.0), frames=7, height=size[0], width=size[1])
    given = np.stack([np.eye(3)] * 7)
    found = extract(clip.frames, params, homographies=given)
    expected = naive.improved_trajectories(clip.frames, given, params, approximate=True)
    assert len(found) == len(expected["frame"]) > 0
    np.testing.assert_allclose(found.points, expected["points"], atol=1e-3)
    for name in CHANNELS:
        np.testing.assert_allclose(getattr(found, name), expected[name], atol=2e-3, err_msg=name)
