"""Which matches are worth their time: own homographies held against the original program's.

python benchmarks/bench_camera.py [--data FOLDER]

FOLDER (default: $IDT_TEST_DATA or ../shared/data) has ``clips/NAME.*`` and ``golden/NAME.npz`` with ``homographies``.
For each clip and choice of matches: the largest displacement difference over the frame's corners and centre, median
and 90th percentile over frames, and CPU time a frame of an extraction that describes nothing, one thread.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

import idt

CHOICES = (("flow",), ("flow", "orb"), ("flow", "akaze"), ("flow", "sift"), ("orb",), ("sift",))


def displacements(homography, width, height):
    """Return where the corners and the centre of a frame go."""
    points = np.array([[x, y, 1.0] for x, y in ((0, 0), (width, 0), (0, height), (width, height),
                                                (width / 2, height / 2))])
    moved = points @ homography.T
    return moved[:, :2] / moved[:, 2:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IDT_TEST_DATA", "../shared/data")))
    data = parser.parse_args().data
    idt.extract(np.zeros((2, 64, 64), np.uint8))  # what is loaded once is not timed
    print("| clip | matches | px, median | px, 90 % | ms a frame |")
    print("|---|---|---|---|---|")
    for golden in sorted((data / "golden").glob("*.npz")):
        clips = list((data / "clips").glob(f"{golden.stem}.*"))
        if len(clips) != 1:
            continue  # another run of a clip
        with np.load(golden, allow_pickle=False) as arrays:
            truth = arrays["homographies"]
        for matches in CHOICES:
            # A track as long as this never ends, so that nothing but the camera is worked on to the end.
            params = idt.Params(matches=matches, descriptors=("trajectory",), length=1000, temporal_cells=1)
            began = time.process_time()
            features = idt.extract(clips[0], params)
            spent = time.process_time() - began
            size = features.meta["video"]["width"], features.meta["video"]["height"]
            off = [np.abs(displacements(a, *size) - displacements(b, *size)).max()
                   for a, b in zip(features.homographies[1:], truth[1:], strict=True)]
            middle, high = np.percentile(off, (50, 90))
            print(f"| {golden.stem[:28]} | {' + '.join(matches)} | {middle:.2f} | {high:.2f} | "
                  f"{1e3 * spent / len(truth):.1f} |", flush=True)


if __name__ == "__main__":
    main()
