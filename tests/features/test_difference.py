"""Two feature sets held against each other."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_features import random_features

import idt.features.difference
from idt.errors import FormatError, ParameterError
from idt.features.difference import Difference, diff
from idt.features.record import Features, load_any
from idt.params import DESCRIPTORS


def judge(data: Path) -> Any:
    """Return the script that the reference data come with, as a module."""
    path = data.parent / "tools" / "compare_features.py"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    spec = importlib.util.spec_from_file_location("compare_features", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def perturbed(features: Features, rows: int) -> Features:
    """Return some of the rows, with noise, in another order within the frames."""
    rng = np.random.default_rng(3)
    chosen = rng.permutation(len(features))[:rows]
    part = features[chosen[np.argsort(features.frame[chosen], kind="stable")]]
    sigma = {"mean": 0.7, "std": 0.1, "length": 0.1, "position": 1e-3, **dict.fromkeys(DESCRIPTORS, 0.02)}
    arrays = {name: array + rng.normal(0, sigma[name], array.shape).astype(array.dtype) if name in sigma else array
              for name, array in part.arrays().items()}
    return Features(**arrays, meta=part.meta)


def assert_as_judged(found: Difference, judged: dict[str, Any], tolerance: float = 0.0) -> None:
    assert (found.rows_a, found.rows_b) == (judged["reference_rows"], judged["candidate_rows"])
    assert (found.matched_of_a, found.matched_of_b) == (judged["matched_of_reference"], judged["matched_of_candidate"])
    assert found.position == pytest.approx(judged["mean_position_px_p50_p99"], abs=tolerance, rel=0)
    assert list(found.cosine) == list(DESCRIPTORS)
    for name in DESCRIPTORS:
        assert found.cosine[name] == pytest.approx(judged[f"{name}_cosine_p50_p5"], abs=tolerance, rel=0)


@pytest.mark.parametrize("blocks", [(1 << 22, 1 << 14), (50, 100)])
def test_same_numbers_as_the_judge(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                   blocks: tuple[int, int]) -> None:
    monkeypatch.setattr(idt.features.difference, "_CELLS", blocks[0])
    monkeypatch.setattr(idt.features.difference, "_BLOCK", blocks[1])
    reference = data / "golden" / "bikes_320x240_80.npz"
    candidate = tmp_path / "candidate.npz"
    perturbed(load_any(reference), 8000).save(candidate)
    found = diff(reference, candidate)
    assert_as_judged(found, judge(data).compare(reference, candidate))
    assert 0.7 < found.matched_of_a < 0.9
    assert found.matched == round(found.matched_of_a * 8826)
    assert not found.identical


def test_published_text_against_arrays(data: Path) -> None:
    text = data / "golden" / "person01_boxing_d1.original.gz"
    arrays = data / "golden" / "person01_boxing_d1_uncomp.npz"
    found = diff(text, arrays)
    # The judge keeps the digits of the text in double, a text is read as float32.
    assert_as_judged(found, judge(data).compare(text, arrays), 1e-5)
    assert found.matched == 2001


def test_identical_sets() -> None:
    features = random_features(200)
    found = diff(features, features[:])
    assert found.identical
    assert (found.matched, found.matched_of_a, found.matched_of_b, found.position) == (200, 1.0, 1.0, (0.0, 0.0))
    assert set(found.largest) == set(features.arrays())
    assert set(found.largest.values()) == {0.0}
    assert all(value == pytest.approx((1, 1), abs=1e-9) for value in found.cosine.values())
    assert not diff(features, dataclasses.replace(features, hog=features.hog.astype(np.float32))).identical
    assert not diff(features, features[::-1]).identical
    assert not diff(features, dataclasses.replace(features, points=None)).identical
    assert diff(features, dataclasses.replace(features, meta={})).identical


def test_rows_pair_one_to_one_nearest_first_within_frame_and_scale() -> None:
    base = random_features(4, hog=None, points=None)
    one = np.ones(4, np.float32)
    frame = np.array([20, 20, 20, 21], np.int32)
    a = dataclasses.replace(base, frame=frame, scale=2 * one, length=one,
                            mean=np.array([[0, 0], [1, 0], [50, 50], [9, 9]], np.float32))
    b = dataclasses.replace(a, scale=np.array([2, 2, 1, 2], np.float32), length=one + np.float32([0, 2, 9, 0.5]),
                            mean=np.array([[1.75, 0], [0.75, -1.5], [50, 50], [9, 11]], np.float32))
    # (1, 0)-(1.75, 0) is nearest, at 0.75; (0, 0) is left with (0.75, -1.5), at 1.5; scale 1 is another scale.
    found = diff(a, b)
    assert found.matched == 3
    assert found.position == (1.5, pytest.approx(np.percentile([0.75, 1.5, 2.0], 99)))
    assert found.largest["length"] == 2.0
    assert diff(a, b, tolerance=0.5).matched == 1
    assert diff(a, b, tolerance=0).matched == 0


def test_nothing_to_match() -> None:
    features = random_features(5)
    for a, b, shares in ((features, features[:0], (0, 0)), (features[:0], features[:0], (0, 0)),
                         (features, dataclasses.replace(features, frame=features.frame + 100), (0, 0))):
        found = diff(a, b)
        assert (found.matched, found.position, found.cosine) == (0, None, {})
        assert (found.matched_of_a, found.matched_of_b) == shares
        assert found.largest.keys() <= {"homographies"}
    assert diff(features[:0], features[:0]).identical


def test_what_only_one_has_is_left_out() -> None:
    a = random_features(30, position=np.full((30, 3), np.nan, np.float32))
    found = diff(a, dataclasses.replace(a, hog=None, homographies=a.homographies[1:]))
    assert list(found.cosine) == ["trajectory", "hof", "mbhx", "mbhy"]
    assert found.largest.keys() == set(a.arrays()) - {"hog", "homographies", "position"}


def test_table() -> None:
    features = random_features(50)
    found = diff(features, dataclasses.replace(features, length=features.length + 0.25))
    table = dict(found.rows())
    assert table["identical"] == "no"
    assert table["rows of A, of B"] == "50, 50"
    assert table["matched of A"] == "100.0000%"
    assert table["mean position p50, p99"] == "0.000000, 0.000000 px"
    assert table["hog cosine p50, p5"] == "1.000000, 1.000000"
    assert table["length largest difference"] == "0.25"
    assert str(found).splitlines()[0] == "identical" + " " * 23 + "no"
    assert len(str(found).splitlines()) == len(table)


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    features = random_features(5)
    with pytest.raises(ParameterError, match=r"a row of mbhx has the shape \(96,\) in A and \(64,\) in B"):
        diff(features, dataclasses.replace(features, mbhx=features.mbhx[:, :64]))
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(ParameterError, match=rf"tolerance is {tolerance}: it must be 0 px or more"):
            diff(features, features, tolerance=tolerance)
    with pytest.raises(FormatError, match=r"none\.npz does not exist"):
        diff(features, tmp_path / "none.npz")
