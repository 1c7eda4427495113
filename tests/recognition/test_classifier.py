"""classifier: models from labelled clips, and the labels of other clips; the same scores as those of an evaluation."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_features import random_features

from idt.encoding import Chi2SVM, LinearSVM
from idt.encoding.model import Model
from idt.errors import FormatError, ParameterError
from idt.params import Params
from idt.recognition.classifier import Prediction, load_model, predict, train
from idt.recognition.datasets import Dataset, Item, splits
from idt.recognition.evaluation import COMBINED, evaluate
from idt.recognition.vectors import EncodingParams, encode
from waiting import PATIENCE_S

SMALL = EncodingParams(channels=("hog", "mbhx"), words=4, samples=2000)
BAGS = EncodingParams(channels=("hog", "mbhx"), encoder="bow", words=20, norm="l1", samples=2000, cost=0.05)


def video(label, seed, rows=60):
    """Features whose HOG tells the class (0, 1 or 2), the other descriptors nothing."""
    features = random_features(rows, seed)
    features.hog[:, 32 * label:32 * label + 32] *= 1.3
    return features


def dataset_and_videos():
    """Clips of three classes, which are not in the order of the alphabet, by four actors; and their features."""
    items = tuple(Item(f"v/{name}_{actor}.avi", name, actor) for name in "cab" for actor in ("p", "q", "r", "s"))
    dataset = Dataset(items, ("c", "a", "b"), "made", "csv", "v")
    return dataset, [video("cab".index(item.label), n) for n, item in enumerate(items)]


made = pytest.fixture(dataset_and_videos, scope="module", name="made")


def part(made, indices):
    dataset, videos = made
    return dataclasses.replace(dataset, items=tuple(dataset.items[n] for n in indices)), [videos[n] for n in indices]


def saved(model):
    file = io.BytesIO()
    model.save(file)
    return file.getvalue()


@pytest.mark.parametrize("params", [SMALL, BAGS, dataclasses.replace(SMALL, encoder="vlad", balanced=True)])
def test_scores_of_new_clips_are_those_of_an_evaluation(made, params):
    dataset, videos = made
    split = splits(dataset, "leave-one-group-out")[2]
    expected = evaluate(dataset, videos, [split], params).results[0].scores[COMBINED]
    model = train(*part(made, split.train), params)
    assert model.labels == ("a", "b", "c")
    for n, scores in zip(split.test, expected, strict=True):
        found = predict(videos[n], model)
        by_label = dict(zip(found.labels, found.scores, strict=True))
        np.testing.assert_allclose([by_label[label] for label in dataset.classes], scores, atol=1e-5)
        assert list(found.scores) == sorted(found.scores, reverse=True)


@pytest.mark.parametrize(("params", "machine"), [(SMALL, LinearSVM), (BAGS, Chi2SVM)])
def test_a_model_knows_its_clips_and_says_what_it_was_learnt_from(made, params, machine):
    dataset, videos = made
    model = train(dataset, videos, params)
    assert type(model.machine) is machine
    assert model.meta == {"dataset": "made", "clips": 12, "classes": 3}
    assert model.codebook.meta["params"] == params.to_dict()
    assert model.codebook.meta["extraction"] == Params().to_dict()
    assert [predict(v, model).labels[0] for v in videos] == [item.label for item in dataset.items]


def test_what_a_linear_machine_learns_is_what_fit_learns_from_vectors_side_by_side(made):
    dataset, videos = made
    model = train(dataset, videos, SMALL)
    rows = np.hstack([np.concatenate([encode(v, model.codebook).channels[name] for v in videos])
                      for name in model.codebook.channels])
    machine = LinearSVM(C=100.0).fit(rows, [item.label for item in dataset.items])
    np.testing.assert_allclose(model.machine.coef_, machine.coef_, atol=1e-5)
    np.testing.assert_allclose(model.machine.intercept_, machine.intercept_, atol=1e-5)
    assert model.machine.coef_.dtype == np.float32


def test_only_support_vectors_are_kept(made):
    dataset, videos = made
    # At a large cost clips beyond the margin count for nothing.
    many = dataclasses.replace(dataset, items=dataset.items * 6)
    videos = [*videos, *(video("cab".index(item.label), 100 + n) for n, item in enumerate(dataset.items * 5))]
    params = dataclasses.replace(BAGS, channels=("hog",), cost=1000.0)
    model = train(many, videos, params)
    full = Chi2SVM(C=1000.0).fit([np.concatenate([encode(v, model.codebook).channels["hog"] for v in videos])],
                                 [item.label for item in many.items])
    used = full.dual_coef_.any(axis=0)
    assert 3 <= used.sum() < len(videos)
    assert model.machine.dual_coef_.shape == (3, used.sum())
    np.testing.assert_array_equal(model.machine.channels_[0], full.channels_[0][used])
    rows = {"hog": full.channels_[0]}
    np.testing.assert_allclose(model.scores(rows), full.decision_function([rows["hog"]]), atol=1e-9)


@pytest.mark.parametrize("params", [SMALL, BAGS])
def test_threads_do_not_change_a_byte(made, params):
    first, second = (train(*made, params, threads=threads) for threads in (1, 3))
    assert saved(first) == saved(second)
    clip = video(1, 50)
    assert predict(clip, first) == predict(clip, first, threads=2)


def test_a_saved_model_predicts_the_same(made, tmp_path):
    model = train(*made, SMALL)
    (tmp_path / "x.model.npz").write_bytes(saved(model))
    clip = video(2, 51)
    assert predict(clip, Model.load(tmp_path / "x.model.npz")) == predict(clip, model)


def test_labels_come_best_first_and_equals_in_the_order_of_the_model(made):
    model = train(*made, SMALL)
    model.machine.coef_[:] = 0
    model.machine.intercept_[:] = [1.0, 2.0, 1.0]
    assert predict(video(0, 52), model) == Prediction(("b", "a", "c"), (2.0, 1.0, 1.0))


def test_a_clip_without_trajectories_gets_what_the_classes_have_in_common(made):
    model = train(*made, SMALL)
    found = predict(random_features(0), model)
    assert dict(zip(found.labels, found.scores, strict=True)) == pytest.approx(
        dict(zip(model.labels, model.machine.intercept_.tolist(), strict=True)))


def test_what_cannot_be_learnt_from(made):
    dataset, videos = made
    with pytest.raises(ParameterError, match=r"^There are features of 11 videos for the 12 clips of made: give"):
        train(dataset, videos[1:], SMALL)
    single = dataclasses.replace(dataset, items=dataset.items[4:8], classes=("a",))
    with pytest.raises(ParameterError, match=r"^made has clips of one class only, a: a classifier needs at least two "):
        train(single, videos[4:8], SMALL)
    with pytest.raises(ParameterError, match=r"threads is 0"):
        train(dataset, videos, SMALL, threads=0)


@pytest.mark.parametrize("meta", [{"origin": "text", "params": Params().to_dict()},
                                  {"params": Params(stride=7).to_dict()}, {}])
def test_features_of_which_new_ones_could_not_be_made(made, meta):
    dataset, videos = made
    with pytest.raises(ParameterError, match=r"^made: its features were not all extracted in the same known way"):
        train(dataset, [*videos[:-1], dataclasses.replace(videos[-1], meta=meta)], SMALL)


def test_features_that_a_model_does_not_take(made):
    model = train(*made, SMALL)
    with pytest.raises(ParameterError, match=r"its features have no mbhx"):
        predict(random_features(20, mbhx=None), model)
    with pytest.raises(ParameterError, match=r"hog of .* has 72 columns: 96 are needed, as many as were learnt from"):
        predict(random_features(20, hog=np.ones((20, 72), np.float16)), model)
    clip = random_features(20)
    clip.hog[11, 3] = np.nan
    with pytest.raises(ParameterError, match=r"hog of .* has a number that is NaN, .* in row 11"):
        predict(clip, model)


_COMPILED = """
import dataclasses, os, sys
from pathlib import Path
from test_classifier import BAGS, SMALL, dataset_and_videos
from idt.recognition.classifier import compile_kernels, encode_all, train
compile_kernels()
files = sorted(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nb?"))
dataset, videos = dataset_and_videos()
for params in (SMALL, BAGS, dataclasses.replace(SMALL, encoder="vlad")):
    model = train(dataset, videos, params)
    model.scores(encode_all(videos, model.codebook))
print(len(files), sorted(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nb?")) == files)
"""


def test_what_is_compiled_ahead_is_all_that_is_used(tmp_path):
    path = os.pathsep.join(map(str, list(Path(__file__).parents)[:2]))
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    child = subprocess.run([sys.executable, "-c", _COMPILED], capture_output=True, text=True,
                           timeout=PATIENCE_S, check=False, env=env)
    assert child.stdout == "12 True\n", child.stderr


def test_a_model_whose_extraction_nobody_could_repeat(made, tmp_path):
    path, model = tmp_path / "x.model.npz", train(*made, SMALL)
    path.write_bytes(saved(model))
    assert saved(load_model(path)) == saved(model)
    model.codebook.meta["extraction"]["stride"] = 0
    path.write_bytes(saved(model))
    message = r"x\.model\.npz: the extraction in its meta cannot be used .stride is 0: it must be from 1 to 1000\)\.$"
    with pytest.raises(FormatError, match=message):
        load_model(path)
