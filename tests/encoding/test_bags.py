"""Bags, their chunks, and what all encoders of bags have in common."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_bags import ENCODERS, bag, encoder, mixture, words
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from idt.encoding import PCA, VLAD, BagOfWords, DiagonalGMM, FisherVector, KMeans, Normalise, sample
from idt.encoding.bags import ROWS, LazyBag, chunks, stacked
from idt.encoding.norms import root_sift
from idt.errors import ParameterError
from waiting import PATIENCE_S

every_encoder = pytest.mark.parametrize("name", ENCODERS)
learnt = pytest.mark.parametrize("estimator", [PCA(1.0), KMeans(2), DiagonalGMM(2), VLAD(KMeans(2)),
                                               BagOfWords(KMeans(2)), FisherVector(DiagonalGMM(2))],
                                 ids=lambda e: type(e).__name__)


def memory_map(tmp_path, values):
    path = tmp_path / "bag.npy"
    np.save(path, values)
    return np.load(path, mmap_mode="r")


# Chunks


@pytest.mark.parametrize("n", [0, 1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 1])
def test_chunks_are_the_rows_in_order(n):
    x = bag(n, 3)
    parts = list(chunks(x))
    assert [len(part) for part in parts] == [ROWS] * (n // ROWS) + [n % ROWS] * (n % ROWS > 0)
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 3), np.float32), *parts]), x)


def test_chunks_are_contiguous_float32_whatever_the_bag_is(tmp_path):
    x = bag(70, 6, kind=np.float16)
    wide = np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)
    for same in (x, x.astype(np.float32), x.astype(np.float64), x.astype(">f4"), np.asfortranarray(x), wide[::2, ::3],
                 x[::-1][::-1], memory_map(tmp_path, x)):
        for start, part in zip((0, 32, 64), chunks(same, rows=32), strict=True):
            assert part.dtype == np.float32
            assert part.dtype.isnative
            assert part.flags.c_contiguous
            np.testing.assert_array_equal(part, x[start:start + 32].astype(np.float32))


@pytest.mark.parametrize(("value", "message"), [
    ([[1.0, 2.0]], "is of type list: it must be an array"),
    (None, "is of type NoneType"),
    (np.zeros(4), "has the shape (4,) and type float64: it must be an array (n, d) of floating-point numbers, one "
                  "descriptor a row. One bag alone is given as [bag]."),
    (np.zeros((2, 2, 2)), "has the shape (2, 2, 2)"),
    (np.zeros((3, 0)), "has the shape (3, 0)"),
    (np.zeros((3, 2), np.int32), "type int32"),
    (np.zeros((3, 2), complex), "type complex128"),
    (np.array([["a", "b"]]), "type <U1"),
    (np.zeros((3, 5)), "has 5 columns: 2 are needed"),
])
def test_what_is_no_bag_is_refused(value, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        list(chunks(value, width=2))


@pytest.mark.parametrize("row", [0, 100, ROWS, 2 * ROWS + 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_a_number_that_is_none_is_refused_with_its_row(row, value):
    x = bag(2 * ROWS + 2, 3, kind=np.float64)
    x[row, 1] = value
    with pytest.raises(ParameterError, match=rf"^Bag 3 has a number that is NaN, infinite .* in row {row}:"):
        list(chunks(x, name="Bag 3"))


def test_opposite_infinities_do_not_hide_each_other():
    x = bag(9, 2)
    x[4] = np.inf, -np.inf
    with pytest.raises(ParameterError, match="in row 4"):
        list(chunks(x))


def test_numbers_whose_sum_is_beyond_float32_are_allowed():
    x = np.full((9, 2), 3e38, np.float32)
    np.testing.assert_array_equal(next(chunks(x)), x)


def test_stacked_bags():
    parts = [bag(3, 2), bag(0, 2), bag(1, 2, seed=1, kind=np.float16)]
    np.testing.assert_array_equal(stacked(iter(parts), least=4, what="words"), np.concatenate(parts))
    with pytest.raises(ParameterError, match="There are 4 descriptors to learn 5 words from: give at least as many"):
        stacked(parts, least=5, what="words")
    with pytest.raises(ParameterError, match="There are 0 descriptors"):
        stacked([], least=0, what="words")
    with pytest.raises(ParameterError, match="Bag 2 has 3 columns: 2 are needed"):
        stacked([*parts[:2], bag(1, 3)], least=1, what="words")


# Bags that are made when they are read


def test_a_lazy_bag_is_its_rows_after_its_functions(tmp_path):
    x = np.abs(bag(3 * ROWS + 5, 6, kind=np.float16))
    pca = PCA(2).fit([root_sift(x)])
    ready = pca.project(root_sift(x))
    lazy = LazyBag(memory_map(tmp_path, x), root_sift, pca.project)
    assert lazy.shape == (len(x), 2)
    assert len(lazy) == len(x)
    np.testing.assert_array_equal(np.concatenate(list(chunks(lazy))), ready)
    rows = np.random.default_rng(1).permutation(len(x))[:5000]
    some = LazyBag(LazyBag(lazy, rows=rows), lambda y: 2 * y, rows=np.arange(5000)[::-2])
    assert some.shape == (2500, 2)
    np.testing.assert_allclose(np.concatenate(list(chunks(some))), 2 * ready[rows[::-2]], atol=1e-6)


def test_a_lazy_bag_names_the_row_of_its_source():
    x = bag(50, 3)
    x[33, 2] = np.nan
    lazy = LazyBag(LazyBag(x, rows=np.arange(10, 50)), root_sift, rows=np.arange(39, -1, -1))
    with pytest.raises(ParameterError, match="in row 33:"):
        list(chunks(lazy, rows=7))
    with pytest.raises(ParameterError, match="is of type list"):
        LazyBag([[1.0]])
    with pytest.raises(ParameterError, match="has 3 columns: 4 are needed"):
        list(chunks(lazy, width=4))


@every_encoder
def test_a_lazy_bag_is_encoded_as_the_array_it_stands_for(name):
    x, made = bag(2 * ROWS + 100, 4), encoder(name)
    np.testing.assert_array_equal(made.encode(LazyBag(x, np.negative)), made.encode(-x))


# Every encoder


@every_encoder
@pytest.mark.parametrize("n", [1, 2, ROWS - 1, ROWS, ROWS + 1])
def test_chunks_leave_no_seam(name, n):
    """The sum over descriptors is that over the descriptors one by one."""
    made = clone(encoder(name)).with_codebook(encoder(name).codebook_)
    if name == "intra":
        made.set_params(intra=False)
    x = bag(n, 4, seed=n)
    scale = n if name == "fisher" else 1
    parts = np.array_split(x, min(n, 7))
    pieces = sum(made.encode(part).astype(np.float64) * (len(part) if name == "fisher" else 1) for part in parts)
    np.testing.assert_allclose(made.encode(x) * np.float64(scale), pieces, atol=2e-6 * n + 1e-6, rtol=2e-5)


@every_encoder
def test_the_same_bytes_again_from_other_types_and_memory(name, tmp_path):
    made, x = encoder(name), bag(ROWS + 300, 4, kind=np.float16)
    first = made.encode(x)
    assert first.dtype == np.float32
    assert first.shape == (made.size,)
    wide = np.repeat(x, 2, axis=1)
    for same in (x, x.astype(np.float32), x.astype(np.float64), np.asfortranarray(x), wide[:, ::2],
                 memory_map(tmp_path, x)):
        assert made.encode(same).tobytes() == first.tobytes()
    np.testing.assert_array_equal(made.transform(b for b in [x, x[:5]]), np.stack([first, made.encode(x[:5])]))


@pytest.mark.parametrize("made", [FisherVector().with_codebook(mixture(32, 48)), VLAD().with_codebook(words(32, 48)),
                                  BagOfWords().with_codebook(words(300, 48)),
                                  BagOfWords(soft=4.0).with_codebook(words(300, 48))])
def test_the_same_bytes_for_any_number_of_threads(made):
    for n in (777, 5000):  # sizes at which OpenBLAS gives other last bits with two threads
        x = bag(n, 48)
        found = []
        for threads in (1, 2):
            with threadpool_limits(threads):
                found.append(made.encode(x).tobytes())
        assert found[0] == found[1]


@every_encoder
def test_an_empty_bag_is_a_zero_vector_and_counted(name):
    made = encoder(name)
    vectors = made.transform([bag(0, 4), bag(3, 4), bag(0, 4, kind=np.float16)])
    assert made.empty_ == 2
    assert type(made.empty_) is int
    assert not vectors[[0, 2]].any()
    assert vectors[1].any()
    assert made.transform([bag(1, 4)]).shape == (1, made.size)
    assert made.empty_ == 0
    assert made.transform([]).shape == (0, made.size)
    with pytest.raises(ParameterError, match="has 5 columns: 4 are needed"):
        made.encode(bag(0, 5))


@every_encoder
def test_bags_that_do_not_fit_are_refused_by_number(name):
    made, bad = encoder(name), bag(ROWS + 9, 4)
    bad[ROWS + 1, 3] = np.nan
    with pytest.raises(ParameterError, match=f"^Bag 1 has a number that is NaN, .* in row {ROWS + 1}:"):
        made.transform([bag(2, 4), bad])
    with pytest.raises(ParameterError, match=r"^Bag 2 has 3 columns: 4 are needed"):
        made.transform([bag(2, 4), bag(0, 4), bag(2, 3)])
    with pytest.raises(ParameterError, match=r"^Bag 0 has the shape \(4,\)"):  # one bag instead of several
        made.transform(bag(2, 4))
    with pytest.raises(ParameterError, match=r"^The bag is of type list"):
        made.encode([[1.0, 2.0, 3.0, 4.0]])


# In the style of scikit-learn


@learnt
def test_parameters_and_clones(estimator):
    for name, value in estimator.get_params(deep=False).items():
        assert getattr(estimator, name) is value
    fitted = clone(estimator).fit([bag(20, 3)])
    again = clone(fitted)
    assert repr(again) == repr(estimator)
    use = {KMeans: "assign", DiagonalGMM: "statistics"}.get(type(again), "transform")
    with pytest.raises(NotFittedError):
        getattr(again, use)([bag(2, 3)])


def test_fit_leaves_the_given_codebook_as_it_is():
    codebook = DiagonalGMM(2)
    made = FisherVector(codebook).fit(b for b in [bag(20, 3), bag(9, 3, seed=1)])
    assert made.codebook is codebook
    assert not hasattr(codebook, "means_")
    assert made.codebook_.means_.shape == (2, 3)
    assert made.size == 12
    assert FisherVector().get_params() == {"codebook": None}
    made.set_params(codebook__components=3)
    assert made.fit([bag(20, 3)]).size == 18
    with pytest.raises(ValueError, match="Invalid parameter"):
        made.set_params(codebook__words=3)


@every_encoder
def test_before_fit(name):
    made = clone(ENCODERS[name])
    for call in (lambda: made.encode(bag(2, 4)), lambda: made.transform([]), lambda: made.size):
        with pytest.raises(NotFittedError):
            call()
    with pytest.raises(NotFittedError):
        made.with_codebook(KMeans(3))


@learnt
def test_nothing_to_learn_from(estimator):
    for bags in ([], [bag(0, 3)], [bag(1, 3)]):
        with pytest.raises(ParameterError, match=r"There are [01] descriptors to learn"):
            clone(estimator).fit(bags)
    bad = bag(9, 3)
    bad[7] = np.inf
    with pytest.raises(ParameterError, match=r"Bag 1 .* in row 7:"):
        clone(estimator).fit([bag(9, 3), bad])
    with pytest.raises(ParameterError, match="Bag 2 has 4 columns: 3 are needed"):
        clone(estimator).fit([bag(9, 3), bag(9, 3), bag(9, 4)])


@learnt
def test_learning_gives_the_same_bytes_for_any_number_of_threads(estimator):
    found = []
    for threads in (1, 2, 1):
        with threadpool_limits(threads):
            fitted = clone(estimator).fit([bag(3000, 24), bag(777, 24, seed=1)])
        fitted = getattr(fitted, "codebook_", fitted)
        found.append({key: np.asarray(value).tobytes() for key, value in vars(fitted).items() if key.endswith("_")})
    assert found[0] == found[1] == found[2]


def test_a_pipeline_and_its_parameters():
    bags = [bag(40, 6, seed=n) for n in range(5)]
    line = Pipeline([("pca", PCA(3)), ("fisher", FisherVector(DiagonalGMM(2))), ("norm", Normalise())])
    vectors = line.fit(bags).transform(bags)
    assert vectors.shape == (5, 12)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(clone(line).fit_transform(bags), vectors)
    line.set_params(pca__components=2, fisher__codebook__components=4, norm__steps=("l1",))
    again = line.fit(bags).transform(bags)
    assert again.shape == (5, 16)
    np.testing.assert_allclose(np.abs(again).sum(axis=1), 1, rtol=1e-6)


def test_a_generator_cannot_be_fitted_and_transformed():
    for estimator in (PCA(1), VLAD(KMeans(2))):
        with pytest.raises(ParameterError, match="generator, which can be read once"):
            estimator.fit_transform(b for b in [bag(9, 3)])


# Draws


def test_a_draw_is_of_each_bag_by_itself(tmp_path):
    bags = [bag(50, 3, seed=n, kind=np.float16) for n in range(4)]
    drawn = sample(bags, 20, seed=3)
    assert drawn.shape == (80, 3)
    assert drawn.dtype == np.float32
    for n, part in enumerate(np.split(drawn, 4)):
        rows = [int(np.flatnonzero((bags[n] == row).all(axis=1))[0]) for row in part]
        assert rows == sorted(set(rows))
        assert rows != list(range(20))
    np.testing.assert_array_equal(sample((b for b in bags), 20, seed=3), drawn)
    assert (sample(bags, 20, seed=4) != drawn).any()
    # What the other bags hold does not matter; where the bag stands does, or all would give the same rows.
    bags[0], bags[1] = bag(7, 3, seed=9), memory_map(tmp_path, bags[1])
    np.testing.assert_array_equal(sample(bags, 20, seed=3)[7:], drawn[20:])
    rows = [np.flatnonzero((bags[0][:, None] == row).all(axis=2)) for row in sample([bags[0]] * 2, 3)]
    assert rows[:3] != rows[3:]


def test_a_small_bag_is_drawn_whole_in_order():
    small, none = bag(5, 3), bag(0, 3)
    np.testing.assert_array_equal(sample([none, small, none], 5), small)
    np.testing.assert_array_equal(sample([small, small], 99), np.concatenate([small, small]))


def test_a_draw_is_fair():
    """Each of ten rows comes in three of ten draws."""
    x = np.arange(10.0)[:, None]
    times = np.bincount(sample([x] * 4000, 3, seed=5)[:, 0].astype(int), minlength=10)
    assert times.sum() == 12000
    assert abs(times - 1200).max() < 5 * np.sqrt(4000 * 0.3 * 0.7)


def test_a_draw_that_cannot_be():
    for count in (0, -1, 2.5, True, "3", None):
        with pytest.raises(ParameterError, match=r"count is .*: it must be an integer from 1"):
            sample([bag(9, 2)], count)
    with pytest.raises(ParameterError, match="seed is -1: it must be an integer from 0"):
        sample([bag(9, 2)], 1, seed=-1)
    for bags in ([], [bag(0, 2)]):
        with pytest.raises(ParameterError, match="There is no descriptor in any bag"):
            sample(bags, 3)
    with pytest.raises(ParameterError, match="Bag 1 has 3 columns: 2 are needed"):
        sample([bag(9, 2), bag(9, 3)], 3)
    bad = bag(1000, 2)
    bad[600:] = np.nan
    with pytest.raises(ParameterError, match=r"Bag 1 has a number .* in row ([67]\d\d):") as refused:
        sample([bag(9, 2), bad], 100)
    row = int(re.search(r"row (\d+)", str(refused.value))[1])
    assert row >= 600  # of the bag, not of the draw
    with pytest.raises(ParameterError, match="is of type list"):
        sample([[[1.0, 2.0]]], 3)


# Memory

ENCODE = """
import re, sys
from pathlib import Path
import numpy as np
from random_bags import mixture, words
from idt.encoding import PCA, VLAD, BagOfWords, FisherVector
from idt.encoding.bags import LazyBag
from idt.encoding.norms import root_sift

