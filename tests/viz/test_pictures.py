"""Pictures: known colours at known places, the size and length of what is written, and what does not fit."""

from __future__ import annotations

import dataclasses
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from clips import write_clip

from idt.errors import OutputError, ParameterError, VideoError
from idt.features.record import Features
from idt.params import Params
from idt.video import frames, identity
from idt.video_flow.params import FlowParams
from idt.viz.pictures import draw_flow, draw_trajectory, flow_colours, overlay
from synthetic import pan

HEIGHT, WIDTH, COUNT = 36, 48, 12
ZOOM = 20  # of such small frames, to 720 pixels of short side
LENGTH = 4


def features(ends: list[int], points: np.ndarray, camera: np.ndarray | None = None, *, count: int = COUNT,
             size: tuple[int, int] = (WIDTH, HEIGHT), **params: Any) -> Features:
    """Features with the given tracks and, on every processed frame but the first, the given homography."""
    made_with = Params(length=points.shape[1] - 1, temporal_cells=1, **params)
    rows = len(ends)
    homographies = np.tile(np.eye(3), (count, 1, 1))
    if camera is not None:
        homographies[made_with.start + made_with.step::made_with.step] = camera
    return Features(
        frame=np.array(ends, np.int32), time=np.array(ends) / 25, mean=np.zeros((rows, 2), np.float32),
        std=np.zeros((rows, 2), np.float32), length=np.zeros(rows, np.float32), scale=np.ones(rows, np.float32),
        position=np.zeros((rows, 3), np.float32), points=points.astype(np.float32), homographies=homographies,
        meta={"params": made_with.to_dict(),
              "video": {"width": size[0], "height": size[1], "decoded_frames": count}})


def track(first: tuple[float, float], step: tuple[float, float]) -> np.ndarray:
    return np.array(first) + np.arange(LENGTH + 1)[:, None] * np.array(step)


