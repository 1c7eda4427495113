"""Support vector machines on video vectors: one against the rest, solved on the Gram matrix of the videos.

There are far fewer videos than dimensions (Fisher vectors have 100,000 and more), so everything about a linear machine
but its weights lies in the n × n products of the vectors. They are computed once; the dual of each class is then solved
on them, and so are the duals of any number of splits of the same videos.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from idt._util.kernels import jit
from idt.encoding.bags import one_thread
from idt.errors import ParameterError

Array: TypeAlias = NDArray[Any]
Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]
ClassWeight: TypeAlias = Literal["balanced"] | Mapping[Any, float] | None
Channels: TypeAlias = Array | Sequence[Array]

_COLUMNS = 8192  # of a product that is summed in the precision of the input; longer sums are in float64
_ROWS = 2048  # of the Gram matrix that are made at a time
_TOLERANCE = 1e-6  # of a margin, which is 1
_SWEEPS = 100  # of coordinate descent; what is not solved then is ill-conditioned and left to Newton's method
_STEPS = 100  # of that, which takes ten or so
_TINY = np.float32(1e-30)  # makes 0 / 0 of two empty bins 0


def gram(x: Array, y: Array | None = None) -> Float64:
    """Return the inner products of the rows of `x` with those of `y`, or with each other.

    Parameters
    ----------
    x : array, shape (n, D)
        Vectors, one a row; also a memory map. Float32 and float16 are multiplied in float32 and summed in float64
        every 8192 columns, anything else is multiplied in float64.
    y : array, shape (m, D), optional

    Returns
    -------
    ndarray, shape (n, m), float64
        Symmetric when `y` is not given.

    Raises
    ------
    ParameterError
        Not two-dimensional, different widths, or a value that is NaN or infinite (the row is named).
    """
    _check_table(x, "X")
    if y is not None:
        _check_table(y, "Y")
        if x.shape[1] != y.shape[1]:
            raise ParameterError(f"X has {x.shape[1]} columns and Y has {y.shape[1]}: they must have the same.")
    other = x if y is None else y
    kind: Any = np.float32 if {x.dtype, other.dtype} <= {np.dtype(np.float16), np.dtype(np.float32)} else np.float64
    products = np.zeros((len(x), len(other)))
    with one_thread(), np.errstate(invalid="ignore", over="ignore"):  # told below, with the row
        for top in range(0, len(x), _ROWS):
            for left in range(0, len(other) if y is not None else top + 1, _ROWS):
                tile = products[top:top + _ROWS, left:left + _ROWS]
                for column in range(0, x.shape[1], _COLUMNS):
                    a = np.asarray(x[top:top + _ROWS, column:column + _COLUMNS], kind)
                    # BLAS makes the product of a matrix with itself for half the cost, if the memory is the same.
                    b = a if y is None and left == top else np.asarray(
                        other[left:left + _ROWS, column:column + _COLUMNS], kind)
                    tile += a @ b.T
                if y is None:
                    products[left:left + _ROWS, top:top + _ROWS] = tile.T
    if not np.isfinite(products).all():
        for name, table in (("X", x), ("Y", other)):
            _check_finite(table, name)
        raise ParameterError(f"The inner products exceed {np.dtype(kind).name}: scale the vectors.")
    return products


def chi2_distances(x: Array, y: Array | None = None) -> Float32:
    """Return the χ² distances ½ Σ (x − y)² / (x + y) between histograms, rows of `x` and of `y` (or of `x`) [1]_.

    Parameters
    ----------
    x : array, shape (n, D)
        Histograms, no value negative; computed in float32. Two bins that are both 0 are 0 apart.
    y : array, shape (m, D), optional

    Returns
    -------
    ndarray, shape (n, m), float32
        Symmetric, with zeros on the diagonal, when `y` is not given.

    Raises
    ------
    ParameterError
        Not two-dimensional, different widths, or a value that is NaN, infinite or negative (the row is named).

    References
    ----------
    .. [1] Laptev, Marszałek, Schmid and Rozenfeld, "Learning realistic human actions from movies", CVPR 2008,
       equation 2.
    """
    a = _histograms(x, "X")
    b = a if y is None else _histograms(y, "Y")
    if a.shape[1] != b.shape[1]:
        raise ParameterError(f"X has {a.shape[1]} columns and Y has {b.shape[1]}: they must have the same.")
    distances = np.zeros((len(a), len(b)), np.float32)
    _sum_chi2(a, b, y is None, distances)
    return distances


def chi2_kernel(x: Array, y: Array | None = None) -> Float32:
    """Return the additive χ² kernel −Σ (x − y)² / (x + y), as scikit-learn's ``additive_chi2_kernel``.

    It is −2 times `chi2_distances`, whose arguments and errors it has.
    """
    kernel = chi2_distances(x, y)
    kernel *= np.float32(-2)
    return kernel


def rbf_chi2_kernel(distances: Sequence[Array], scales: Sequence[float] | Float64) -> Float64:
    """Return exp(−Σ_c D_c / A_c), the kernel of several channels ([1]_, equation 1; [2]_).

    Parameters
    ----------
    distances : sequence of arrays, shape (n, m)
        D_c, the `chi2_distances` of each channel.
    scales : sequence of float
        A_c, the mean distance between the training samples in the channel; an infinite one leaves the channel out.

    References
    ----------
    .. [1] Laptev, Marszałek, Schmid and Rozenfeld, "Learning realistic human actions from movies", CVPR 2008.
    .. [2] Wang, Kläser, Schmid and Liu, "Dense trajectories and motion boundary descriptors for action recognition",
       IJCV 2013.
    """
    exponent = np.zeros(distances[0].shape)
    for distance, scale in zip(distances, scales, strict=True):
        exponent -= distance / scale
    return np.exp(exponent, out=exponent)


class LinearSVM(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Linear support vector machine, one class against the rest, by its dual on the Gram matrix.

    For each class, with targets s = ±1, it minimises what scikit-learn's ``LinearSVC`` does by default,

        ½ (‖w‖² + b²) + Σ_i C_i max(0, 1 − s_i (w·x_i + b))²

    so that decision values equal those of a ``LinearSVC`` run to convergence. The squared hinge makes the dual strictly
    convex: there is one solution, whatever the order of the samples. The bias b is a weight of a constant feature 1 and
    so is regularised too, which leaves the dual without an equality constraint.

    Parameters
    ----------
    C : float
        Weight of the errors; 100 is customary for Fisher vectors and bags of features [1]_.
    class_weight : None, "balanced" or dict
        Factor on C_i, as of ``LinearSVC``: in the problem of a class its own samples have its weight, the others 1; of
        two classes each sample has that of its class. "balanced" is n / (classes × samples of the class); a dict holds
        factors by class, 1 where it holds none.

    Attributes
    ----------
    classes_ : ndarray, shape (classes,)
        Labels, sorted.
    dual_coef_ : ndarray, shape (classes, n), float64
        Signed weight of each training sample.
    intercept_ : ndarray, shape (classes,), float64
    coef_ : ndarray, shape (classes, D), float32, or float64 for vectors in float64
        Weights; only after `fit`, not after `fit_gram`.

    Notes
    -----
    Dual coordinate descent [2]_ in a fixed pseudo-random order that is drawn anew for each pass, until no sample is
    further than 1e-6 from its optimality condition (in units of the margin). Unlike [2]_ it keeps the scores of all
    samples up to date (a step costs n, not D) and shrinks nothing. What 100 passes do not solve, as when classes
    overlap in few dimensions, Newton's method does. The result does not depend on the number of threads. Two classes
    give two columns of scores, which mirror each other; scikit-learn gives one.

    References
    ----------
    .. [1] Wang and Schmid, "Action recognition with improved trajectories", ICCV 2013.
    .. [2] Hsieh, Chang, Lin, Keerthi and Sundararajan, "A dual coordinate descent method for large-scale linear SVM",
       ICML 2008, algorithm 1.
    """

    def __init__(self, *, C: float = 100.0, class_weight: ClassWeight = None) -> None:
        self.C = C
        self.class_weight = class_weight

    def fit(self, X: Array, y: ArrayLike) -> Self:
        """Learn from vectors, shape (n, D), and their labels, shape (n,).

        Raises
        ------
        ParameterError
            C or a weight is not positive, the shapes do not fit, there is one class only, or a value is NaN or
            infinite (the row is named).
        """
        X = np.asarray(X)
        self.fit_gram(gram(X), y)
        kind = np.float32 if X.dtype in (np.float16, np.float32) else np.float64
        with one_thread():
            self.coef_ = self.dual_coef_.astype(kind) @ X.astype(kind, copy=False)
        return self

    def decision_function(self, X: Array) -> Float64:
        """Return w·x + b for each vector and class, shape (n, classes), float64."""
        check_is_fitted(self, "coef_")
        X = np.asarray(X)
        _check_table(X, "X")
        _check_width(X, self.coef_.shape[1], "dimensions")
        return gram(X, self.coef_) + self.intercept_

    def predict(self, X: Array) -> Array:
        """Return the label with the highest score for each vector; the first of equals."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def fit_gram(self, G: Array, y: ArrayLike) -> Self:
        """Learn from the inner products of the training vectors, shape (n, n), as of `gram`; errors as of `fit`."""
        G = np.asarray(G)
        _check_table(G, "the Gram matrix")
        _check_square(G, "the Gram matrix")
        _check_finite(G, "the Gram matrix")
        self.__dict__.pop("coef_", None)  # of an earlier fit
        self.classes_, self.dual_coef_, self.intercept_ = _solve(G, y, self.C, self.class_weight)
        return self

    def decide_gram(self, K: Array) -> Float64:
        """Return the scores, (m, classes), of m vectors from their inner products, (m, n), with the training's."""
        check_is_fitted(self, "dual_coef_")
        K = np.asarray(K)
        _check_table(K, "K")
        _check_width(K, self.dual_coef_.shape[1], "training samples", "K")
        _check_finite(K, "K")
        return _decide(K, self.dual_coef_, self.intercept_)


