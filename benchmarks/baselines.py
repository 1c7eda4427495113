"""Accuracy on Weizmann, one actor left out at a time: encoders, channels, with and without camera motion removed.

python benchmarks/baselines.py [--features FOLDER] [--seeds 5] [--threads N]

The videos are those of the test data (IDT_TEST_DATA, by default ../shared/data). PCA, codebooks and classifiers are
learnt inside the folds, by `idt.comparison`, which reports its progress on stderr. FOLDER keeps the features, 300 MB.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import data, described, machine, say, table

from idt.comparison.methods import FeatureMethod
from idt.comparison.run import Comparison, compare
from idt.params import Params
from idt.recognition.datasets import read_dataset, splits
from idt.recognition.vectors import EncodingParams

TRAJECTORIES = {"improved": Params(), "dense": Params(camera=False)}
ENCODERS = {"Fisher vector, K = 32": EncodingParams(words=32), "VLAD, K = 32": EncodingParams(encoder="vlad", words=32),
            "bag of words, K = 1000": EncodingParams(encoder="bow", words=1000, pca=1.0, norm="l1")}
COLUMNS = {**{name: (name,) for name in EncodingParams().channels}, "combined": EncodingParams().channels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    chosen = parser.parse_args()
    dataset = read_dataset(data("weizmann"))
    print(f"{described(machine())} {dataset}.\n\nAccuracy in per cent, mean over the seeds 0 to {chosen.seeds - 1}, in "
          f"brackets the least and the greatest; a clip is {100 / len(dataset.items):.1f}.\n", flush=True)
    # What differs in its channels alone shares PCA, codebooks and vectors.
    methods = [FeatureMethod(name=called(kind, encoder, column, seed), extraction=extraction,
                             encoding=replace(params, channels=channels, seed=seed))
               for kind, extraction in TRAJECTORIES.items() for encoder, params in ENCODERS.items()
               for seed in range(chosen.seeds) for column, channels in COLUMNS.items()]
    with nullcontext(chosen.features) if chosen.features else tempfile.TemporaryDirectory() as folder:
        found = compare(dataset, methods, splits(dataset, "leave-one-group-out"), folder, threads=chosen.threads,
                        progress=lambda split, step, share: say(f"{split.name}: {step}, {share:.0%}"))
    print(table(["trajectories", "encoder", *COLUMNS, "mAP, combined"], [
        [kind, encoder, *cells(found, kind, encoder, chosen.seeds)] for kind in TRAJECTORIES for encoder in ENCODERS]))


def called(*parts: object) -> str:
    """Return the name of a method."""
    return ", ".join(map(str, parts))


def cells(found: Comparison, kind: str, encoder: str, seeds: int) -> list[str]:
    """Return a line of the table: the accuracy by each column, and the mean average precision of the last."""
    names = {column: [called(kind, encoder, column, seed) for seed in range(seeds)] for column in COLUMNS}
    return [*(spread([100 * found.accuracy(name) for name in names[column]]) for column in COLUMNS),
            spread([100 * found.average_precision(name) for name in names["combined"]])]


def spread(values: Sequence[float]) -> str:
    """Return the mean of values, the least and the greatest."""
    return f"{np.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})"


if __name__ == "__main__":
    main()
