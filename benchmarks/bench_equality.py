"""How many rows of the original program come out again, and how equal they are.

python benchmarks/bench_equality.py [--data FOLDER]

FOLDER (default: $IDT_TEST_DATA or ../shared/data) has ``clips/NAME.*`` and ``golden/NAME[.options].npz``, the original
program's output with the homographies it estimated. These are injected first; then the camera is estimated.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import idt
from idt.features.difference import diff
from idt.features.record import load_any

OPTIONS = {
    "length20_temporal2": {"length": 20, "temporal_cells": 2}, "scales2": {"scales": 2},
    "stride8_patch24_spatial3": {"stride": 8, "patch": 24, "spatial_cells": 3},
    "start40_end120": {"start": 40, "end": 120},
}


def compare(clip, name, reference, params, homographies):
    """Print the line of one run."""
    found = diff(load_any(reference), idt.extract(clip, params, homographies=homographies))
    cosines = " | ".join(f"{middle:.5f}/{low:.5f}" for middle, low in found.cosine.values())
    print(f"| {name} | {'own estimate' if homographies is None else 'given'} | {found.rows_a} | {found.rows_b} | "
          f"{found.matched_of_a:.4f} | {found.matched_of_b:.4f} | {found.position[1]:.5f} | {cosines} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IDT_TEST_DATA", "../shared/data")))
    data = parser.parse_args().data
    columns = ("clip", "homographies", "rows there", "rows here", "of those there", "of those here", "position p99, px",
               "trajectory", "HOG", "HOF", "MBHx", "MBHy")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    golden = sorted((data / "golden").glob("*.npz"))
    clips = {path: next((data / "clips").glob(f"{path.name.split('.')[0]}.*")) for path in golden}
    for path in golden:
        options = path.name.split(".")[1]
        name = clips[path].stem if options == "npz" else f"{clips[path].stem}, {options}"
        compare(clips[path], name, path, idt.Params(**OPTIONS.get(options, {})), path)
    for published in sorted((data / "golden").glob("*.original.gz")):
        clip = next((data / "clips").glob(f"{published.name.split('.')[0]}*"))
        compare(clip, "the authors' published file", published, idt.Params(), data / "golden" / f"{clip.stem}.npz")
    for path in golden:
        if path.name.split(".")[1] == "npz":
            compare(clips[path], clips[path].stem, path, idt.Params(), None)


if __name__ == "__main__":
    main()
