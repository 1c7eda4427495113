"""comparison: methods on the same splits, what follows from their scores, intervals and McNemar's test."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from random_features import random_features

from idt.comparison.methods import ExternalMethod, FeatureMethod, Fusion
from idt.comparison.run import Comparison, Row, compare, extractions, features_folder
from idt.encoding import LinearSVM, fuse
from idt.errors import FormatError, OutputError, ParameterError
from idt.params import Params
from idt.recognition.codebook_learning import learn_codebook
from idt.recognition.datasets import Dataset, Item, Split, splits
from idt.recognition.evaluation import evaluate
from idt.recognition.vectors import EncodingParams, encode


def compared(dataset, parts, **predicted):
    """A comparison whose methods take the tests for these classes."""
    ends = np.cumsum([len(split.test) for split in parts])[:-1]
    rows = [Row(ExternalMethod(name=name, scores=Path("t.csv")), tuple(
        np.split(np.eye(len(dataset.classes))[classes], ends)), {}, {}) for name, classes in predicted.items()]
    return Comparison(dataset, tuple(parts), tuple(rows))


@pytest.fixture
def found():
    """Five groups of four clips of two classes, each tested once; what three methods make of them."""
    items = tuple(Item(f"{n}.avi", "ab"[n % 2], f"g{n // 4}") for n in range(20))
    dataset = Dataset(items, ("a", "b"), "d", "csv", ".")
    right = np.arange(20) % 2
    half = np.where(np.arange(20) < 10, right, 1 - right)
    return compared(dataset, splits(dataset, "leave-one-group-out"), good=right, half=half,
                    most=np.where(np.arange(20) % 4 == 1, 0, right))


def test_figures_are_those_of_the_scores(found):
    np.testing.assert_array_equal(found.labels, np.arange(20) % 2)
    np.testing.assert_array_equal(found.predicted("half"), np.r_[np.arange(10) % 2, 1 - np.arange(10) % 2])
    assert [found.accuracy(name) for name in found.names] == [1.0, 0.5, 0.75]
    np.testing.assert_array_equal(found.split_accuracy("half"), [1, 1, 0.5, 0, 0])
    np.testing.assert_array_equal(found.class_accuracy("most"), [1, 0.5])
    np.testing.assert_array_equal(found.confusion("most"), [[10, 0], [5, 5]])
    assert found.average_precision("good") == 1.0
    assert found.row("most") is found.rows[2]


def test_of_equal_scores_the_first_class_counts():
    dataset = Dataset((Item("a.avi", "a"), Item("b.avi", "b")), ("a", "b"), "d", "csv", ".")
    row = Row(ExternalMethod(name="flat", scores=Path("t.csv")), (np.zeros((2, 2)),), {}, {})
    assert Comparison(dataset, (Split("s", (), (1, 0)),), (row,)).predicted("flat").tolist() == [0, 0]


def test_the_interval_is_that_of_drawn_groups(found):
    assert found.interval("good") == (1.0, 1.0)
    assert found.interval("most") == (0.75, 0.75)  # three of four in every group
    # Of five groups k of 1, l of 0.5 and the others of 0: the quantiles of their exact distribution.
    shares = {}
    for k in range(6):
        for half in range(6 - k):
            ways = math.factorial(5) / (math.factorial(k) * math.factorial(half) * math.factorial(5 - k - half))
            share = (k + half / 2) / 5
            shares[share] = shares.get(share, 0) + ways * 0.4 ** (5 - half) * 0.2 ** half
    values = sorted(shares)
    total = np.cumsum([shares[value] for value in values])
    low, high = (values[int(np.searchsorted(total, q))] for q in (0.1, 0.9))
    assert found.interval("half", level=0.8, samples=5000) == pytest.approx((low, high))
    assert found.interval("half", level=0.8, samples=50) == found.interval("half", level=0.8, samples=50)
    assert found.interval("half", samples=3) != found.interval("half", samples=3, seed=1)


def test_clips_without_a_group_are_drawn_by_themselves():
    dataset = Dataset(tuple(Item(f"{n}.avi", "ab"[n % 2]) for n in range(400)), ("a", "b"), "d", "csv", ".")
    found = compared(dataset, splits(dataset, "k-fold"), half=np.zeros(400, int))
    assert found.drawn == (400, "videos")
    assert found.interval("half") == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.005)


def test_groups_that_each_class_numbers_anew_are_drawn_class_by_class():
    def drawn(name):
        items = tuple(Item(name(label, group, clip), label, f"g{group:02}")
                      for label in "abcdefgh" for group in range(1, 6) for clip in range(5))
        dataset = Dataset(items, tuple("abcdefgh"), "d", "csv", ".")
        wrong = [item.label in "ab" and item.group > "g03" for item in items]
        labels = np.array(["abcdefgh".index(item.label) for item in items])
        return compared(dataset, [Split("1", (), tuple(range(len(items))))], some=np.where(wrong, 7, labels))

    found, alike = drawn("v_{0}_g{1:02}_c{2:02}.avi".format), drawn("{0}-{1}-{2}.avi".format)
    assert found.drawn == (40, "groups within classes")
    assert alike.drawn == (5, "groups")
    # 4 of 40 units are wrong as a whole: the binomial quantiles.
    low, high = (1 - scipy.stats.binom(40, 0.1).ppf(q) / 40 for q in (0.975, 0.025))
    assert found.interval("some", samples=5000) == pytest.approx((low, high), abs=0.0251)
    assert alike.interval("some", samples=5000) == pytest.approx((0.8, 1.0))  # at most 4 of 5 with 1 in 4 wrong


def test_mcnemar_is_the_exact_binomial_test(found):
    test = found.mcnemar("good", "most")
    assert (test.only_a, test.only_b) == (5, 0)
    assert test.p == pytest.approx(2 / 2**5)
    assert test.statistic == 16 / 5
    test = found.mcnemar("half", "most")  # right alone: 3 of the first ten, 7 of the others
    assert (test.only_a, test.only_b) == (3, 8)
    assert test.p == pytest.approx(2 * sum(math.comb(11, k) for k in range(4)) / 2**11)
    assert test.statistic == 16 / 11
    turned = found.mcnemar("most", "half")
    assert (turned.only_a, turned.only_b, turned.p) == (8, 3, test.p)
    same = found.mcnemar("good", "good")
    assert (same.only_a, same.only_b, same.statistic, same.p) == (0, 0, 0.0, 1.0)


def test_what_cannot_be_asked(found):
    with pytest.raises(ParameterError, match=r"^'god' is no method of the comparison; did you mean good\? The "):
        found.accuracy("god")
    with pytest.raises(ParameterError, match=r"^level is 1: it must be above 0 and below 1\.$"):
        found.interval("good", level=1)
    with pytest.raises(ParameterError, match=r"^samples is 0: it must be at least 1\.$"):
        found.interval("good", samples=0)


SMALL = EncodingParams(channels=("hog", "mbhx"), words=4, samples=2000)


def of_class(label, seed, strength=1.3):
    """Features whose HOG tells the class (0, 1 or 2), the other descriptors nothing."""
    features = random_features(60, seed)
    features.hog[:, 32 * label:32 * label + 32] *= strength
    return features


@pytest.fixture(scope="module")
def made():
    """A dataset of three classes and four actors, and its features, with and without camera motion."""
    items = tuple(Item(f"v/{name}_{actor}.avi", name, actor) for name in "abc" for actor in ("p", "q", "r", "s"))
    dataset = Dataset(items, ("a", "b", "c"), "made", "csv", "v")
    videos = {Params(): [of_class("abc".index(item.label), n) for n, item in enumerate(items)],
              Params(camera=False): [of_class("abc".index(item.label), n, 1.1) for n, item in enumerate(items)]}
    return dataset, videos


def put(made, tmp_path, *methods, **options):
    dataset, videos = made
    parts = options.pop("splits", splits(dataset, "leave-one-group-out"))
    return compare(dataset, methods, parts, tmp_path, **{"read": lambda folder, params: videos[params], **options})


def table(made, path, values, **arrays):
    """Write the table of a method of another program."""
    names = [item.path for item in made[0].items]
    np.savez(path, path=names, **{"classes": ["a", "b", "c"], "scores": values} | arrays)
    return path


def test_a_row_of_features_is_what_evaluate_finds(made, tmp_path, fitted):
    encodings = {"both": SMALL, "hog": replace(SMALL, channels=("hog",)),
                 "balanced": replace(SMALL, channels=("hog", "mbhx", "mbhy"), balanced=True, cost=1.0),
                 "words": replace(SMALL, words=3), "bow": replace(SMALL, encoder="bow", norm="l1"),
                 "vlad": replace(SMALL, encoder="vlad"), "l2": replace(SMALL, norm="l2", pyramid=("1x3x1",))}
    methods = [FeatureMethod(name=name, encoding=encoding) for name, encoding in encodings.items()]
    methods.append(FeatureMethod(name="dense", extraction=Params(camera=False), encoding=SMALL))
    seen = []
    found = put(made, tmp_path, *methods, progress=lambda split, *state: seen.append((split.name, *state)))
    # In each of the four splits, of three channels or two: what rows share is learnt once.
    assert fitted == {"PCA": 4 * (3 + 2), "DiagonalGMM": 4 * (3 + 2 + 2), "KMeans": 4 * 2}
    assert [len(row.scores) for row in found.rows] == [4] * 8
    dataset, videos = made
    assert found.features == videos
    for row in found.rows:
        alone = evaluate(dataset, videos[row.method.extraction], found.splits, row.method.encoding)
        for scores, result in zip(row.scores, alone.results, strict=True):
            np.testing.assert_array_equal(scores, result.scores["combined"])
        assert found.accuracy(row.method.name) == alone.accuracy()
    for name in "pqrs":
        shares = [share for split, _, share in seen if split == name]
        assert shares == sorted(shares)
        assert shares[0] == 0
        assert seen[-1][1:] == ("classify", 1 - 1 / 13)


def test_threads_change_nothing(made, tmp_path):
    vlad = replace(SMALL, encoder="vlad")
    methods = [FeatureMethod(name="a", encoding=SMALL), FeatureMethod(name="b", encoding=vlad),
               Fusion(name="c", of=("a", "b"), how="weighted"), Fusion(name="d", of=("a", "b"), how="concatenation")]
    one, two = (put(made, tmp_path, *methods, threads=threads) for threads in (1, 2))
    for a, b in zip(one.rows, two.rows, strict=True):
        assert [x.tobytes() for x in a.scores] == [x.tobytes() for x in b.scores]
        assert a.weights == b.weights


def test_known_scores_give_known_figures_and_fusions(made, tmp_path):
    labels = np.repeat(np.arange(3), 4)
    right = np.eye(3)[labels]
    first = np.where(np.arange(12)[:, None] % 4 < 3, right, np.roll(right, 1, axis=1))  # wrong of actor s
    second = 10 * np.where(np.arange(12)[:, None] % 4 < 1, np.roll(right, 2, axis=1), right) + 1  # wrong of actor p
    one, two = (ExternalMethod(name=name, scores=table(made, tmp_path / f"{name}.npz", values))
                for name, values in (("one", first), ("two", second)))
    found = put(made, tmp_path, one, two, Fusion(name="mean", of=("one", "two")),
                Fusion(name="rank", of=("one", "two"), how="rank"), Fusion(name="more", of=("mean", "one", "two")))
    assert [found.accuracy(name) for name in found.names] == [9 / 12, 9 / 12, 9 / 12, 9 / 12, 9 / 12]
    assert found.split_accuracy("one").tolist() == [1, 1, 1, 0]
    assert found.split_accuracy("two").tolist() == [0, 1, 1, 1]
    assert found.split_accuracy("mean").tolist() == [0, 1, 1, 1]  # the scores of the second are larger
    test = found.mcnemar("one", "two")
    assert (test.only_a, test.only_b, test.p) == (3, 3, 1.0)
    for split, *rows in zip(found.splits, *(row.scores for row in found.rows), strict=True):
        clips = list(split.test)
        np.testing.assert_array_equal(rows[0], first[clips])
        np.testing.assert_allclose(rows[2], (first[clips] + second[clips]) / 2)
        np.testing.assert_array_equal(rows[3], fuse([first[clips], second[clips]], method="rank"))
        np.testing.assert_allclose(rows[4], (rows[2] + rows[0] + rows[1]) / 3)
    assert [row.seconds.keys() for row in found.rows] == [set(), set(), {"classify"}, {"classify"}, {"classify"}]
    assert [row.bytes for row in found.rows] == [{}] * 5


def vectors_of(seed, width, tells):
    """Vectors of the clips, some of whose numbers tell the class."""
    vectors = np.random.default_rng(seed).normal(size=(12, width))
    vectors[:, :3] += tells * np.eye(3)[np.repeat(np.arange(3), 4)]
    return vectors


def test_features_of_others_have_a_linear_machine_and_are_joined_by_length(made, tmp_path):
    tables = {"c3d": vectors_of(0, 20, 4), "i3d": 100 * vectors_of(1, 7, 2).astype(np.float32)}
    scores = np.ones((12, 3))
    methods = [ExternalMethod(name=name, features=table(made, tmp_path / f"{name}.npz", scores, features=values))
               for name, values in tables.items()]
    joined = [Fusion(name="both", of=("c3d", "i3d"), how="concatenation", cost=10),
              Fusion(name="nested", of=("both", "c3d"), how="concatenation")]
    found = put(made, tmp_path, *methods, *joined)
    unit = {name: values / np.linalg.norm(values, axis=1, keepdims=True) for name, values in tables.items()}
    unit["both"] = np.hstack([unit["c3d"], unit["i3d"]])
    unit["nested"] = np.hstack([unit["both"] / np.sqrt(2), unit["c3d"]])
    labels = np.repeat(np.arange(3), 4)
    for name, vectors in unit.items():
        for split, scores in zip(found.splits, found.row(name).scores, strict=True):
            train = list(split.train)
            machine = LinearSVM(C=10 if name == "both" else 100).fit(vectors[train], labels[train])
            np.testing.assert_allclose(scores, machine.decision_function(vectors[list(split.test)]), atol=1e-4)
    files = {name: (tmp_path / f"{name}.npz").stat().st_size for name in tables}
    assert found.row("c3d").bytes == {"features": files["c3d"], "vectors": 12 * 20 * 8}
    assert found.row("nested").bytes == {"features": sum(files.values()), "vectors": 12 * (20 * 8 + 7 * 4)}


def test_trajectories_are_joined_with_features_of_others(made, tmp_path):
    """Of trajectories the channels are summed, then their vector is scaled to length 1, and so is an RBF-χ² kernel."""
    dataset, videos = made
    split = splits(dataset, "leave-one-group-out")[2]
    external = ExternalMethod(name="c3d", features=table(made, tmp_path / "t.npz", np.ones((12, 3)),
                                                         features=vectors_of(0, 20, 4)))
    found = put(made, tmp_path, external, FeatureMethod(name="fv", encoding=SMALL),
                Fusion(name="both", of=("c3d", "fv"), how="concatenation"), splits=[split])
    clips = [*split.train, *split.test]
    codebook = learn_codebook([videos[Params()][n] for n in split.train], SMALL)
    parts = [np.vstack([np.hstack(list(encode(videos[Params()][n], codebook).channels.values())) for n in clips]),
             vectors_of(0, 20, 4)[clips]]
    vectors = np.hstack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts])
    machine = LinearSVM(C=100).fit(vectors[:9], [dataset.items[n].label for n in split.train])
    np.testing.assert_allclose(found.row("both").scores[0], machine.decision_function(vectors[9:]), atol=1e-4)


def test_weights_are_found_on_the_training_side(made, tmp_path):
    dataset, _ = made
    labels = np.repeat(np.arange(3), 4)
    values = {"good": vectors_of(0, 6, 2.5), "bad": vectors_of(1, 6, 1.0)}
    scores = np.random.default_rng(5).normal(size=(12, 3)) + 0.8 * np.eye(3)[labels]
    methods = [ExternalMethod(name=name, features=table(made, tmp_path / f"{name}.npz", scores, features=vectors))
               for name, vectors in values.items()]
    methods.append(ExternalMethod(name="net", scores=tmp_path / "good.npz"))
    fusion = Fusion(name="all", of=("good", "bad", "net"), how="weighted")
    odd = Split("odd", (0, 1, 3, 4, 6, 7, 8, 9, 10), (2, 5, 11))  # whose groups lie otherwise on the training side
    found = put(made, tmp_path, *methods, fusion, splits=[*splits(dataset, "leave-one-group-out"), odd])
    for number, split in enumerate(found.splits):
        train = np.array(split.train)
        actors = np.array([dataset.items[n].group for n in train])
        inner = []
        for vectors in values.values():  # each actor left is a fold
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            one = np.zeros((9, 3))
            for actor in set(actors):
                out = actors == actor
                machine = LinearSVM(C=100).fit(unit[train[~out]], labels[train[~out]])
                one[out] = machine.decision_function(unit[train[out]])
            inner.append(one)
        inner.append(scores[train])
        spreads = [one.std() for one in inner]
        best = {}
        for a in range(11):
            for b in range(11 - a):
                tenths = np.array([a, b, 10 - a - b])
                fused = sum(n * one / spread for n, one, spread in zip(tenths, inner, spreads, strict=True))
                best[tuple(tenths / 10)] = ((fused.argmax(axis=1) == labels[train]).sum(), -(tenths ** 2).sum())
        chosen = found.row("all").weights[number]
        assert best[chosen] == max(best.values())
        expected = sum(weight * found.row(name).scores[number] / spread
                       for weight, name, spread in zip(chosen, fusion.of, spreads, strict=True))
        total = sum(weight / spread for weight, spread in zip(chosen, spreads, strict=True))
        np.testing.assert_allclose(found.row("all").scores[number], expected / total, atol=1e-6)
    assert len(found.row("all").weights) == 5
    assert found.row("good").weights == ()


def test_weights_do_not_depend_on_test_clips(made, tmp_path):
    split = splits(made[0], "leave-one-group-out")[:1]
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 4)
    one, two = (rng.normal(size=(12, 3)) + np.eye(3)[labels] for _ in range(2))
    weights = set()
    for factor in (1, -100, 100):
        one[list(split[0].test)] *= factor
        methods = [ExternalMethod(name=name, scores=table(made, tmp_path / f"{name}.npz", values))
                   for name, values in (("one", one), ("two", two))]
        found = put(made, tmp_path, *methods, Fusion(name="w", of=("one", "two"), how="weighted"),
                    Fusion(name="m", of=("one", "two")), Fusion(name="deep", of=("m", "w", "two"), how="weighted"),
                    splits=split)
        weights.add((found.row("w").weights, found.row("deep").weights))
    assert len(weights) == 1


def test_a_class_that_training_lacks_is_left_out_of_fusions(made, tmp_path):
    dataset, _ = made
    train = tuple(n for n, item in enumerate(dataset.items) if item.label != "c" and item.group != "p")
    external = ExternalMethod(name="net", scores=table(made, tmp_path / "t.npz", np.tile([1.0, 2.0, 9.0], (12, 1))))
    found = put(made, tmp_path, FeatureMethod(name="fv", encoding=SMALL), external,
                *(Fusion(name=how, of=("fv", "net"), how=how) for how in ("mean", "rank", "weighted")),
                splits=[Split("odd", train, (0, 4))])
    assert found.predicted("net").tolist() == [2, 2]
    for name in ("mean", "rank", "weighted"):
        assert np.isneginf(found.row(name).scores[0][:, 2]).all()
        assert np.isfinite(found.row(name).scores[0][:, :2]).all()


def test_shared_work_counts_for_each_method_and_once_for_a_fusion(made, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "process_time", map(float, itertools.count()).__next__)  # each piece of work takes 1 s
    monkeypatch.setattr(time, "thread_time", map(float, itertools.count()).__next__)
    methods = [FeatureMethod(name="hog", encoding=replace(SMALL, channels=("hog",))),
               FeatureMethod(name="both", encoding=SMALL), Fusion(name="mean", of=("hog", "both")),
               Fusion(name="joined", of=("hog", "both"), how="concatenation"),
               Fusion(name="weighted", of=("hog", "both"), how="weighted"),
               FeatureMethod(name="l2", encoding=replace(SMALL, norm="l2")), Fusion(name="norms", of=("both", "l2"))]
    found = put(made, tmp_path, *methods)
    seconds = {row.method.name: row.seconds for row in found.rows}
    assert all(list(one) == ["learn", "encode", "classify"] for one in seconds.values())
    # In each of the four splits PCA and words of each channel, which two norms share, and its encoding.
    assert [one["learn"] for one in seconds.values()] == [8, 16, 16, 16, 16, 16, 16]
    assert [one["encode"] for one in seconds.values()] == [4, 8, 8, 8, 8, 8, 16]
    # A kernel, its classifier, another for weights; the sum of kernels and of scores.
    assert [one["classify"] for one in seconds.values()] == [8, 8, 8 + 8 + 4, 4, 8 + 8 + 4 + 4 + 4, 8, 8 + 8 + 4]
    size = 2 * 4 * 48 * 4  # of a Fisher vector with means and variances, in float32
    assert found.row("hog").bytes == {"features": 0, "vectors": 12 * size}
    assert found.row("joined").bytes == found.row("both").bytes == {"features": 0, "vectors": 12 * 2 * size}


def test_what_cannot_be_compared(made, tmp_path):
    dataset, _ = made
    scores = np.ones((12, 3))
    net = ExternalMethod(name="net", scores=table(made, tmp_path / "t.npz", scores))
    fv = FeatureMethod(name="fv", encoding=SMALL)
    with pytest.raises(ParameterError, match=r"^There is no method to compare\.$"):
        put(made, tmp_path)
    with pytest.raises(ParameterError, match=r"^There is no split of made to compare on\.$"):
        put(made, tmp_path, net, splits=[])
    with pytest.raises(ParameterError, match=r"^x: of names 'fw', which is no method before it\.$"):
        put(made, tmp_path, fv, net, Fusion(name="x", of=("fw", "net")))
    with pytest.raises(ParameterError, match="features of 3 videos for the 12 clips of made"):
        put(made, tmp_path, fv, read=lambda folder, params: made[1][params][:3])
    one = replace(dataset, items=dataset.items[:4], classes=("a",))
    with pytest.raises(ParameterError, match="made has clips of one class only, a"):
        compare(one, [net], splits(one, "k-fold", folds=2), tmp_path)
    nothing = [of_class(0, 0)[:0]] * 12
    with pytest.raises(ParameterError, match=r"^fv, p: No training video has a trajectory: there is nothing to learn "):
        put(made, tmp_path, fv, read=lambda folder, params: nothing)
    with pytest.raises(ParameterError, match=r"^many, p: There are 540 descriptors to learn 600 Gaussians from: give "):
        put(made, tmp_path, fv, FeatureMethod(name="many", encoding=replace(SMALL, words=600)))
    weighted = Fusion(name="w", of=("net", "fv"), how="weighted")
    split = Split("odd", (0, 1, 4, 8, 9), (2, 3))
    with pytest.raises(ParameterError, match=r"^w: its weights are found on divisions of the training side, which that "
                                             r"of odd does not allow: .*'b' is tested but absent .* Choose another "):
        put(made, tmp_path, net, fv, weighted, splits=[split])


def test_tables_are_read_before_any_video(made, tmp_path):
    def read(folder, params):
        raise AssertionError

    dataset, _ = made
    split = splits(dataset, "leave-one-group-out")[:1]
    names = [dataset.items[n].path for n in split[0].test]
    few = tmp_path / "few.npz"
    np.savez(few, path=names, classes=["a", "b", "c"], scores=np.ones((3, 3)), features=np.ones((3, 2)))
    fv, net = FeatureMethod(name="fv", encoding=SMALL), ExternalMethod(name="net", scores=few)
    assert put(made, tmp_path, net, splits=split).accuracy("net") == 1 / 3  # those that are tested are enough
    with pytest.raises(FormatError, match=r"few\.npz: there is no row for a_q\.avi \(9 of 12 clips that are "):
        put(made, tmp_path, fv, net, read=read)
    with pytest.raises(FormatError, match=r"there is no row for a_q\.avi \(9 of 9 clips that are on a training side, "
                                          r"where the weights of w are found, have none\)\.$"):
        put(made, tmp_path, fv, net, Fusion(name="w", of=("fv", "net"), how="weighted"), splits=split, read=read)
    with pytest.raises(FormatError, match=r"there is no row for a_q\.avi \(9 of 12 clips that are used have none\)\.$"):
        put(made, tmp_path, fv, ExternalMethod(name="f", features=few), splits=split, read=read)


def test_features_that_are_nothing_but_zeros_are_told(made, tmp_path, caplog):
    vectors = np.eye(12, 5)
    path = table(made, tmp_path / "t.npz", np.ones((12, 3)), features=vectors)
    put(made, tmp_path, ExternalMethod(name="net", features=path))
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: 7 of 12 rows hold nothing but zeros, which tell nothing of their clips."]


def test_segments_of_a_video_share_its_features(made, tmp_path):
    _, videos = made
    files = [tmp_path / f"{name}.npz" for name in ("one", "two")]
    for file in files:
        file.write_bytes(b"1234567")
    held = [replace(video, path=str(files[n % 2])) for n, video in enumerate(videos[Params()])]
    found = put(made, tmp_path, FeatureMethod(name="fv", encoding=SMALL), read=lambda folder, params: held)
    assert found.row("fv").bytes["features"] == 14


def test_a_folder_of_codebooks_that_cannot_be_is_told_before_any_video_is_read(made, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/codebook\.npz cannot be written: .*file is not a folder"):
        put(made, tmp_path, FeatureMethod(name="fv", encoding=SMALL), codebooks=tmp_path / "file", read=None)
    put(made, tmp_path, FeatureMethod(name="fv", encoding=SMALL), codebooks=tmp_path / "new")
    assert len(list((tmp_path / "new").iterdir())) == 0  # nothing tells what these features are of


def test_each_extraction_has_a_folder(tmp_path):
    assert features_folder(tmp_path, Params()) == tmp_path / f"improved-farneback-{Params().fingerprint()[:8]}"
    other = Params(camera=False, flow="dis")
    assert features_folder(tmp_path, other) == tmp_path / f"dense-dis-{other.fingerprint()[:8]}"
    methods = [FeatureMethod(name="a"), FeatureMethod(name="b", extraction=other)]
    assert extractions([*methods, FeatureMethod(name="c", encoding=SMALL)]) == [Params(), other]