def peak():
    return int(re.search(r"VmHWM:\\s*([0-9]+) kB", Path("/proc/self/status").read_text())[1]) * 1024

pca = PCA(0.5).fit([np.abs(np.random.default_rng(0).normal(size=(500, 96)))])
makers = [(lambda x: x, FisherVector().with_codebook(mixture(32, 96))),
          (lambda x: x, VLAD().with_codebook(words(32, 96))),
          (lambda x: x, BagOfWords().with_codebook(words(100, 96))),
          (lambda x: x, BagOfWords(soft=5.0).with_codebook(words(100, 96))),
          (lambda x: LazyBag(x, root_sift, pca.project), FisherVector().with_codebook(mixture(32, 48)))]
for made, encoder in makers:
    encoder.encode(made(np.ones((9, 96), np.float16)))
start = peak()
for made, encoder in makers:
    bag = np.load(sys.argv[1], mmap_mode="r")
    assert len(bag) == 2_000_000
    assert np.isfinite(encoder.encode(made(bag))).all()
    del bag
print(peak() - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_two_million_rows_stay_in_their_file(tmp_path):
    """Less than 600 MB above the start, the pages of the file that are in memory included."""
    path = tmp_path / "bag.npy"
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(2_000_000, 96))
    block = bag(20_000, 96, kind=np.float16)
    for start in range(0, len(file), len(block)):
        file[start:start + len(block)] = block
    del file
    child = subprocess.run([sys.executable, "-c", ENCODE, str(path)], capture_output=True, text=True,
                           timeout=PATIENCE_S, check=False, cwd=Path(__file__).parents[1])
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) < 600e6
