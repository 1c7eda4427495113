"""dataset_features: where the features of clips lie, and the trajectories of segments."""

from __future__ import annotations

import numpy as np
import pytest
from random_features import random_features

from idt.dataset_features import load_features, rows_of
from idt.datasets import Dataset, Item
from idt.errors import FormatError, ParameterError


def test_segments_hold_the_trajectories_that_lie_within():
    features = random_features(200, 3, frames=100)
    features.meta["video"]["fps"] = 25.0
    part = rows_of(features, Item("v.avi", "a", start_s=1.0, end_s=2.0))
    assert 0 < len(part) < 200
    assert part.frame.min() >= 25 + 15
    assert part.frame.max() <= 50
    expected = np.count_nonzero((features.frame >= 40) & (features.frame <= 50))
    assert len(part) == expected
    assert rows_of(features, Item("v.avi", "a")) is features
    with pytest.raises(ParameterError, match=r"v\.avi is given as a segment in seconds, but its features do not tell"):
        rows_of(random_features(5), Item("v.avi", "a", start_s=1.0))


def test_features_are_found_as_extract_wrote_them(tmp_path):
    items = tuple(Item(f"v/{name}_{actor}.avi", name, actor) for name in "abc" for actor in ("p", "q", "r", "s"))
    dataset = Dataset(items, ("a", "b", "c"), "made", "csv", "v")
    videos = [random_features(20, seed) for seed in range(len(items))]
    for item, features in zip(dataset.items, videos, strict=True):
        features.save(tmp_path / f"{item.path.removeprefix('v/')}.npz")
    loaded = load_features(dataset, tmp_path)
    np.testing.assert_array_equal(loaded[7].hog, videos[7].hog)
    (tmp_path / "a_q.avi.npz").unlink()
    (tmp_path / "c_s.avi.npz").unlink()
    with pytest.raises(FormatError, match=r"a_q\.avi\.npz is missing, and 1 more: extract the videos first, idt"):
        load_features(dataset, tmp_path)
