"""Small videos whose motion is known exactly, as arrays; nothing is read, decoded or resampled.

Everything is drawn from one scene: a textured plane seen by a camera that moves by a homography from frame to frame,
and perhaps a textured square that slides over the plane. The texture is a sum of sinusoids, so it can be evaluated at
any real coordinate and a shift by a third of a pixel is exact up to the rounding to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clip:
    """A video and its truth; entry t of a motion tells of the step from frame t - 1 to t, entry 0 of no motion."""

    frames: NDArray[np.uint8]  # (T, H, W)
    homographies: Float64  # (T, 3, 3), motion of the background: frame t - 1 to t
    flow: NDArray[np.float32]  # (T, H, W, 2), motion of every pixel of frame t - 1, x then y
    moving: NDArray[np.bool_]  # (T, H, W), pixels of frame t on the square


@dataclass(frozen=True)
class Square:
    """A textured square on the plane: corner and velocity in the coordinates of frame 0."""

    x: float
    y: float
    side: float
    velocity: tuple[float, float]


class Texture:
    """Smooth, band-limited noise: `waves` sinusoids of random direction and phase, squashed into 8 bits.

    The wavelengths are spread evenly in log between `shortest` and `longest` pixels.
    """

    def __init__(self, seed: int, *, waves: int = 60, shortest: float = 6.0, longest: float = 40.0) -> None:
        rng = np.random.default_rng(seed)
        length = np.exp(rng.uniform(np.log(shortest), np.log(longest), waves))
        direction = rng.uniform(0, 2 * np.pi, waves)
        self.kx, self.ky = 2 * np.pi / length * np.cos(direction), 2 * np.pi / length * np.sin(direction)
        self.phase = rng.uniform(0, 2 * np.pi, waves)

    def __call__(self, x: Float64, y: Float64) -> Float64:
        """Grey values 0 to 255, unrounded, at the given coordinates."""
        total = np.zeros(np.broadcast(x, y).shape)
        for kx, ky, phase in zip(self.kx, self.ky, self.phase, strict=True):
            total += np.sin(kx * x + ky * y + phase)
        # tanh bends the values into range but moves nothing, so the motion stays exact.
        grey: Float64 = 127.5 + 120 * np.tanh(0.7 * total / np.sqrt(len(self.phase) / 2))
        return grey


def translation(x: float, y: float) -> Float64:
    """(3, 3) homography that adds (x, y)."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def similarity(degrees: float, zoom: float, centre: tuple[float, float]) -> Float64:
    """(3, 3) homography that turns (x axis towards y axis) and enlarges about a point."""
    c, s = zoom * np.cos(np.radians(degrees)), zoom * np.sin(np.radians(degrees))
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    about: Float64 = translation(*centre) @ turn @ translation(-centre[0], -centre[1])
    return about


def map_points(homography: Float64, x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """Coordinates to which a homography takes (x, y)."""
    u, v, w = np.tensordot(homography, np.stack([x, y, np.ones_like(x)]), axes=1)
    return u / w, v / w


def scene(frames: int = 20, height: int = 72, width: int = 96, *, camera: Float64 | None = None,
          square: Square | None = None, seed: int = 0) -> Clip:
    """The general clip: `camera` takes a background point of one frame to its place in the next (None: still)."""
    step = np.eye(3) if camera is None else np.asarray(camera, np.float64)
    background, foreground = Texture(seed), Texture(seed + 1)
    py, px = np.mgrid[:height, :width].astype(np.float64)

    def to_plane(t: int) -> tuple[Float64, Float64, NDArray[np.bool_]]:
        """Point of the plane that each pixel of frame t shows, and whether the square covers it."""
        x, y = map_points(np.linalg.inv(np.linalg.matrix_power(step, t)), px, py)
        if square is None:
            return x, y, np.zeros(x.shape, bool)
        left, top = square.x + t * square.velocity[0], square.y + t * square.velocity[1]
        return x, y, (x >= left) & (x < left + square.side) & (y >= top) & (y < top + square.side)

    video, flows, masks = [], [np.zeros((height, width, 2))], []
    for t in range(frames):
        x, y, covered = to_plane(t)
        vx, vy = square.velocity if square else (0.0, 0.0)
        grey = np.where(covered, foreground(x - t * vx, y - t * vy), background(x, y))
        video.append(np.rint(grey).astype(np.uint8))
        masks.append(covered)
        if t + 1 < frames:
            nx, ny = map_points(np.linalg.matrix_power(step, t + 1), x + covered * vx, y + covered * vy)
            flows.append(np.stack([nx - px, ny - py], axis=2))
    homographies = np.stack([np.eye(3)] + [step] * (frames - 1))
    return Clip(np.array(video), homographies, np.array(flows, np.float32), np.array(masks))


def pan(velocity: tuple[float, float] = (1.5, -0.75), *, frames: int = 20, height: int = 72, width: int = 96,
        seed: int = 0) -> Clip:
    """A textured plane that moves by an exact vector (pixels a frame) everywhere."""
    return scene(frames, height, width, camera=translation(*velocity), seed=seed)


def turn(degrees: float = 0.6, zoom: float = 1.01, *, frames: int = 20, height: int = 72, width: int = 96,
         seed: int = 0) -> Clip:
    """A textured plane that turns and grows about the middle of the frame."""
    centre = ((width - 1) / 2, (height - 1) / 2)
    return scene(frames, height, width, camera=similarity(degrees, zoom, centre), seed=seed)


def moving_square(velocity: tuple[float, float] = (1.5, 0.5), *, camera: Float64 | None = None, frames: int = 20,
                  height: int = 72, width: int = 96, seed: int = 0) -> Clip:
    """A textured square, a third of the height wide, that slides over the middle of a plane; `camera` moves both."""
    side = height / 3
    square = Square((width - side - velocity[0] * (frames - 1)) / 2, (height - side - velocity[1] * (frames - 1)) / 2,
                    side, velocity)
    return scene(frames, height, width, camera=camera, square=square, seed=seed)


def still(*, frames: int = 20, height: int = 72, width: int = 96, seed: int = 0) -> Clip:
    """The same textured picture again and again."""
    return scene(frames, height, width, seed=seed)


def flat(grey: int = 128, *, frames: int = 20, height: int = 72, width: int = 96) -> Clip:
    """Frames of one grey value: nothing to see and nothing to sample."""
    return Clip(np.full((frames, height, width), grey, np.uint8), np.stack([np.eye(3)] * frames),
                np.zeros((frames, height, width, 2), np.float32), np.zeros((frames, height, width), bool))