def black(count: int = COUNT, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.zeros((count, height, width), np.uint8)


def pixel(picture: np.ndarray, x: float, y: float, zoom: int = ZOOM) -> list[int]:
    """BGR in the enlarged picture at a point of the frame."""
    return picture[round((y + 0.5) * zoom - 0.5), round((x + 0.5) * zoom - 0.5)].tolist()


def hue(bgr: list[int]) -> float:
    """Hue in degrees: red 0, yellow 60, green 120, cyan 180, blue 240, magenta 300."""
    return float(cv2.cvtColor(np.array([[bgr]], np.float32) / 255, cv2.COLOR_BGR2HSV)[0, 0, 0])


def saturation(bgr: list[int]) -> float:
    return 1 - min(bgr) / max(bgr)


def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written into pictures from now on."""
    written: list[str] = []
    monkeypatch.setattr(cv2, "putText", lambda picture, text, *rest: written.append(text))
    return written


# --- flow ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("motion", "bgr"), [
    ((0, 0), (255, 255, 255)), ((2, 0), (0, 0, 255)), ((1, 0), (128, 128, 255)), ((2.5, 0), (0, 0, 191)),
    ((0, 2), (0, 234, 255)), ((-2, 0), (255, 197, 0)), ((0, -2), (255, 0, 103)), ((np.nan, 0), (0, 0, 0)),
    ((0, np.inf), (0, 0, 0)), ((1.7e9, 1.7e9), (0, 0, 0))])
def test_flow_colours(motion: tuple[float, float], bgr: tuple[int, int, int]) -> None:
    picture = flow_colours(np.full((3, 4, 2), motion, np.float32), largest=2)
    assert picture.shape == (3, 4, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_allclose(picture[1, 2], bgr, atol=1)


def test_flow_colours_without_a_scale_use_the_largest_known_speed() -> None:
    flow = np.array([[[3, 0], [1.5, 0], [1e10, 0]]], np.float32)
    np.testing.assert_array_equal(flow_colours(flow)[0], [[0, 0, 255], [128, 128, 255], [0, 0, 0]])
    assert (flow_colours(np.zeros((2, 2, 2))) == 255).all()


def test_flow_colours_refuse() -> None:
    with pytest.raises(ParameterError, match=r"^The flow has the shape \(4, 4\): it must be \(H, W, 2\)\.$"):
        flow_colours(np.zeros((4, 4)))
    with pytest.raises(ParameterError, match=r"^largest is 0: it must be above 0 pixels\.$"):
        flow_colours(np.zeros((4, 4, 2)), largest=0)


def columns(picture: np.ndarray, number: int) -> list[np.ndarray]:
    """The pictures of frames of 96x72 pixels side by side, each enlarged 7 times, without their headings."""
    assert picture.shape == (72 * 7 + 31, number * (96 * 7 + 3) - 3, 3)
    return [picture[31:, n * (96 * 7 + 3):][:, :96 * 7] for n in range(number)]


def test_flow_of_a_moving_camera_with_and_without_it(tmp_path: Path) -> None:
    video = pan((1.0, 0.0), frames=5).frames
    draw_flow(video, tmp_path / "a.png", FlowParams(method="farneback", warped=True))
    shown, flow, rest = columns(cv2.imread(str(tmp_path / "a.png")), 3)
    assert np.abs(shown[3::7, 3::7, 0].astype(int) - video[1]).mean() < 1  # the middle of four pairs, the earlier one
    middle = slice(7 * 20, 7 * 52), slice(7 * 30, 7 * 66)
    # Full colour is 72 / 48 pixels a frame.
    np.testing.assert_allclose(flow[middle].mean(axis=(0, 1)), [85, 85, 255], atol=6)
    np.testing.assert_allclose(rest[middle].mean(axis=(0, 1)), [255, 255, 255], atol=6)


def test_flow_over_several_frames_is_shown_as_pixels_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = pan((0.0, -0.75), frames=8).frames
    params = FlowParams(method="dis", start=1, step=2, every=2)
    draw_flow(video, tmp_path / "a.png", params, frame=3)
    shown, flow = columns(cv2.imread(str(tmp_path / "a.png")), 2)
    assert np.abs(shown[3::7, 3::7, 0].astype(int) - video[3]).mean() < 1
    np.testing.assert_allclose(flow[7 * 30, 7 * 48], [255, 128, 178], atol=12)  # upward, half the full speed
    draw_flow(video, tmp_path / "b.png", dataclasses.replace(params, direction="backward"), frame=3)
    shown, flow = columns(cv2.imread(str(tmp_path / "b.png")), 2)
    assert np.abs(shown[3::7, 3::7, 0].astype(int) - video[5]).mean() < 1
    np.testing.assert_allclose(flow[7 * 30, 7 * 48], [128, 245, 255], atol=12)
    written = texts(monkeypatch)
    draw_flow(video, tmp_path / "a.png", params, frame=3)
    assert written == ["1.5 px/frame", "frame 3", "dis flow"]


def test_video_of_flow(tmp_path: Path) -> None:
    seen: list[Any] = []
    draw_flow(pan((1.0, 0.0), frames=6).frames, tmp_path / "a.mp4", FlowParams(method="dis", every=2),
              progress=lambda *state: seen.append(state))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == 25 / 2
    shown = [frame.bgr for frame in frames(tmp_path / "a.mp4", colour=True)]
    assert len(shown) == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for picture in shown:
        flow = picture[31:535, 675:1347]
        np.testing.assert_allclose(flow[140:364, 210:462].mean(axis=(0, 1)), [85, 85, 255], atol=8)
        wheel = flow[-84:, :84][10:-10, 10:-10]
        assert hue(wheel[60, 32].tolist()) == pytest.approx(55, abs=6)  # downward is yellow
        assert wheel[32, 32].min() > 200  # no motion is white


def test_flow_of_a_large_video_is_reduced(tmp_path: Path) -> None:
    draw_flow(black(2, 900, 1000), tmp_path / "a.png", FlowParams(method="dis"))
    assert cv2.imread(str(tmp_path / "a.png")).shape == (720 + 45, 2 * 800 + 5, 3)


def test_flow_without_a_homography_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = texts(monkeypatch)
    draw_flow(black(2, 72, 96), tmp_path / "a.png", FlowParams(method="dis", warped=True))
    assert written[1:] == ["frame 0", "dis flow", "flow (no camera motion was found)"]


@pytest.mark.parametrize(("frame", "params", "message"), [
    (-1, {}, r"^frame is -1: the earlier frames of the pairs are from 0 to 10\.$"),
    (11, {}, r"^frame is 11: .* from 0 to 10\.$"),
    (0, {"start": 1, "every": 3, "step": 2}, r"^frame is 0: .* from 1 to 7, 3 apart\.$"),
    (5, {"start": 1, "every": 3, "step": 2}, r"^frame is 5: "),
    (10, {"start": 1, "every": 3, "step": 2}, r"^frame is 10: "),
    (4, {"end": 4}, r"^frame is 4: .* from 0 to 3\.$")])
def test_pairs_that_there_are_not(tmp_path: Path, frame: int, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        draw_flow(black(), tmp_path / "a.png", FlowParams(method="dis", **params), frame=frame)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_flow_that_cannot_be_drawn(tmp_path: Path, name: str) -> None:
    with pytest.raises(VideoError, match=r"^The array has no flow to draw: from frame 11 on it has fewer than 2 fr"):
        draw_flow(black(), tmp_path / name, FlowParams(method="dis", start=11))
    with pytest.raises(ParameterError, match=r"b\.gif: the name of a view must end in \.mp4"):
        draw_flow(black(), tmp_path / "b.gif")
    with pytest.raises(ParameterError, match=r"frame is 3: only a picture \(\.png\) shows one frame"):
        draw_flow(black(), tmp_path / "a.mp4", frame=3)
    with pytest.raises(VideoError, match=r"none\.avi"):
        draw_flow("none.avi", tmp_path / name)
    assert not list(tmp_path.iterdir())


# --- pictures ------------------------------------------------------------------------------------------------------

def test_picture_of_one_track(tmp_path: Path) -> None:
    found = features([6], track((10, 10), (4, 0))[None])
    overlay(black(), found, tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture.shape == (HEIGHT * ZOOM, WIDTH * ZOOM, 3)
    dot = pixel(picture, 26, 10)
    assert dot[2] == 255
    assert hue(dot) == pytest.approx(0, abs=1)  # to the right is red
    assert 0.6 < saturation(dot) < 0.95
    trail = [pixel(picture, x, 10)[2] for x in (12, 16, 20, 24)]
    assert trail == sorted(trail)  # the older, the fainter
    assert trail[0] == pytest.approx(255 * 0.9**3, abs=3)
    assert pixel(picture, 28, 10) == pixel(picture, 20, 12) == [0, 0, 0]


def test_the_frame_shines_through(tmp_path: Path) -> None:
    video = np.repeat(np.arange(0, 240, 20, dtype=np.uint8)[:, None, None], HEIGHT, 1).repeat(WIDTH, 2)
    overlay(video, features([6], track((10, 10), (4, 0))[None]), tmp_path / "a.png", frame=9)
    assert pixel(cv2.imread(str(tmp_path / "a.png")), 40, 20) == [126] * 3  # 180 at 0.7


def test_the_colour_is_that_of_the_motion_without_the_camera(tmp_path: Path) -> None:
    camera = np.array([[1.0, 0, 3], [0, 1, 1], [0, 0, 1]])
    found = features([6, 6], np.stack([track((5, 20), (3, -1)), track((25, 10), (3, 3))]), camera)
    overlay(black(), found, tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png"))
    upward, downward = hue(pixel(picture, 17, 16)), hue(pixel(picture, 37, 22))
    assert upward == pytest.approx(hue([255, 0, 103]), abs=3)
    assert downward == pytest.approx(hue([0, 234, 255]), abs=3)


def test_the_motion_follows_turns_and_zooms(tmp_path: Path) -> None:
    # A point fixed to a scene that turns has no motion left; beside one that moves on its own it is the paler.
    angle = np.radians(8)
    camera = np.array([[np.cos(angle), -np.sin(angle), 3], [np.sin(angle), np.cos(angle), -4], [1e-4, 0, 1]])
    fixed = [np.array([30.0, 15, 1])]
    for _ in range(LENGTH):
        fixed.append(camera @ fixed[-1])
    fixed_points = np.array([p[:2] / p[2] for p in fixed])
    found = features([6, 6], np.stack([fixed_points, track((5, 30), (2, 0))]), camera)
    overlay(black(), found, tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert saturation(pixel(picture, *fixed_points[-1])) < 0.5 < saturation(pixel(picture, 13, 30))


def test_the_frame_on_which_most_tracks_end(tmp_path: Path) -> None:
    points = np.stack([track((10, y), (2, 0)) for y in (5, 10, 15, 20)])
    found = features([5, 8, 8, 11], points)
    overlay(black(), found, tmp_path / "a.png")
    overlay(black(), found, tmp_path / "b.png", frame=8)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert pixel(picture, 18, 10)[2] == pixel(picture, 18, 15)[2] == 255
    assert pixel(picture, 12, 20)[2] == 255  # on its way
    assert pixel(picture, 18, 20) == [0, 0, 0]
    assert 0 < pixel(picture, 17, 5)[2] < 220  # ended three frames ago


def test_rows_in_any_order(tmp_path: Path) -> None:
    points = np.stack([track((10, y), (2, 0)) for y in (5, 10, 15, 20)])
    overlay(black(), features([5, 8, 8, 11], points), tmp_path / "a.png", frame=8)
    overlay(black(), features([11, 8, 5, 8], points[[3, 1, 0, 2]]), tmp_path / "b.png", frame=8)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_start_and_step(tmp_path: Path) -> None:
    # Frames 1, 4, 7, 10 and 13 are processed, 3 pixels from one to the next.
    found = features([13], track((10, 10), (3, 0))[None], count=16, start=1, step=3)
    overlay(black(16), found, tmp_path / "a.png", frame=7)
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert pixel(picture, 16, 10)[2] == 255
    assert pixel(picture, 11, 10)[2] > 0
    assert pixel(picture, 18, 10) == [0, 0, 0]


def test_resized_frames(tmp_path: Path) -> None:
    found = features([6], track((10, 10), (4, 0))[None], short_side=HEIGHT)
    overlay(black(height=HEIGHT * 2, width=WIDTH * 2), found, tmp_path / "a.png")
    assert pixel(cv2.imread(str(tmp_path / "a.png")), 26, 10)[2] == 255


def test_background_tracks_are_dim_grey_and_beneath(tmp_path: Path) -> None:
    points = np.stack([track((10, 10), (4, 0)), track((10, 20), (4, 0))])
    overlay(black(), features([6], points[:1]), tmp_path / "a.png", background=features([6, 6], points, min_motion=0))
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert pixel(picture, 26, 10)[2] == 255
    dim = pixel(picture, 26, 20)
    assert dim[0] == dim[1] == dim[2]
    assert 60 < dim[0] < 160


def test_two_methods_side_by_side(tmp_path: Path) -> None:
    right, down = features([6], track((10, 10), (4, 0))[None]), features([6, 6], np.stack(
        [track((10, 10), (0, 1.5)), track((20, 10), (0, 1.5))]), stride=3)
    overlay(black(), right, tmp_path / "a.png", beside=down)
    picture = cv2.imread(str(tmp_path / "a.png"))
    zoom, width, bar = 13, 13 * WIDTH, 29  # each to 480 pixels of short side, under a heading
    assert picture.shape == (13 * HEIGHT + bar, 2 * width + 3, 3)
    one, other = picture[bar:, :width], picture[bar:, width + 3:]
    assert hue(pixel(one, 26, 10, zoom)) == pytest.approx(0, abs=1)
    assert pixel(one, 20, 16, zoom) == pixel(other, 26, 10, zoom) == [0, 0, 0]
    assert hue(pixel(other, 20, 16, zoom)) == pytest.approx(55, abs=2)
    # The scale is that of the faster: alone the slower would have more colour.
    overlay(black(), down, tmp_path / "b.png", side=zoom * HEIGHT)
    alone = cv2.imread(str(tmp_path / "b.png"))
    assert saturation(pixel(other, 20, 16, zoom)) < saturation(pixel(alone, 20, 16, zoom)) - 0.1
    overlay(black(), down, tmp_path / "b.png", beside=right)
    assert pixel(cv2.imread(str(tmp_path / "b.png"))[bar:], 20, 16, zoom) == pixel(other, 20, 16, zoom)
    overlay(black(), right, tmp_path / "a.mp4", beside=down, side=72)
    shown = [frame.bgr for frame in frames(tmp_path / "a.mp4", colour=True)]
    assert [picture.shape for picture in shown] == [(84, 194, 3)] * COUNT


def test_headings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = texts(monkeypatch)
    one = features([6], track((10, 10), (4, 0))[None], stride=8)
    two = features([6, 6], np.stack([track((10, 10), (4, 0))] * 2), flow="tvl1")
    video = black(width=WIDTH * 3)
    for found in (one, two):
        found.meta["video"]["width"] = WIDTH * 3
    overlay(video, one, tmp_path / "a.png", beside=two)
    assert [*dict.fromkeys(text for text in written if "px" not in text)] == [
        '1 trajectory, improved, stride = 8, flow = farneback', '2 trajectories, improved, stride = 5, flow = tvl1']
    written.clear()
    one.save(tmp_path / "a.npz")
    saved = Features.load(tmp_path / "a.npz")
    overlay(video, dataclasses.replace(saved, path="x" * 500), tmp_path / "a.png", beside=one)
    assert any(text.startswith("1 trajectory, xxxx") and text.endswith("x...") and len(text) < 250
               for text in written)
    assert "1 trajectory, features" in written


@pytest.mark.parametrize(("all_letters", "name"), [(True, "née 歩く?.npz"), (False, "nee ???.npz")])
def test_headings_in_any_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_letters: bool, name: str) -> None:
    if all_letters:
        monkeypatch.setattr(cv2, "FontFace", None, raising=False)
    else:
        monkeypatch.delattr(cv2, "FontFace", raising=False)  # as in OpenCV 4
    written = texts(monkeypatch)
    found = features([6], track((10, 10), (4, 0))[None], size=(WIDTH * 3, HEIGHT))
    found = dataclasses.replace(found, path="née 歩く\udcff.npz")
    overlay(black(width=WIDTH * 3), found, tmp_path / "a.png", beside=found)
    assert {text for text in written if "px" not in text} == {f"1 trajectory, {name}"}


def test_legend(tmp_path: Path) -> None:
    overlay(black(), features([6], track((10, 10), (1.5, 0))[None]), tmp_path / "a.png")
    corner = cv2.imread(str(tmp_path / "a.png"))[-121:, :230]
    wheel = corner[:, 15:106]
    assert hue(wheel[60, 80].tolist()) == pytest.approx(0, abs=4)
    assert hue(wheel[80, 45].tolist()) == pytest.approx(55, abs=4)
    assert (corner[:, 115:] > 200).any()


def test_legends_can_be_read_or_are_left_out(tmp_path: Path) -> None:
    found = features([6], track((10, 10), (1.5, 0))[None])

    def ink(side: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the text of the scale, and the picture."""
        overlay(black(), found, tmp_path / "a.png", frame=1, side=side)  # before there are tracks
        picture = cv2.imread(str(tmp_path / "a.png"))
        return np.flatnonzero((picture[:, max(side // 16, 20) * 2 + 15:] > 150).any(axis=(1, 2))), picture

    for side, across in [(720, 91), (360, 45), (270, 41)]:
        rows, picture = ink(side)
        assert rows[-1] - rows[0] >= 14
        assert (np.ptp(picture.astype(int), axis=2) > 60).any(axis=0).sum() == pytest.approx(across, abs=4)
    for side in (180, 16):
        assert (ink(side)[1] == 0).all()
    # A wide picture has no room for a legend of the least size.
    overlay(black(width=10 * HEIGHT), features([6], track((10, 10), (1.5, 0))[None], size=(10 * HEIGHT, HEIGHT)),
            tmp_path / "a.png", frame=1, side=100)
    assert (cv2.imread(str(tmp_path / "a.png")) == 0).all()


@pytest.mark.parametrize(("speed", "scale"), [(0.01, "1"), (1, "1"), (1.2, "2"), (5, "5"), (7, "10"), (12, "20")])
def test_scale_of_the_legend(tmp_path: Path, speed: float, scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = texts(monkeypatch)
    overlay(black(width=200), features([6], track((10, 10), (speed, 0))[None], size=(200, HEIGHT)), tmp_path / "a.png")
    assert written == [f"{scale} px/frame"]


def test_no_trajectories(tmp_path: Path) -> None:
    none = features([], np.empty((0, LENGTH + 1, 2)), start=2)
    overlay(black() + 100, none, tmp_path / "a.png")
    assert pixel(cv2.imread(str(tmp_path / "a.png")), 20, 10) == [70, 70, 70]
    overlay(black() + 100, none, tmp_path / "a.mp4")
    assert len(list(frames(tmp_path / "a.mp4"))) == COUNT - 2


def test_a_real_clip(data: Path, tmp_path: Path) -> None:
    points = np.array([[[20.0 + i, 30.0] for i in range(16)]])
    found = features([40], points, count=360, size=(160, 120), end=50)
    found.meta["video"]["decoded_frames"] = 51
    overlay(data / "clips/person01_boxing_d1_uncomp.avi", found, tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture.shape == (720, 960, 3)
    assert pixel(picture, 35, 30, 6)[2] == 255


# --- one trajectory ------------------------------------------------------------------------------------------------

def described(found: Features, **histograms: dict[tuple[int, int, int, int], float]) -> Features:
    """The features with these values in the descriptors of all rows: (time cell, x cell, y cell, bin) -> value."""
    params = Params.from_dict(found.meta["params"])
    arrays = found.arrays()
    for name, values in histograms.items():
        cells = params.spatial_cells
        table = np.zeros((len(found), params.temporal_cells, cells, cells, 9 if name == "hof" else 8), np.float16)
        for place, value in values.items():
            table[:, *place] = value
        arrays[name] = table.reshape(len(found), -1)
    return Features(**arrays, meta=found.meta)


def panel(tmp_path: Path, video: np.ndarray, found: Features, row: int = 0) -> np.ndarray:
    draw_trajectory(video, found, tmp_path / "p.png", row)
    return cv2.imread(str(tmp_path / "p.png"))


def test_frame_and_path_of_a_trajectory(tmp_path: Path) -> None:
    found = features([5, 6], np.stack([track((44, 20), (0, 2)), track((10, 10), (4, 0))]))
    picture = panel(tmp_path, black(), found, 1)
    frame = picture[60:420, 24:504]  # enlarged 10 times
    assert pixel(frame, 26, 10, 10)[2] > 220
    assert hue(pixel(frame, 26, 10, 10)) == pytest.approx(0, abs=1)
    assert pixel(frame, 18, 10, 10)[2] > 150
    assert pixel(frame, 18, 12, 10) == pixel(frame, 44, 24, 10) == [0, 0, 0]
    # The patch of 32 pixels is shifted into the frame at its upper border.
    for x, y in [(10, 20), (42, 20), (20, 32)]:
        assert pixel(frame, x, y, 10)[0] > 100
    assert pixel(panel(tmp_path, black(), found, 0)[60:420, 24:504], 16, 20, 10)[0] > 100  # and at its right one
    # The path, enlarged: from the left to the right, on a level.
    path = picture[60:420, 534:1074]
    bright = np.argwhere(path[100:300, :, 2] > 200)
    assert np.ptp(bright[:, 0]) < 12
    assert np.ptp(bright[:, 1]) == pytest.approx(480, abs=12)


def test_path_without_the_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = np.array([[1.0, 0, 3], [0, 1, 1], [0, 0, 1]])
    found = features([6], track((10, 10), (4, 0))[None], camera)
    frame = panel(tmp_path, black(), found)[60:420, 24:504]
    # Where it began lay, seen from the end, at (10, 10) + 4 (3, 1).
    assert hue(pixel(frame, 23, 13, 10)) == pytest.approx(hue(flow_colours(np.array([[[1.0, -1]]]))[0, 0].tolist()),
                                                          abs=4)
    dim = pixel(frame, 14, 10, 10)
    assert dim[0] == dim[1] == dim[2] > 60
    # Enlarged 30 times, both paths about the middle of the field.
    path = panel(tmp_path, black(), found)[60:420, 534:1074]
    assert saturation(path[180 + 2 * 30, 270 + 4 * 30].tolist()) > 0.8
    assert saturation(path[180 - 2 * 30, 270 - 8 * 30].tolist()) == 0 < path[180 - 2 * 30, 270 - 8 * 30, 0] - 60
    written = texts(monkeypatch)
    panel(tmp_path, black(), found)
    assert sorted(written) == ["2 px", "coloured: without camera motion", "frames 2 to 5", "grey: in the picture",
                               "trajectory 0 of 1: frames 2 to 6, scale 1.00, 0.0 px long"]
    written.clear()
    panel(tmp_path, black(), features([11], track((10, 10), (4, 0))[None], start=3, step=2))
    assert sorted(written) == ["2 px", "frames 3 to 9", "trajectory 0 of 1: frames 3 to 11, scale 1.00, 0.0 px long"]


def test_patches_are_those_of_the_frames_before_the_end(tmp_path: Path) -> None:
    video = black(height=72, width=96)
    video += np.arange(0, 240, 20, dtype=np.uint8)[:, None, None]
    video[:, 25:30, 60:64] = 255
    found = features([8], track((50, 30), (2, 0))[None], size=(96, 72), step=1)
    found.scale[:] = 1
    picture = panel(tmp_path, video, found)
    for n, grey in enumerate([80, 100, 120, 140]):
        patch = picture[474:622, 24 + n * 150:][:, :148]
        assert patch[10, 10].tolist() == [grey] * 3
        # The spot lies in the patch, whose corner is (50 + 2 n - 16, 14), enlarged 148 / 32 times.
        x, y = (61.5 - (34 + 2 * n)) * 148 / 32, (27 - 14) * 148 / 32
        assert patch[round(y), round(x)].min() > 240
        assert patch[round(y), round(x) + 20].max() < 200
    found.scale[:] = 2  # 64 pixels of the frame, shifted to its borders: from (18, 0) on
    patch = panel(tmp_path, video, found)[474:622, 24:172]
    assert patch[round(27.5 * 148 / 64), round((62 - 18) * 148 / 64)].min() > 240


def test_patches_are_spread_where_there_is_no_room_for_all(tmp_path: Path) -> None:
    video = black(31) + np.arange(0, 248, 8, dtype=np.uint8)[:, None, None]
    points = np.array([[[24.0, 18.0]] * 31])
    picture = panel(tmp_path, video, features([30], points, count=31))
    greys = picture[484, 34:34 + 15 * 70:70, 0]
    np.testing.assert_allclose(greys, 8 * 29 / 14 * np.arange(15), atol=4)
    assert (greys[0], greys[-1]) == (0, 8 * 29)


def test_descriptors_as_roses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = described(features([6], track((10, 10), (4, 0))[None]),
                      hog={(0, 1, 0, 2): 0.5, (0, 0, 1, 4): 0.25}, hof={(0, 0, 0, 6): 0.25, (0, 1, 1, 8): 0.5})
    picture = panel(tmp_path, black(), found)
    hog, hof = picture[676:826, 24:174], picture[676:826, 204:354]

    def at(block: np.ndarray, cell: tuple[int, int], x: float, y: float) -> list[int]:
        return block[round((cell[1] + 0.5 + y) * 75), round((cell[0] + 0.5 + x) * 75)].tolist()

    assert at(hog, (1, 0), 0, 0.4) == [230] * 3  # downward, the longest
    assert at(hog, (1, 0), 0, -0.2) == at(hog, (0, 0), 0, 0.2) == at(hog, (0, 1), 0, 0.2) == [40] * 3
    assert at(hog, (0, 1), -0.2, 0) == [230] * 3  # half as long
    assert at(hog, (0, 1), -0.3, 0) == [40] * 3
    assert at(hof, (0, 0), 0, -0.2) == flow_colours(np.array([[[0.0, -1]]]))[0, 0].tolist()
    assert at(hof, (0, 0), 0, -0.3) == [40] * 3
    ring = hof[75:150, 75:150, 0][37]
    assert np.flatnonzero(ring > 150).tolist() == pytest.approx([3, 72], abs=1)
    written = texts(monkeypatch)
    panel(tmp_path, black(), found)
    assert written[:4] == ["HOG", "max 0.50", "HOF", "max 0.50"]


def test_panels_of_other_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = features([8], track((10, 10), (2, 0))[None], spatial_cells=3)
    points = np.concatenate([found.points, found.points[:, -4:]], axis=1)  # of length 8
    params = Params.from_dict(found.meta["params"] | {"length": 8, "temporal_cells": 4, "descriptors": ["mbhx", "hof"]})
    found = dataclasses.replace(found, points=points, meta={**found.meta, "params": params.to_dict()})
    bare = panel(tmp_path, black(), found)
    assert bare.shape == (450 + 24 + 148 + 24, 4 * 360 - 30 + 48, 3)
    found = described(found, mbhx={(3, 2, 1, 0): 1.0, (0, 0, 0, 0): 0.5}, hof={(1, 0, 0, 0): 1.0})
    picture = panel(tmp_path, black(), found)
    assert picture.shape == (bare.shape[0] + 30 + 24 + 150, bare.shape[1], 3)
    left, top = 24 + 3 * 360 + 180, 450 + 24 + 148 + 30 + 24
    assert picture[top + 75, left + 125 + 15].tolist() == [230] * 3  # of MBHx, last time cell
    row = picture[top + 25, 24 + 180:]
    assert [row[25 + n].tolist() for n in (8, 15)] == [[230] * 3, [40] * 3]  # half as long, in the first
    written = texts(monkeypatch)
    panel(tmp_path, black(), found)
    assert [text for text in written if text.startswith("frames")] == [
        "frames 0 to 1", "frames 2 to 3", "frames 4 to 5", "frames 6 to 7"]
    assert (written.count("MBHx"), written.count("HOF"), written.count("max 1.00")) == (4, 4, 2)


def test_trajectories_that_cannot_be_drawn(tmp_path: Path) -> None:
    found = features([6, 7], np.stack([track((10, 10), (4, 0))] * 2))
    for row in (-1, 2):
        with pytest.raises(ParameterError, match=rf"^trajectory is {row}: the rows of the features are from 0 to 1\.$"):
            panel(tmp_path, black(), found, row)
    with pytest.raises(ParameterError, match=r"^trajectory is 0: there are no rows\.$"):
        panel(tmp_path, black(), features([], np.empty((0, LENGTH + 1, 2))))
    with pytest.raises(ParameterError, match=r"a\.mp4: a trajectory is drawn as a picture, whose name must end in"):
        draw_trajectory(black(), found, tmp_path / "a.mp4", 0)
    with pytest.raises(ParameterError, match=r"The features have no points"):
        panel(tmp_path, black(), dataclasses.replace(found, points=None))
    many = found.meta["params"] | {"length": 30, "temporal_cells": 21}
    with pytest.raises(ParameterError, match=r"^temporal_cells is 21: at most 20 can be drawn\.$"):
        panel(tmp_path, black(), dataclasses.replace(found, meta={**found.meta, "params": many}))
    with pytest.raises(VideoError, match=r"^The array is not the video of the features: its frames are 40x30 pixels"):
        panel(tmp_path, black(height=30, width=40), found)
    for count in (2, 6):
        with pytest.raises(VideoError, match=rf"^The array is not the video .*: {count} frames could be decoded, but "
                                             r"the trajectory ends in frame 6\.$"):
            panel(tmp_path, black(count), found)
    assert not list(tmp_path.iterdir())


# --- videos --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("height", "width", "size"), [(36, 48, (720, 960)), (49, 63, (736, 946))])
def test_video(tmp_path: Path, height: int, width: int, size: tuple[int, int]) -> None:
    found = features([6, 9], np.stack([track((10, 10), (4, 0)), track((10, 20), (4, 0))]), size=(width, height))
    path = tmp_path / "ünï a.mp4"
    overlay(black(height=height, width=width), found, path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 25)
        assert (stream.height, stream.width) == size
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays while it is loaded
    shown = [frame.bgr for frame in frames(path, colour=True)]
    assert len(shown) == COUNT
    zoom = round(720 / height)
    for index, place in [(4, (18, 10)), (6, (26, 10)), (6, (14, 20)), (9, (26, 20))]:
        dot = pixel(shown[index], *place, zoom)
        assert hue(dot) % 360 == pytest.approx(0, abs=12) or hue(dot) == pytest.approx(360, abs=12)
        assert dot[2] > 230
    assert max(pixel(shown[1], 10, 10, zoom)) < 20
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_video_of_every_third_frame_keeps_its_pace(tmp_path: Path, data: Path) -> None:
    found = features([12], track((10, 10), (3, 0))[None], count=81, size=(320, 240), step=3)
    found.meta["video"]["decoded_frames"] = 80
    overlay(data / "clips/bikes_320x240_80.avi", found, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(25 / 3, rel=1e-3)
        assert sum(1 for _ in container.decode(video=0)) == 27


def test_video_of_a_span_and_of_a_size(tmp_path: Path) -> None:
    found = features([6], track((10, 10), (4, 0))[None])
    overlay(black(), found, tmp_path / "a.mp4", span=(4, 6), side=120)
    shown = [frame.bgr for frame in frames(tmp_path / "a.mp4", colour=True)]
    assert [picture.shape for picture in shown] == [(120, 160, 3)] * 3
    assert [int(picture[:80, :, 2].argmax(axis=1).max() / 120 * HEIGHT) for picture in shown] == [18, 22, 26]
    overlay(black(), features([6], track((10, 10), (2, 0))[None], step=2), tmp_path / "a.mp4", span=(3, 7), side=18)
    shown = [frame.bgr for frame in frames(tmp_path / "a.mp4", colour=True)]
    assert [picture.shape for picture in shown] == [(18, 24, 3)] * 3  # frames 2, 4 and 6


# --- what does not fit ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kwargs", "path", "message"), [
    ({}, "a.gif", r"a\.gif: the name of a view must end in \.mp4 \(video\) or \.png \(one frame\)"),
    ({"frame": 3}, "a.mp4", r"frame is 3: only a picture \(\.png\) shows one frame"),
    ({"frame": -1}, "a.png", r"frame is -1: the features come from the frames 0, 1, 2, \.\.\."),
    ({"frame": 12}, "a.png", "frame is 12: the last frame that the features come from is 11"),
    ({"span": (3, 5)}, "a.png", r"span is \(3, 5\): only a video \(\.mp4\) shows several frames"),
    ({"span": (5, 3)}, "a.mp4", r"span is \(5, 3\): it must be a first and a last frame .*, 0 to 11\."),
    ({"span": (5, 12)}, "a.mp4", r"span is \(5, 12\): it must be "),
    ({"side": 15}, "a.mp4", "side is 15: it must be at least 16 pixels")])
def test_parameters_that_do_not_fit(tmp_path: Path, kwargs: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        overlay(black(), features([6], track((10, 10), (4, 0))[None]), tmp_path / path, **kwargs)
    assert not list(tmp_path.iterdir())


def test_frames_that_were_not_processed(tmp_path: Path) -> None:
    found = features([9], track((10, 10), (4, 0))[None], start=1, step=2)
    for frame in (0, 4):
        with pytest.raises(ParameterError, match=rf"frame is {frame}: the features come from the frames 1, 3, 5, "):
            overlay(black(), found, tmp_path / "a.png", frame=frame)


def test_features_that_cannot_be_drawn(tmp_path: Path) -> None:
    found = features([6], track((10, 10), (4, 0))[None])
    text = Features(**{**found.arrays(), "points": None, "homographies": None}, meta=found.meta)
    with pytest.raises(ParameterError, match=r"The features have no points, which are not part of the original text"):
        overlay(black(), text, tmp_path / "a.png")
    with pytest.raises(ParameterError, match=r"The background have no points"):
        overlay(black(), found, tmp_path / "a.png", background=text)
    with pytest.raises(ParameterError, match=r"meta has no params"):
        overlay(black(), Features(**found.arrays(), meta={}), tmp_path / "a.png")
    other = features([6], track((10, 10), (4, 0))[None], step=2)
    with pytest.raises(ParameterError, match=r"background has another start, end, step or short_side"):
        overlay(black(), found, tmp_path / "a.png", background=other)
    with pytest.raises(ParameterError, match=r"The features beside have another start, end, step or short_side"):
        overlay(black(), found, tmp_path / "a.png", beside=other)
    with pytest.raises(ParameterError, match=r"The features beside have no points"):
        overlay(black(), found, tmp_path / "a.png", beside=text)
    with pytest.raises(ParameterError, match=r"^background and beside are both given, but only one"):
        overlay(black(), found, tmp_path / "a.png", background=found, beside=found)
    small = features([6], track((10, 10), (4, 0))[None], size=(40, 30))
    with pytest.raises(VideoError, match=r"The array is not the video of the features: its frames are 48x36 pixels"):
        overlay(black(), found, tmp_path / "a.png", beside=small)
    longer = features([6], track((10, 10), (4, 0))[None], count=COUNT + 1)
    with pytest.raises(VideoError, match=r"The array is not the video of the features: 12 frames could be decoded"):
        overlay(black(), found, tmp_path / "a.mp4", beside=longer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_features_of_another_video(tmp_path: Path, name: str) -> None:
    found = features([6], track((10, 10), (4, 0))[None])
    with pytest.raises(VideoError, match=r"The array is not the video of the features: its frames are 40x30 pixels, "
                                         r"not 48x36\."):
        overlay(black(height=30, width=40), found, tmp_path / name)
    with pytest.raises(VideoError, match=r"The array is not the video of the features: 6 frames could be decoded"):
        overlay(black(6), found, tmp_path / name)
    late = features([], np.empty((0, LENGTH + 1, 2)), start=20, count=0)
    late.meta["video"]["decoded_frames"] = COUNT
    with pytest.raises(VideoError, match=r"The array has no frame to draw on: its 12 frames end before"):
        overlay(black(), late, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_video_of_another_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 256, (COUNT, HEIGHT, WIDTH)).astype(np.uint8) for _ in range(2))
    for name, pictures in [("one.avi", one), ("other.avi", other)]:
        write_clip(tmp_path / name, pictures)
    (tmp_path / "renamed.avi").write_bytes((tmp_path / "one.avi").read_bytes())
    os.utime(tmp_path / "renamed.avi", (0, 0))

    def of(source: Any, path: str | None) -> Features:
        found = features([6], track((10, 10), (4, 0))[None])
        found.meta["video"] |= identity(source)
        return dataclasses.replace(found, path=path)

    def told(video: Any, found: Features, beside: Features | None = None) -> list[str]:
        caplog.clear()
        source = tmp_path / video if isinstance(video, str) else video
        overlay(source, found, tmp_path / "a.png", beside=beside)
        assert (tmp_path / "a.png").exists()
        shown = [*caplog.messages]
        if beside is None:
            caplog.clear()
            draw_trajectory(source, found, tmp_path / "b.png", 0)
            assert caplog.messages == shown
        return shown

    mine = of(tmp_path / "one.avi", "one.avi.npz")
    assert told("one.avi", mine) == told("renamed.avi", mine) == []
    wrong = (f"{tmp_path}/other.avi has another content than the video of one.avi.npz (one.avi): the trajectories need "
             "not fit.")
    assert told("other.avi", mine) == [wrong]
    assert told("renamed.avi", of(tmp_path / "other.avi", None)) == [
        f"{tmp_path}/renamed.avi has another content than the video of the features (other.avi): the trajectories need "
        "not fit."]
    theirs = of(tmp_path / "other.avi", "other.avi.npz")
    assert told("one.avi", mine, theirs) == [
        f"{tmp_path}/one.avi has another content than the video of other.avi.npz (other.avi): the trajectories need "
        "not fit."]
    assert told("other.avi", mine, theirs) == [wrong]
    # Arrays are compared with arrays; what a file holds and what was decoded from it are not.
    assert told(one, of(one, None)) == told(one, mine) == told("other.avi", of(one, None)) == []
    assert told(other, of(one, None)) == ["The array has another content than the video of the features (array): the "
                                          "trajectories need not fit."]
    caplog.clear()
    small = features([6], track((10, 10), (4, 0))[None], size=(40, 30))
    small.meta["video"] |= identity(one)
    with pytest.raises(VideoError):
        overlay(other, small, tmp_path / "a.png")
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_output_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    found = features([6], track((10, 10), (4, 0))[None])
    with pytest.raises(OutputError, match=f"{name} cannot be written"):
        overlay(black(), found, tmp_path / "file" / name)
    overlay(black(), found, tmp_path / "new" / "folder" / name)
    assert (tmp_path / "new" / "folder" / name).stat().st_size > 1000


@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_full_disk(tmp_path: Path, name: str) -> None:
    features([6], track((10, 10), (4, 0))[None]).save(tmp_path / "f.npz")
    target = tmp_path / "out" / name
    script = ("import sys, numpy as np; from idt.features.record import Features\n"
              "from idt.viz.pictures import overlay\n"
              "from idt.errors import OutputError\n"
              "video = np.random.default_rng(0).integers(0, 256, (12, 36, 48)).astype(np.uint8)\n"
              "try: overlay(video, Features.load(sys.argv[1]), sys.argv[2])\n"
              "except OutputError as error: print(error)\n")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "f.npz"), str(target)], capture_output=True,
                          text=True, preexec_fn=limit, check=True)
    assert f"{name} cannot be written: File too large" in done.stdout
    assert not list(target.parent.iterdir())
