"""People, who are left out of camera estimation: box files, masks and the built-in detector."""

from __future__ import annotations

import math
import os
import re

import numpy as np
from numpy.typing import NDArray

from idt.errors import FormatError, ParameterError

Boxes = NDArray[np.float64]

_WINDOW = (64, 128)  # width and height of the smallest person, with its margin, that the detector knows


def read_boxes(path: str | os.PathLike[str]) -> list[Boxes]:
    """Read a box file in the format of the original program (ALGORITHM 7.2 and 16).

    One line for each decoded frame: ``frame  x1 y1 x2 y2 score  [x1 y1 x2 y2 score ...]``, in pixels of the video. The
    k-th line that starts with an integer is frame k, whatever the integer; other lines (headers, comments) are
    skipped. A line of only a frame number says that nobody is there.

    Returns
    -------
    list of ndarray, shape (n, 4), float64
        x1, y1, x2, y2 for each frame; the scores are not used.

    Raises
    ------
    FormatError
        The file cannot be read, has no such line, or a line is malformed; the message names the line.
    """
    name = os.fspath(path)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            boxes = [_boxes(tokens, name, number) for number, line in enumerate(file, 1)
                     if (tokens := line.split()) and _is_kept(tokens[0], name, number)]
    except OSError as error:
        raise FormatError(f"{name}: the box file cannot be read ({error.strerror}).") from error
    if not boxes:
        raise FormatError(f"{name}: no line starts with a frame number; a box file has one line for each frame: "
                          "frame  x1 y1 x2 y2 score  [x1 y1 x2 y2 score ...].")
    return boxes


def _is_kept(token: str, name: str, number: int) -> bool:
    if re.fullmatch(r"[+-]?[0-9]+", token):
        return True
    try:
        float(token)
    except ValueError:
        return False
    # To skip it would shift the boxes of all later frames.
    raise FormatError(f"{name}, line {number}: it starts with {token}, which is not a whole frame number.")


def _boxes(tokens: list[str], name: str, number: int) -> Boxes:
    """Return the boxes of one line, given as its words."""
    if (len(tokens) - 1) % 5:
        raise FormatError(f"{name}, line {number}: {len(tokens) - 1} values follow the frame number; it must be five "
                          "for each box: x1 y1 x2 y2 score.")
    values = []
    for token in tokens[1:]:
        try:
            value = float(token)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise FormatError(f"{name}, line {number}: {token} is not a number.")
        values.append(value)
    return np.array(values, np.float64).reshape(-1, 5)[:, :4]


def person_mask(boxes: Boxes, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the mask of what is not a person.

    Parameters
    ----------
    boxes : ndarray, shape (n, 4)
        x1, y1, x2, y2 in pixels of the mask; parts outside are cut off.
    shape : tuple of int
        Height and width.

    Returns
    -------
    ndarray, shape (H, W), uint8
        0 from ⌈x1⌉ to ⌊x2⌋ and ⌈y1⌉ to ⌊y2⌋ of each box, both included; 1 elsewhere.
    """
    boxes = np.asarray(boxes, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ParameterError(f"The boxes have the shape {boxes.shape}: it must be (n, 4), one x1, y1, x2, y2 for each "
                             "person.")
    if not np.isfinite(boxes).all():
        raise ParameterError("The boxes hold a number that is not finite: give x1, y1, x2, y2 in pixels.")
    mask = np.ones(shape, np.uint8)
    height, width = shape
    low = np.clip(np.ceil(boxes[:, :2]), 0, (width, height)).astype(int)
    high = np.clip(np.floor(boxes[:, 2:]), -1, (width - 1, height - 1)).astype(int)
    for (x1, y1), (x2, y2) in zip(low, high, strict=True):
        mask[y1:y2 + 1, x1:x2 + 1] = 0
    return mask


class PersonDetector:
    """OpenCV's person detector (HOG and linear SVM, Dalal & Triggs, CVPR 2005) on every `interval`-th frame.

    It finds upright people from about 96 pixels of height on.

    Parameters
    ----------
    interval : int
        Run on every `interval`-th processed frame and hold the boxes in between.
    """

    def __init__(self, interval: int) -> None:
        import cv2

        self.interval = interval
        self._boxes: Boxes = np.empty((0, 4))
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor.getDefaultPeopleDetector())

    def detect(self, grey: NDArray[np.uint8], n: int) -> Boxes:
        """Return the boxes of the `n`-th processed frame, counted from 0; frames are to be given in order.

        Parameters
        ----------
        grey : ndarray, shape (H, W), uint8
            A frame smaller than the detector's window of 64x128 pixels gives no boxes.
        n : int
            Number of the processed frame.

        Returns
        -------
        ndarray, shape (k, 4), float64
            x1, y1, x2, y2 in pixels, corners included, sorted, so that the order does not depend on threads.
        """
        if n % self.interval == 0:
            self._boxes = self._run(grey)
        return self._boxes

    def _run(self, grey: NDArray[np.uint8]) -> Boxes:
        if grey.shape[1] < _WINDOW[0] or grey.shape[0] < _WINDOW[1]:
            return np.empty((0, 4))
        found, _ = self._hog.detectMultiScale(grey, winStride=(8, 8), padding=(16, 16), scale=1.05)
        boxes = np.array(found, np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2] - 1
        return boxes[np.lexsort(boxes.T[::-1])]
