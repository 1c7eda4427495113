"""Pictures written as video files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from synthetic import moving_square


def write_clip(path: Path, pictures: np.ndarray) -> Path:
    """Write grey pictures (T, H, W) as Motion JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, pictures.shape[:0:-1])
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def write_squares(folder: Path, *more: str) -> None:
    """Write squares that move down and right, a clip of each of three groups, and their list with further lines."""
    rows = []
    for label, velocity in (("down", (0.0, 1.5)), ("right", (1.5, 0.0))):
        for seed, group in enumerate("abc"):
            write_clip(folder / label / f"{group}.avi", moving_square(velocity, seed=seed).frames)
            rows.append(f"{label}/{group}.avi,{label},{group}")
    (folder / "labels.csv").write_text("\n".join(["path,label,group", *rows, *more]) + "\n")