class Chi2SVM(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Support vector machine with an RBF-χ² kernel over one or more channels, one class against the rest.

    The kernel is `rbf_chi2_kernel`, its A_c the mean distance between two different training samples in channel c; a
    channel in which all training samples are equal is left out. It is the classifier of bags of features in [1]_. The
    objective is that of `LinearSVM` in the space of the kernel: squared hinge and a regularised bias.

    Parameters
    ----------
    C, class_weight
        As of `LinearSVM`.

    Attributes
    ----------
    classes_, dual_coef_, intercept_
        As of `LinearSVM`.
    scales_ : ndarray, shape (channels,), float64
        A_c.
    channels_ : list of ndarray, shape (n, D_c), float32
        Training histograms; only after `fit`, not after `fit_distances`.

    References
    ----------
    .. [1] Wang, Kläser, Schmid and Liu, "Dense trajectories and motion boundary descriptors for action recognition",
       IJCV 2013.
    """

    def __init__(self, *, C: float = 100.0, class_weight: ClassWeight = None) -> None:
        self.C = C
        self.class_weight = class_weight

    def fit(self, X: Channels, y: ArrayLike) -> Self:
        """Learn from histograms, shape (n, D), or a sequence of them, one for each channel, and labels, shape (n,).

        Raises
        ------
        ParameterError
            As of `LinearSVM`; also a negative value, or channels with different numbers of samples.
        """
        channels = [_histograms(channel, name) for name, channel in _channels(X)]
        self.fit_distances([chi2_distances(channel) for channel in channels], y)
        self.channels_ = channels
        return self

    def decision_function(self, X: Channels) -> Float64:
        """Return the score of each sample and class, shape (n, classes), float64."""
        check_is_fitted(self, "channels_")
        channels = _channels(X)
        self._check_number(channels)
        for (name, channel), trained in zip(channels, self.channels_, strict=True):
            _check_table(channel, name)
            _check_width(channel, trained.shape[1], "bins", name)
        return self.decide_distances([chi2_distances(channel, trained) for (_, channel), trained
                                      in zip(channels, self.channels_, strict=True)])

    def predict(self, X: Channels) -> Array:
        """Return the label with the highest score for each sample; the first of equals."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def fit_distances(self, distances: Sequence[Array], y: ArrayLike) -> Self:
        """Learn from the `chi2_distances` between the training samples, (n, n), of each channel; errors as of `fit`."""
        _check_square(_checked(distances)[0], "the table of distances")
        self.__dict__.pop("channels_", None)  # of an earlier fit
        self.scales_ = np.array([mean_distance(distance) for distance in distances])
        kernel = rbf_chi2_kernel(distances, self.scales_)
        self.classes_, self.dual_coef_, self.intercept_ = _solve(kernel, y, self.C, self.class_weight)
        return self

    def decide_distances(self, distances: Sequence[Array]) -> Float64:
        """Return the scores, (m, classes), of m samples from their distances, (m, n), to the training's by channel."""
        check_is_fitted(self, "scales_")
        self._check_number(distances)
        _check_width(_checked(distances)[0], self.dual_coef_.shape[1], "training samples", "distances")
        return _decide(rbf_chi2_kernel(distances, self.scales_), self.dual_coef_, self.intercept_)

    def _check_number(self, channels: Sequence[Any]) -> None:
        if len(channels) != len(self.scales_):
            raise ParameterError(f"There are {len(channels)} channels: the machine was trained on {len(self.scales_)}.")


def _solve(gram_matrix: Array, y: ArrayLike, C: float, class_weight: ClassWeight) -> tuple[Array, Float64, Float64]:
    """Return the classes, the signed dual weights (classes, n) and the biases (classes,)."""
    labels = np.asarray(y)
    if labels.shape != (len(gram_matrix),):
        raise ParameterError(f"y has the shape {labels.shape}: there must be one label for each of the "
                             f"{len(gram_matrix)} training samples.")
    if not (isinstance(C, (int, float, np.number)) and math.isfinite(C) and C > 0):
        raise ParameterError(f"C is {C!r}: it must be a positive number.")
    classes, index = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ParameterError(f"All {len(labels)} training samples have the label {classes[0]!s}: a classifier needs at "
                             "least two classes." if len(labels) else "There is no training sample.")
    own = index == np.arange(len(classes))[:, None]
    weights = _weights(class_weight, classes, index)
    factors = np.where(own | (len(classes) == 2), weights[index], 1.0)
    matrix = np.ascontiguousarray(gram_matrix, np.float64)
    targets, softness = np.where(own, 1.0, -1.0), 1 / (2 * C * factors)
    dual, worst = _descend(matrix, targets, softness, _TOLERANCE, _SWEEPS)
    with one_thread():
        for c in np.flatnonzero(~(worst <= _TOLERANCE)):  # also NaN
            dual[c], worst[c] = _newton(matrix, targets[c], softness[c], dual[c])
    if not (worst <= _TOLERANCE).all():
        warnings.warn(f"{np.count_nonzero(~(worst <= _TOLERANCE))} of {len(classes)} classes are not solved to "
                      f"{_TOLERANCE:g} of a margin, but to {worst.max():.2g}: scale the vectors, for example to unit "
                      "length, or take a smaller C.", ConvergenceWarning, stacklevel=3)
    return classes, dual, dual.sum(axis=1)


def _decide(kernel: Array, dual: Float64, bias: Float64) -> Float64:
    with one_thread():
        return kernel @ dual.T + bias


def _weights(class_weight: ClassWeight, classes: Array, index: Array) -> Float64:
    """Return the factor of each class."""
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ParameterError(f"class_weight is {class_weight!r}: it must be None, 'balanced' or a dict of factors "
                                 "by class.")
        return len(index) / (len(classes) * np.bincount(index))
    known = classes.tolist()
    for label, weight in class_weight.items():
        if label not in known:
            raise ParameterError(f"class_weight has a factor for {label!r}, which is none of the {len(known)} classes.")
        if not (math.isfinite(weight) and weight > 0):
            raise ParameterError(f"class_weight of {label!r} is {weight}: it must be a positive number.")
    return np.array([class_weight.get(label, 1.0) for label in known])


@jit()
def _descend(gram_matrix: Float64, targets: Float64, softness: Float64, tolerance: float, sweeps: int
             ) -> tuple[Float64, Float64]:
    """Return targets × α, (classes, n), and how far each class is from its optimum.

    α ≥ 0 minimises ½ αᵀ (Q + diag(softness)) α − Σ α with Q_ij = s_i s_j (G_ij + 1); softness is 1 / (2 C_i). All
    classes visit the samples in the same order, so that a row of G is read once for all of them, and yet each class
    goes its way independently of the others.
    """
    classes, n = targets.shape
    signed = np.zeros((classes, n))
    scores = np.zeros((classes, n))  # G signed
    bias = np.zeros(classes)  # sum of signed
    worst = np.zeros(classes)
    order = np.arange(n)
    state = np.uint64(1)
    for sweep in range(sweeps + 1):
        for c in range(classes):
            worst[c] = 0
            for i in range(n):
                gradient = targets[c, i] * (scores[c, i] + bias[c] + softness[c, i] * signed[c, i]) - 1
                worst[c] = max(worst[c], abs(gradient) if signed[c, i] != 0 else -gradient)
        if worst.max() <= tolerance or sweep == sweeps:
            break
        for k in range(n - 1, 0, -1):
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)  # Knuth's MMIX
            other = np.int64((state >> np.uint64(33)) % np.uint64(k + 1))
            order[k], order[other] = order[other], order[k]
        for visited in order:
            row = gram_matrix[visited]
            for c in range(classes):
                if worst[c] <= tolerance:
                    continue
                old = signed[c, visited]
                gradient = targets[c, visited] * (scores[c, visited] + bias[c] + softness[c, visited] * old) - 1
                if (abs(gradient) if old != 0 else -gradient) <= tolerance:
                    continue
                alpha = max(0.0, targets[c, visited] * old - gradient / (row[visited] + 1 + softness[c, visited]))
                change = targets[c, visited] * alpha - old
                signed[c, visited] += change
                bias[c] += change
                line = scores[c]
                for j in range(np.uint64(n)):
                    line[j] += change * row[j]
    return signed, worst


