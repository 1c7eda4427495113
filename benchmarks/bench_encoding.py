"""Speed of encoders and classifiers beside scikit-image's, scikit-learn's and faiss's, as Markdown tables.

    python benchmarks/bench_encoding.py [fisher] [gmm] [words] [vectors] [chi2] [svm] [--rounds 5] [--full]

fisher: Fisher vector of 60,000 x 213 with 256 Gaussians, of real descriptors and of noise that belongs to many
Gaussians, beside scikit-image's and the bare products of matrices. gmm: ten steps of EM on 100,000 x 213. words: the
nearest of 4000 words of 60,000 x 96, and learning them. vectors: VLAD and bags of words of 60,000 x 96. chi2: the
kernel of 1000 x 1000 x 4000. svm: linear machines, one against the rest. Without a word: all of them, which takes about
five minutes, most of them scikit-learn's; with --full LinearSVC gets the vectors of full length too, which takes
several more.

All on one thread; CPU milliseconds, medians of the rounds and in brackets the least and the greatest. In a
round all methods come one after the other, and ratios are those within a round. Memory is the greatest that NumPy had
allocated during the call, the input not included.
"""

from __future__ import annotations

import argparse
import importlib.util
import tracemalloc
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import numpy as np
import sklearn
from common import data, described, machine, ratio, say, spread, table, timed
from numpy.typing import NDArray
from sklearn.cluster import KMeans as Clusters
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import additive_chi2_kernel
from sklearn.mixture import GaussianMixture
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

import idt
from idt.encoding import PCA, VLAD, BagOfWords, DiagonalGMM, FisherVector, KMeans, LinearSVM
from idt.encoding.bags import ROWS
from idt.encoding.svm import chi2_kernel

Array = NDArray[Any]
Float32 = NDArray[np.float32]

SECTIONS = ("fisher", "gmm", "words", "vectors", "chi2", "svm")
CHANNELS = ("trajectory", "hog", "hof", "mbhx", "mbhy")
GAUSSIANS, STEPS, LEARNT, WORDS, LENGTH = 256, 10, 8, 4000, 109_056


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    others = [f"scikit-learn {sklearn.__version__}"]
    for module in ("skimage", "faiss"):
        if importlib.util.find_spec(module):
            others.append(f"{module} {importlib.import_module(module).__version__}")
    print(described(machine()), f"{', '.join(others)}. One thread, CPU ms; medians of {options.rounds} rounds unless "
          "said otherwise, in brackets the least and the greatest.")
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as many iterations as are asked for
        for name in options.sections or SECTIONS:
            if name == "svm":
                svm(options.full)
            else:
                {"fisher": fisher, "gmm": gmm, "words": words, "vectors": vectors, "chi2": chi2}[name](options.rounds)


@cache
def descriptors() -> dict[str, Float32]:
    """Return the descriptors of all trajectories of the clips, by channel."""
    found = []
    for path in sorted(data("clips").iterdir()):
        say(f"descriptors of {path.stem}")
        found.append(idt.extract(path))
    return {name: np.concatenate([np.asarray(getattr(f, name), np.float32) for f in found]) for name in CHANNELS}


@cache
def projected() -> Float32:
    """Return all channels of all trajectories, reduced to half by PCA: (n, 213)."""
    whole = np.hstack([descriptors()[name] / descriptors()[name].std() for name in CHANNELS])
    return PCA(0.5).fit([whole]).project(whole)


