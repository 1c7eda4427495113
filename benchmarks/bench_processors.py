"""What the instructions of a processor are worth: extraction and flow with kernels for other processors than this one.

Each round runs, for every processor in turn, a process that measures the yardstick, TV-L1, Farnebäck flow and the
extraction of a clip at 320x240, one thread each, CPU time. OpenCV's yardstick always uses what this processor has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from common import BIKES, data, described, machine, ratio, say, table, timed, yardstick

PROCESSORS = {"this one": {}, **{name: {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""}
                                 for name in ("haswell", "x86-64")}}
PAIRS = 9
JOBS = ("TV-L1, `opencv`", "Farnebäck, all scales", "iDT, from file to file")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured()))
        return
    taken: dict[str, list[list[float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as kernels:
        for n in range(-1, options.rounds):  # the first compiles
            for name, settings in PROCESSORS.items():
                say(f"round {n + 1} of {options.rounds}, {name}")
                child = subprocess.run(
                    [sys.executable, __file__, "--measure"], check=True, capture_output=True, text=True,
                    env={**os.environ, **settings, "NUMBA_CACHE_DIR": str(Path(kernels, name))})
                if n >= 0:
                    taken[name].append(json.loads(child.stdout))
    print(described(machine()))
    print()
    columns = {name: list(zip(*rounds, strict=True)) for name, rounds in taken.items()}
    here = columns["this one"]
    print(table(("kernels for", "what", "CPU ms", "yardsticks", "of the time for this one"),
                [(name, job, f"{median(times[k]):.1f}", ratio(times[k], times[0]), ratio(times[k], here[k]))
                 for k, job in enumerate(JOBS, 1) for name, times in columns.items()]))


def measured() -> Sequence[float]:
    """Return the CPU ms of the yardstick, of the flows of a pair and of the extraction of a frame, medians."""
    from idt import flow
    from idt.trajectories import extraction
    from idt.video import frames

    clip = data("clips") / BIKES
    greys = [frame.grey for frame in frames(clip)]
    cv2.setNumThreads(1)
    places = np.linspace(0, len(greys) - 2, PAIRS).astype(int)

    def pair(solve):
        solve(greys[0], greys[1])  # what is compiled or loaded once is not timed
        return median(timed(lambda n=n: solve(greys[n], greys[n + 1]))[1] for n in places)

    with tempfile.TemporaryDirectory() as folder:
        def extract():
            extraction.extract_file(clip, Path(folder, "features.npz"))

        extract()
        return [median(yardstick(greys[n], greys[n + 1])[1] for n in places), pair(flow.compute),
                pair(lambda a, b: flow.compute(a, b, method="farneback")), timed(extract)[1] / len(greys)]


if __name__ == "__main__":
    main()