def _newton(gram_matrix: Float64, target: Float64, softness: Float64, signed: Float64) -> tuple[Float64, float]:
    """Return what `_descend` does for one class, from its result, by Newton's method on the primal.

    The samples inside the margin give a linear system; its solution is the optimum if the same samples are inside the
    margin there, and otherwise the end of an exact line search (Keerthi and DeCoste, "A modified finite Newton method
    for fast solution of large scale linear SVMs", JMLR 2005; in terms of the Gram matrix as Chapelle, "Training a
    support vector machine in the primal", 2007).
    """
    scores = gram_matrix @ signed + signed.sum()
    for _ in range(_STEPS):
        slack = np.maximum(1 - target * scores, 0)
        worst = float(abs(softness * target * signed - slack).max())
        if worst <= _TOLERANCE:
            break
        inside = np.flatnonzero(slack)
        system = gram_matrix[np.ix_(inside, inside)] + 1
        system.flat[::len(inside) + 1] += softness[inside]
        try:
            solution = scipy.linalg.cho_solve(scipy.linalg.cho_factor(system, overwrite_a=True), target[inside])
        except (scipy.linalg.LinAlgError, ValueError):  # not positive definite, or overflow: left to the warning
            break
        step = -signed
        step[inside] += solution
        change = gram_matrix[:, inside] @ solution + solution.sum() - scores
        t = _line_search(scores, change, float(signed @ change), float(step @ change), target, softness)
        signed, scores = signed + t * step, scores + t * change
    return target * np.maximum(target * signed, 0), worst


