"""Accuracy on Weizmann, one actor left out at a time: encoders, channels, with and without camera motion removed.

python benchmarks/baselines.py [--features FOLDER] [--seeds 5] [--threads N]

The videos are those of the test data (IDT_TEST_DATA, by default ../shared/data). PCA, codebooks and classifiers are
learnt inside the folds. FOLDER keeps the features, of which it needs 300 MB.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from common import data, described, machine

from idt.batch import extract_videos
from idt.dataset_features import load_features
from idt.datasets import read_dataset, splits
from idt.evaluation import evaluate
from idt.params import Params
from idt.vectors import EncodingParams

TRAJECTORIES = {"improved": Params(), "dense": Params(camera=False)}
ENCODERS = {"Fisher vector, K = 32": EncodingParams(words=32), "VLAD, K = 32": EncodingParams(encoder="vlad", words=32),
            "bag of words, K = 1000": EncodingParams(encoder="bow", words=1000, pca=1.0, norm="l1")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    chosen = parser.parse_args()
    dataset = read_dataset(data("weizmann"))
    folds = splits(dataset, "leave-one-group-out")
    print(f"{described(machine())} {dataset}.\n\nAccuracy in per cent, mean over the seeds 0 to {chosen.seeds - 1}, in "
          f"brackets the least and the greatest; a clip is {100 / len(dataset.items):.1f}.\n")
    columns = [*EncodingParams().channels, "combined"]
    print(f"| trajectories | encoder | {' | '.join(columns)} | mAP, combined |\n|{' --- |' * (len(columns) + 3)}")
    with nullcontext(chosen.features) if chosen.features else tempfile.TemporaryDirectory() as folder:
        for kind, extraction in TRAJECTORIES.items():
            place = Path(folder, kind)
            if extract_videos(dataset.root, place, extraction, threads=chosen.threads).failed:
                sys.exit("a video cannot be extracted")
            videos = load_features(dataset, place)
            for name, params in ENCODERS.items():
                found = [evaluate(dataset, videos, folds, dataclasses.replace(params, seed=seed),
                                  threads=chosen.threads) for seed in range(chosen.seeds)]
                cells = [spread([100 * one.accuracy(channel) for one in found]) for channel in columns]
                precision = spread([100 * one.average_precision() for one in found])
                print(f"| {kind} | {name} | {' | '.join(cells)} | {precision} |", flush=True)


def spread(values: Sequence[float]) -> str:
    """Return the mean of values, the least and the greatest."""
    return f"{np.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})"


if __name__ == "__main__":
    main()
