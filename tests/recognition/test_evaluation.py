"""evaluation: codebooks from features, encoded videos, accuracy on splits; nothing is learnt from test clips."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np
import pytest
from random_features import random_features

from idt.batch import extract_videos
from idt.encoding import Chi2SVM, DiagonalGMM, FisherVector, LinearSVM, Normalise
from idt.encoding.codebook import sample
from idt.encoding.norms import root_sift
from idt.encoding.pca import PCA
from idt.encoding.svm import gram
from idt.errors import ParameterError
from idt.features.record import Features
from idt.params import Params
from idt.recognition.codebook_learning import learn_codebook
from idt.recognition.datasets import Dataset, Item, Split, read_dataset, splits
from idt.recognition.evaluation import COMBINED, Evaluation, SplitResult, evaluate
from idt.recognition.vectors import EncodingParams, encode

SMALL = EncodingParams(channels=("hog", "mbhx"), words=4, samples=2000, root=True)


def video(label, seed, rows=60):
    """Features whose HOG tells the class (0, 1 or 2), the other descriptors nothing."""
    features = random_features(rows, seed)
    features.hog[:, 32 * label:32 * label + 32] *= 1.3
    features.position[:, 2] = np.random.default_rng(seed).uniform(0, 1, rows)
    return features


@pytest.fixture(scope="module")
def made():
    """A dataset of three classes and four actors, and its features."""
    items = tuple(Item(f"v/{name}_{actor}.avi", name, actor) for name in "abc" for actor in ("p", "q", "r", "s"))
    dataset = Dataset(items, ("a", "b", "c"), "made", "csv", "v")
    return dataset, [video("abc".index(item.label), n) for n, item in enumerate(items)]


def test_scores_are_those_of_the_steps_one_by_one(made):
    dataset, videos = made
    split = splits(dataset, "leave-one-group-out")[1]
    found = evaluate(dataset, videos, [split], SMALL)
    assert found.extraction == Params().to_dict()
    train, test = list(split.train), list(split.test)
    labels = np.array([dataset.classes.index(item.label) for item in dataset.items])
    grams = {}
    for channel in ("hog", "mbhx"):
        bags = [getattr(v, channel) for v in videos]
        drawn = root_sift(sample([bags[n] for n in train], -(-2000 // len(train)), seed=0))
        pca = PCA(0.5).fit([drawn])
        fisher = FisherVector(DiagonalGMM(4, seed=0)).fit([pca.project(drawn)])
        vectors = Normalise().transform(fisher.transform([pca.project(root_sift(bag)) for bag in bags]))
        grams[channel] = gram(vectors)
    grams[COMBINED] = grams["hog"] + grams["mbhx"]
    assert found.channels == ["hog", "mbhx", COMBINED]
    for channel, products in grams.items():
        machine = LinearSVM(C=100.0).fit_gram(products[np.ix_(train, train)], labels[train])
        np.testing.assert_allclose(found.results[0].scores[channel], machine.decide_gram(products[np.ix_(test, train)]),
                                   atol=2e-4)


@pytest.mark.parametrize("encoder", ["fisher", "vlad", "bow"])
def test_what_tells_the_class_is_learnt(made, encoder):
    dataset, videos = made
    params = EncodingParams(channels=("hog", "mbhy"), encoder=encoder, words=6, samples=3000, root=True)
    found = evaluate(dataset, videos, splits(dataset, "leave-one-group-out"), params)
    assert found.accuracy("hog") >= 11 / 12
    assert found.accuracy() > 0.7  # with a channel of noise beside it
    assert found.accuracy("mbhy") < 0.7
    assert found.average_precision("hog") > 0.95


def test_nothing_is_learnt_from_test_clips(made):
    dataset, videos = made
    split = splits(dataset, "leave-one-group-out")[0]
    changed = list(videos)
    other = split.test[-1]
    changed[other] = random_features(500, 99)
    for encoder in ("fisher", "bow"):
        params = EncodingParams(channels=("hog",), encoder=encoder, words=4, samples=2000)
        before, after = (evaluate(dataset, v, [split], params).results[0].scores for v in (videos, changed))
        kept = [n for n, clip in enumerate(split.test) if clip != other]
        for channel in before:
            np.testing.assert_array_equal(before[channel][kept], after[channel][kept])


def test_the_codebook_tells_what_it_was_learnt_from(made):
    _, videos = made
    codebook = learn_codebook(videos[:3], SMALL)
    assert codebook.meta == {"params": SMALL.to_dict(), "videos": 3, "descriptors": 180,
                             "extraction": Params().to_dict()}
    vectors = encode(videos[5], codebook).channels
    assert {name: v.shape for name, v in vectors.items()} == {"hog": (1, 2 * 4 * 48), "mbhx": (1, 2 * 4 * 48)}
    again = encode(videos[5], learn_codebook(videos[:3], SMALL, threads=2)).channels
    assert all(vectors[name].tobytes() == again[name].tobytes() for name in vectors)


def test_root_sift_is_not_for_trajectories_and_a_pyramid_has_its_cells(made):
    _, videos = made
    params = EncodingParams(channels=("trajectory", "hog"), words=3, samples=2000, pca=1.0, root=True,
                            pyramid=("1x1x1", "1x3x1"))
    codebook = learn_codebook(videos, params)
    assert [codebook.channels[name].root for name in ("trajectory", "hog")] == [False, True]
    vectors = encode(videos[0], codebook).channels
    assert vectors["trajectory"].shape == (1, 4 * 2 * 3 * 30)
    assert vectors["hog"].shape == (1, 4 * 2 * 3 * 96)


def test_figures_follow_from_the_scores():
    items = tuple(Item(f"{n}.avi", "aabbc"[n]) for n in range(5))
    scores = np.array([[3.0, 1, 0], [0, 2, 1], [0, 1, 0.5], [1, 0, 2], [0, 0, 1]])
    found = Evaluation(Dataset(items, ("a", "b", "c"), "d", "csv", "."), EncodingParams(), (
        SplitResult(Split("1", (2, 3, 4), (0, 1)), {COMBINED: scores[:2]}),
        SplitResult(Split("2", (0, 1), (2, 3, 4)), {COMBINED: scores[2:]})))
    np.testing.assert_array_equal(found.confusion(), [[1, 1, 0], [0, 1, 1], [0, 0, 1]])
    assert found.accuracy() == 3 / 5
    np.testing.assert_array_equal(found.class_accuracy(), [0.5, 0.5, 1])
    # a: all of the first split are of it; b: ranked first and last of three; c: ranked second of three
    assert found.average_precision() == pytest.approx(np.mean([1, (1 + 2 / 3) / 2, 1 / 2]))


@pytest.mark.parametrize("threads", [1, 2])
def test_progress_tells_how_far_each_step_of_a_split_is(made, threads):
    dataset, videos = made
    seen = []
    parts = splits(dataset, "leave-one-group-out")[:2]
    evaluate(dataset, videos, parts, SMALL, threads=threads, progress=lambda *state: seen.append(state))
    assert seen == [(split, *state) for split in parts for state in [
        *(("learn", n / 2) for n in range(3)), *(("encode", n / 24) for n in range(25)), ("classify", 0.0)]]


def test_what_cannot_be_evaluated(made):
    dataset, videos = made
    few = splits(dataset, "leave-one-group-out")[:1]
    with pytest.raises(ParameterError, match="features of 11 videos for the 12 clips of made"):
        evaluate(dataset, videos[:-1], few, SMALL)
    with pytest.raises(ParameterError, match="There is no split of made to evaluate"):
        evaluate(dataset, videos, [], SMALL)
    with pytest.raises(ParameterError, match=r"^No training video has a trajectory: there is nothing to learn a code"):
        evaluate(dataset, [random_features(0)] * len(videos), few, SMALL)
    lacking = [*videos[:-1], random_features(40, mbhx=None)]
    with pytest.raises(ParameterError, match=r"its features have no mbhx: extract with it, or leave it out"):
        evaluate(dataset, lacking, few, SMALL)
    with pytest.raises(ParameterError, match=re.escape("to learn 5000 ")):
        evaluate(dataset, videos, few, EncodingParams(words=5000))


def test_a_class_that_training_lacks_is_never_chosen(made):
    dataset, videos = made
    train = tuple(n for n, item in enumerate(dataset.items) if item.label != "c" and item.group != "p")
    found = evaluate(dataset, videos, [Split("odd", train, (0, 8))], SMALL)
    assert np.isneginf(found.results[0].scores[COMBINED][:, 2]).all()
    first = found.results[0].scores[COMBINED][:, 0]
    assert found.average_precision() == np.mean([1.0 if first[0] > first[1] else 0.5, 0.5])  # c: a tie of both clips


def test_chi2_of_channels_is_one_kernel(made):
    dataset, videos = made
    split = splits(dataset, "leave-one-group-out")[2]
    params = EncodingParams(channels=("hog", "hof"), encoder="bow", words=8, samples=2000, norm="l1")
    found = evaluate(dataset, videos, [split], params).results[0].scores
    codebook = learn_codebook([videos[n] for n in split.train], params)
    labels = [dataset.classes.index(dataset.items[n].label) for n in split.train]
    tables = [[np.stack([encode(videos[n], codebook).channels[c][0] for n in side]) for c in ("hog", "hof")]
              for side in (split.train, split.test)]
    machine = Chi2SVM(C=100.0).fit(tables[0], labels)
    np.testing.assert_allclose(found[COMBINED], machine.decision_function(tables[1]), atol=1e-4)


@pytest.mark.slow
def test_actions_of_real_people(data, tmp_path):
    whole = read_dataset(data / "weizmann")
    items = tuple(item for item in whole.items if item.label in ("bend", "jack", "run", "walk"))
    dataset = dataclasses.replace(whole, items=items, classes=("bend", "jack", "run", "walk"))
    quick = Params(scales=1, stride=8, step=2, length=10, temporal_cells=2, descriptors=("hog", "mbhx"))
    extract_videos([item.path for item in items], tmp_path, quick)
    videos = [Features.load(tmp_path / f"{os.path.basename(item.path)}.npz") for item in items]
    params = EncodingParams(channels=("hog", "mbhx"), words=16, samples=20_000)
    found = evaluate(dataset, videos, splits(dataset, "leave-one-group-out"), params)
    assert found.accuracy() >= 0.95
    assert found.confusion().sum() == len(items) == 36