def _line_search(scores: Float64, change: Float64, start: float, bend: float, target: Float64, softness: Float64
                 ) -> float:
    """Return t in (0, 1] that minimises ½ ‖w + t Δw‖² + Σ C max(0, 1 − s (f + t Δf))².

    `scores` are f, `change` is Δf, `start` w·Δw and `bend` ‖Δw‖².
    """
    def slope(t: float) -> float:
        slack = np.maximum(1 - target * (scores + t * change), 0)
        return float(start + t * bend - (slack / softness) @ (target * change))

    return 1.0 if slope(1.0) <= 0 or slope(0.0) >= 0 else float(scipy.optimize.brentq(slope, 0.0, 1.0))


# float32 sums in any order: each of 1024 terms, then summed on.
@jit(fastmath=True)
def _sum_chi2(x: Float32, y: Float32, symmetric: bool, distances: Float32) -> None:
    """Add the χ² distances of the rows of `x` and `y` to `distances`; tiles of both stay in the cache."""
    n, m, width = len(x), len(y), x.shape[1]
    for left in range(0, width, 1024):
        right = min(left + 1024, width)
        for top in range(0, n, 32):
            for start in range(0, top + 1 if symmetric else m, 32):
                for i in range(top, min(top + 32, n)):
                    a = x[i, left:right]
                    for j in range(start, min(start + 32, i if symmetric else m)):
                        b = y[j, left:right]
                        total = np.float32(0)
                        for k in range(np.uint64(right - left)):
                            difference = a[k] - b[k]
                            total += difference * difference / (a[k] + b[k] + _TINY)
                        distances[i, j] += np.float32(0.5) * total
    if symmetric:
        for i in range(n):
            for j in range(i):
                distances[j, i] = distances[i, j]