def repeated(x: Float32, n: int) -> Float32:
    """Return n rows: those given, over and over, in another order each time."""
    rng = np.random.default_rng(0)
    return x[np.concatenate([rng.permutation(len(x)) for _ in range(-(-n // len(x)))])[:n]]


@cache
def mixture() -> DiagonalGMM:
    say("mixture of Gaussians")
    return DiagonalGMM(GAUSSIANS, iterations=10).fit([projected()])


def copied(gmm: DiagonalGMM, kind: Any) -> GaussianMixture:
    """Return scikit-learn's mixture with the same numbers, in this type."""
    other = GaussianMixture(len(gmm.weights_), covariance_type="diag")
    other.weights_, other.means_, other.covariances_ = (values.astype(kind) for values in (gmm.weights_, gmm.means_,
                                                                                      gmm.variances_))
    other.precisions_cholesky_ = 1 / np.sqrt(other.covariances_)
    return other


def rounds_of(jobs: dict[str, Callable[[], Any]], rounds: int, what: str) -> dict[str, list[float]]:
    """Return the CPU ms of each job, once each in a round; all have run before."""
    taken: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        say(f"{what}: round {number + 1} of {rounds}")
        for name, job in jobs.items():
            taken[name].append(timed(job)[1])
    return taken


def peak(job: Callable[[], Any]) -> str:
    """Return the greatest memory during a call, MB."""
    tracemalloc.start()
    job()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return f"{most / 1e6:.0f}"


def rows_of(taken: dict[str, list[float]], own: str, *more: dict[str, str]) -> Iterable[tuple[str, ...]]:
    """Yield the lines of a table: what a method takes, and how often that of `own`."""
    for name, values in taken.items():
        yield (name, spread(values), "" if name == own else ratio(values, taken[own]), *(m.get(name, "") for m in more))


def fisher(rounds: int) -> None:
    gmm = mixture()
    noisy = DiagonalGMM(GAUSSIANS)
    rng = np.random.default_rng(0)
    noisy.weights_ = np.full(GAUSSIANS, 1 / GAUSSIANS, np.float32)
    noisy.means_ = rng.normal(scale=0.2, size=gmm.means_.shape).astype(np.float32)
    noisy.variances_ = np.ones_like(gmm.variances_)
    bags = {"descriptors of the clips": (gmm, repeated(projected(), 60_000)),
            "noise, which belongs to many Gaussians": (noisy, rng.normal(size=(60_000, 213)).astype(np.float32))}
    for what, (codebook, bag) in bags.items():
        encoder = FisherVector().with_codebook(codebook)
        jobs: dict[str, Callable[[], Any]] = {"own": partial(encoder.encode, bag),
                                              "the bare products": partial(products, bag, codebook)}
        if importlib.util.find_spec("skimage"):
            from skimage.feature import fisher_vector

            for kind in (np.float32, np.float64):
                jobs[f"scikit-image, {kind.__name__}"] = partial(fisher_vector, bag.astype(kind),
                                                                 copied(codebook, kind))
        found = {name: job() for name, job in jobs.items()}
        memory = {name: peak(job) for name, job in jobs.items() if name != "the bare products"}
        share = float((codebook.posteriors(bag) > 0).mean())
        print(f"\n### Fisher vector of {len(bag):,} x {bag.shape[1]}, K = {GAUSSIANS}: {what}\n")
        expected = found.get("scikit-image, float64")
        if expected is not None:
            expected = expected[GAUSSIANS:] * np.repeat([1, -1], len(found["own"]) // 2)
            print(f"Own and scikit-image's of float64 (its weights left out, its deviations' sign changed) differ by "
                  f"{np.abs(found['own'] - expected).max():.1e} at most; the greatest value is "
                  f"{np.abs(expected).max():.2g}.")
        print(f"{100 * share:.1f} % of the posteriors are 2^-30 or more.\n")
        taken = rounds_of(jobs, rounds, f"fisher, {what}")
        print(table(("method", "CPU ms", "relative to own", "memory, MB"), rows_of(taken, "own", memory)))


def products(bag: Float32, gmm: DiagonalGMM) -> None:
    """Multiply what a Fisher vector multiplies when no posterior is zero, and nothing else."""
    matrix = np.ascontiguousarray(np.hstack([gmm.means_, gmm.variances_]).T)
    both, q = np.ones((ROWS, len(matrix)), np.float32), np.empty((ROWS, GAUSSIANS), np.float32)
    for start in range(0, len(bag), ROWS):
        n = len(bag[start:start + ROWS])
        np.matmul(both[:n], matrix, out=q[:n])
        q[:n].T @ both[:n]


def gmm(rounds: int) -> None:
    x = repeated(projected(), 100_000)
    options = {"tolerance": 1e-12, "variance_floor": 1e-9}
    say("gmm: start")
    start = DiagonalGMM(GAUSSIANS, iterations=1, **options).fit([x])
    other = GaussianMixture(GAUSSIANS, covariance_type="diag", tol=0, reg_covar=0, max_iter=STEPS,
                            weights_init=start.weights_ / start.weights_.sum(dtype=np.float64),
                            means_init=start.means_.astype(np.float64), precisions_init=1.0 / start.variances_)
    own = DiagonalGMM(GAUSSIANS, iterations=1 + STEPS, **options)
    taken = rounds_of({"first": partial(start.fit, [x]), "all": partial(own.fit, [x])}, min(rounds, 3), "gmm, own")
    say("gmm: scikit-learn")
    theirs = timed(partial(other.fit, x.astype(np.float64)))[1]
    steps = [all_ms - first for all_ms, first in zip(taken["all"], taken["first"], strict=True)]
    print(f"\n### Mixture of {GAUSSIANS} Gaussians of {len(x):,} x {x.shape[1]}: {STEPS} steps of EM from the same "
          "start\n\nscikit-learn once, which makes one more E step; it works in float64, of which it gets the data.\n")
    rows = [("own", spread(steps), "", f"{own.score(x):.4f}"),
            ("scikit-learn", f"{theirs:.0f}", spread([theirs / ms for ms in steps]),
             f"{other.score(x.astype(np.float64)):.4f}"),
            ("own start: k-means and a first step", spread(taken["first"]), "", f"{start.score(x):.4f}")]
    print(table(("method", "CPU ms", "relative to own", "mean log-likelihood"), rows))


@cache
def codebook(count: int) -> tuple[KMeans, Float32]:
    """Return words, drawn from the HOG of the clips and moved a little, and 60,000 of these descriptors."""
    x = repeated(descriptors()["hog"], 60_000)
    made = KMeans(count)
    noise = np.random.default_rng(0).normal(scale=0.01, size=(count, x.shape[1]))
    made.centres_ = (x[:count] + noise).astype(np.float32)
    return made, x


def words(rounds: int) -> None:
    made, x = codebook(WORDS)
    other = Clusters(WORDS, init=made.centres_, n_init=1, max_iter=1).fit(made.centres_)
    jobs: dict[str, Callable[[], Any]] = {"own": partial(made.assign, x), "scikit-learn": partial(other.predict, x)}
    if importlib.util.find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(made.centres_)
        jobs["faiss"] = lambda: index.search(x, 1)[1][:, 0]
    jobs["the bare product"] = partial(product, x, np.ascontiguousarray(made.centres_.T))
    found = {name: job() for name, job in jobs.items()}
    same = {name: f"{100 * np.mean(values == found['own']):.3f} %" for name, values in found.items()
            if name not in ("own", "the bare product")}
    print(f"\n### The nearest of {WORDS} words of {len(x):,} x {x.shape[1]}\n")
    print(table(("method", "CPU ms", "relative to own", "same words"),
                rows_of(rounds_of(jobs, rounds, "words"), "own", same)))
    sample = repeated(descriptors()["hog"], 100_000)
    say("words: learning")
    learnt = KMeans(WORDS, iterations=LEARNT)
    rows = [("own, which is scikit-learn's", f"{timed(partial(learnt.fit, [sample]))[1]:.0f}",
             error(learnt.centres_, sample))]
    if importlib.util.find_spec("faiss"):
        trained = faiss.Kmeans(x.shape[1], WORDS, niter=LEARNT, seed=0, max_points_per_centroid=len(sample))
        rows.append(("faiss", f"{timed(partial(trained.train, sample))[1]:.0f}", error(trained.centroids, sample)))
    print(f"\n### Learning {WORDS} words of {len(sample):,} x {sample.shape[1]}, {LEARNT} iterations, once\n")
    print(table(("method", "CPU ms", "mean squared distance"), rows))


def product(x: Float32, words: Float32) -> None:
    rows = 256  # of the results, which stay in the cache
    out = np.empty((rows, words.shape[1]), np.float32)
    for start in range(0, len(x), rows):
        part = x[start:start + rows]
        np.matmul(part, words, out=out[:len(part)])


def error(centres: Float32, x: Float32) -> str:
    made = KMeans(len(centres))
    made.centres_ = centres
    return f"{float(((x - centres[made.assign(x)])**2).sum(axis=1).mean()):.5f}"


def vectors(rounds: int) -> None:
    jobs: dict[str, Callable[[], Any]] = {}
    for count in (GAUSSIANS, WORDS):
        made, x = codebook(count)
        near = float(np.median(np.sqrt(((x - made.centres_[made.assign(x)])**2).sum(axis=1))))
        encoders = {"bag of words": BagOfWords(), "bag of words, soft": BagOfWords(soft=near)}
        if count == GAUSSIANS:
            encoders |= {"VLAD": VLAD(), "VLAD, residuals normalised": VLAD(residual=True)}
        for name, encoder in encoders.items():
            jobs[f"{name}, {count} words"] = partial(encoder.with_codebook(made).encode, x)
    for job in jobs.values():
        job()
    memory = {name: peak(job) for name, job in jobs.items()}
    taken = rounds_of(jobs, rounds, "vectors")
    print(f"\n### Vectors of {len(x):,} x {x.shape[1]}\n")
    print(table(("encoder", "CPU ms", "memory, MB"),
                [(name, spread(values), memory[name]) for name, values in taken.items()]))


def chi2(rounds: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((1000, 4000), np.float32) * (rng.random((1000, 4000)) < 0.6)
    x /= x.sum(axis=1, keepdims=True)
    own = chi2_kernel(x)
    taken = rounds_of({"own": partial(chi2_kernel, x)}, rounds, "chi2")["own"]
    say("chi2: scikit-learn")
    found: list[Array] = []
    theirs = timed(lambda: found.append(additive_chi2_kernel(x)))[1]
    print(f"\n### χ² kernel of 1000 x 1000 histograms of 4000 bins\n\nscikit-learn once; the kernels differ by "
          f"{np.abs(own - found[0]).max():.1e} at most.\n")
    print(table(("method", "CPU ms", "relative to own"),
                [("own", spread(taken), ""), ("scikit-learn", f"{theirs:.0f}", spread([theirs / ms for ms in taken]))]))


def svm(full: bool) -> None:
    rows = []
    for n, length, classes in ((400, LENGTH // 4, 20), (1000, LENGTH, 50)):
        rng = np.random.default_rng(0)
        labels = np.arange(2 * n) % classes
        x = rng.normal(size=(2 * n, length)).astype(np.float32)
        x += 0.8 * length**-0.25 * rng.normal(size=(classes, length)).astype(np.float32)[labels]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        what = f"{n} x {length:,}, {classes} classes"
        times = []
        for name, made in (("own", LinearSVM(C=100)), ("LinearSVC", LinearSVC(C=100, random_state=0))):
            if name == "LinearSVC" and length == LENGTH and not full:
                continue
            say(f"svm, {what}: {name}")
            times.append(timed(partial(made.fit, x[:n], labels[:n]))[1])
            accuracy = float((made.predict(x[n:]) == labels[n:]).mean())
            rows.append((what, name, f"{times[-1]:.0f}", f"{times[-1] / times[0]:.0f}" if len(times) > 1 else "",
                         f"{100 * accuracy:.1f} %"))
    less = "" if full else " LinearSVC gets the smaller ones alone; `--full` gives it all."
    print(f"\n### Linear support vector machines, one against the rest, C = 100\n\nOnce each; accuracy on as many "
          f"others.{less}\n")
    print(table(("vectors", "method", "CPU ms", "relative to own", "accuracy"), rows))


if __name__ == "__main__":
    main()
