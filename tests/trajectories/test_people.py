"""Box files of the original program, masks, and the built-in detector."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from idt.errors import FormatError, ParameterError
from idt.trajectories.people import PersonDetector, person_mask, read_boxes
from idt.video import frames


def write(folder: Path, text: str) -> Path:
    path = folder / "boxes.txt"
    path.write_text(text, encoding="utf-8")
    return path


# --- box files -----------------------------------------------------------------------------------------------------

def test_read_boxes(tmp_path: Path) -> None:
    boxes = read_boxes(write(tmp_path, "# frame x1 y1 x2 y2 score\n\n"
                                       "0  10 20.5 30 40 0.9\n"
                                       "1\n"
                                       "2\t1 2 3 4 -1e-3  -5 6 7.25 8 2\r\n"
                                       "+3 "))
    assert [b.shape for b in boxes] == [(1, 4), (0, 4), (2, 4), (0, 4)]
    assert all(b.dtype == np.float64 for b in boxes)
    np.testing.assert_array_equal(boxes[0], [[10, 20.5, 30, 40]])
    np.testing.assert_array_equal(boxes[2], [[1, 2, 3, 4], [-5, 6, 7.25, 8]])


def test_the_frame_number_is_not_used(tmp_path: Path) -> None:
    boxes = read_boxes(write(tmp_path, "700 1 1 2 2 1\n3 3 3 4 4 1\n"))
    np.testing.assert_array_equal(np.concatenate(boxes), [[1, 1, 2, 2], [3, 3, 4, 4]])


@pytest.mark.parametrize(("text", "message"), [
    ("0\n1 1 2 3 4\n", r"boxes\.txt, line 2: 4 values follow the frame number; it must be five for each box"),
    ("# x\n\n0 1 2 3 4 5 6\n", r"line 3: 6 values follow the frame number"),
    ("0 1 2 x 4 5\n", "line 1: x is not a number"),
    ("0 1 2 3 4 nan\n", "line 1: nan is not a number"),
    ("0\n1 inf 2 3 4 5\n", "line 2: inf is not a number"),
    ("0\n1.0 1 2 3 4 5\n", r"line 2: it starts with 1\.0, which is not a whole frame number"),
    ("", "no line starts with a frame number; a box file has one line for each frame"),
    ("frame x1 y1 x2 y2\n", "no line starts with a frame number")])
def test_malformed_box_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_boxes(write(tmp_path, text))


def test_box_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "no.txt", tmp_path):
        with pytest.raises(FormatError, match=f"{path.name}: the box file cannot be read"):
            read_boxes(path)
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(FormatError, match="binary: no line starts with a frame number"):
        read_boxes(tmp_path / "binary")


# --- masks ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("box", "rows", "columns"), [
    ((2, 3, 5, 6), (3, 7), (2, 6)),  # both ends included
    ((1.2, 2.7, 4.9, 5.1), (3, 6), (2, 5)),  # from the ceiling to the floor
    ((-30, -4, 2, 1), (0, 2), (0, 3)),  # cut off at the left and at the top
    ((8, 5, 400, 1e12), (5, 8), (8, 10)),  # cut off at the right and at the bottom
    ((5, 5, 3, 3), (0, 0), (0, 0)),  # inside out
    ((20, 20, 30, 30), (0, 0), (0, 0)),  # outside
    ((-9, -9, -1, -1), (0, 0), (0, 0))])
def test_person_mask(box: tuple[float, ...], rows: tuple[int, int], columns: tuple[int, int]) -> None:
    expected = np.ones((8, 10), np.uint8)
    expected[slice(*rows), slice(*columns)] = 0
    mask = person_mask(np.array([box]), (8, 10))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected)


def test_person_mask_of_several_and_of_none() -> None:
    mask = person_mask(np.array([[0, 0, 1, 1], [1, 1, 2, 2]]), (4, 4))
    assert mask.sum() == 16 - 7
    assert person_mask(np.empty((0, 4)), (4, 4)).all()


def test_person_mask_of_a_wrong_shape() -> None:
    with pytest.raises(ParameterError, match=r"shape \(2, 5\): it must be \(n, 4\)"):
        person_mask(np.zeros((2, 5)), (4, 4))


# --- detector ------------------------------------------------------------------------------------------------------

def test_detector_finds_the_bowler_and_holds_the_boxes(data: Path) -> None:
    detector = PersonDetector(3)
    held = []
    for n, frame in enumerate(itertools.islice(frames(data / "clips/v_Bowling_g01_c01.avi"), 4)):
        held.append(detector.detect(frame.grey, n))
    inside = [x1 < 125 < x2 and y1 < 150 < y2 for x1, y1, x2, y2 in held[0]]
    assert any(inside)
    assert held[0] is held[1] is held[2]
    assert held[3] is not held[2]
    assert held[0].tolist() == sorted(held[0].tolist())
    np.testing.assert_array_equal(held[3], PersonDetector(1).detect(frame.grey, 0))


@pytest.mark.parametrize("shape", [(128, 63), (127, 64), (16, 16), (128, 64)])
def test_small_and_flat_frames_have_nobody(shape: tuple[int, int]) -> None:
    assert PersonDetector(1).detect(np.full(shape, 90, np.uint8), 0).shape == (0, 4)