def _check_table(x: Array, name: str) -> None:
    if x.ndim != 2 or x.dtype.kind not in "fiub":
        raise ParameterError(f"{name} has the shape {x.shape} and type {x.dtype}: it must be a table of numbers, one "
                             "sample a row.")


def _check_width(x: Array, width: int, what: str, name: str = "X") -> None:
    if x.shape[1] != width:
        raise ParameterError(f"{name} has {x.shape[1]} columns: the machine was trained on {width} {what}.")


def _check_square(x: Array, name: str) -> None:
    if x.shape[0] != x.shape[1]:
        raise ParameterError(f"{name[0].upper() + name[1:]} has the shape {x.shape}: it must be square, training "
                             "samples in rows and columns.")


def _check_finite(x: Array, name: str) -> None:
    """Refuse NaN and infinity, and name the first row that has one."""
    for row, values in enumerate(x):
        if not np.isfinite(values).all():
            raise ParameterError(f"Row {row} of {name} has a value that is NaN or infinite.")


def _channels(x: Channels) -> list[tuple[str, Array]]:
    """Return the channels and what errors call them."""
    if isinstance(x, np.ndarray):
        return [("X", x)]
    return [(f"channel {number} of X", np.asarray(channel)) for number, channel in enumerate(x)]


def _histograms(x: Array, name: str) -> Float32:
    _check_table(x, name)
    table = np.ascontiguousarray(x, np.float32)
    if table.size and not (table.min() >= 0 and np.isfinite(table.max())):  # of NaN both are NaN
        _check_finite(table, name)
        row = int(np.flatnonzero((table < 0).any(axis=1))[0])
        raise ParameterError(f"Row {row} of {name} has the value {table[row].min():g}: histograms are not negative.")
    return table


def _checked(distances: Sequence[Array]) -> Sequence[Array]:
    if not distances:
        raise ParameterError("There is no channel.")
    for channel, distance in enumerate(distances):
        if distance.shape != distances[0].shape:
            raise ParameterError(f"Channel {channel} has the shape {distance.shape} and channel 0 "
                                 f"{distances[0].shape}: all channels must be of the same samples.")
        _check_table(distance, f"channel {channel}")
        _check_finite(distance, f"channel {channel}")
    return distances


def mean_distance(distances: Array) -> float:
    """Return A_c of `rbf_chi2_kernel`: the mean over all pairs of different samples, infinite if all are equal."""
    n = len(distances)
    return float(np.sum(distances, dtype=np.float64)) / max(n * (n - 1), 1) or math.inf
