"""Support vector machines against scikit-learn, their own optimality, and χ² distances against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics.pairwise import additive_chi2_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

import naive
from idt.encoding import svm
from idt.encoding.svm import Chi2SVM, LinearSVM, chi2_distances, chi2_kernel, gram, rbf_chi2_kernel
from idt.errors import ParameterError

pytestmark = pytest.mark.numeric


def clusters(n, width, classes, spread=0.3, seed=0, unit=True):
    """Vectors around a centre for each class, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    vectors = spread * rng.normal(size=(classes, width))[labels] + rng.normal(size=(n, width))
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), labels


def histograms(n, width, seed=0):
    rng = np.random.default_rng(seed)
    table = rng.random((n, width), np.float32) * (rng.random((n, width)) < 0.6)
    return table / table.sum(axis=1, keepdims=True)


# Gram matrix


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.uint8])
def test_gram_is_the_inner_products_whatever_the_tiles(kind, monkeypatch):
    rng = np.random.default_rng(1)
    x, y = (rng.integers(0, 9, (n, 23)).astype(kind) for n in (11, 7))  # exact in every type
    wide = x.astype(np.float64)
    for rows, columns in ((2048, 8192), (3, 5), (4, 23), (1, 1)):
        monkeypatch.setattr(svm, "_ROWS", rows)
        monkeypatch.setattr(svm, "_COLUMNS", columns)
        own = gram(x)
        assert own.dtype == np.float64
        np.testing.assert_array_equal(own, wide @ wide.T)
        np.testing.assert_array_equal(gram(x, y), wide @ y.astype(np.float64).T)


def test_gram_of_a_wide_table_is_summed_in_double_precision():
    x = np.full((2, 3 * 8192 + 1), 0.1, np.float32)
    np.testing.assert_allclose(gram(x), x.shape[1] * np.float64(np.float32(0.1))**2, rtol=5e-6)
    # 2²⁷ + 1 is no float32: the last block would be lost in a sum in single precision.
    x = np.zeros((1, 8193), np.float32)
    x[0, 0], x[0, 8192] = 2**13.5, 1
    assert gram(x)[0, 0] - gram(x[:, :8192])[0, 0] == 1


def test_gram_is_symmetric_to_the_bit():
    x, _ = clusters(50, 301, 5)
    own = gram(x)
    np.testing.assert_array_equal(own, own.T)


def test_gram_reads_a_memory_map(tmp_path):
    x, _ = clusters(20, 30, 2)
    np.save(tmp_path / "x.npy", x)
    np.testing.assert_array_equal(gram(np.load(tmp_path / "x.npy", mmap_mode="r")), gram(x))


@pytest.mark.parametrize(("bad", "message"), [
    (np.nan, "Row 3 of X has a value that is NaN or infinite"),
    (-np.inf, "Row 3 of X has a value that is NaN or infinite"),
    (1e30, "The inner products exceed float32: scale the vectors"),
])
def test_gram_names_a_row_that_is_not_finite(bad, message):
    x, _ = clusters(6, 10, 2)
    good = x.copy()
    x[3, 2] = bad
    with pytest.raises(ParameterError, match=message):
        gram(x)
    with pytest.raises(ParameterError, match=message.replace("of X", "of Y")):
        gram(np.vstack([good, good * 1e10]) if bad == 1e30 else good, x)


def test_gram_refuses_shapes():
    with pytest.raises(ParameterError, match=r"X has the shape \(3,\) and type float64: it must be a table of numbers"):
        gram(np.zeros(3))
    with pytest.raises(ParameterError, match=r"X has the shape \(1, 1\) and type <U1: it must be a table"):
        gram(np.array([["a"]]))
    with pytest.raises(ParameterError, match="X has 3 columns and Y has 4: they must have the same"):
        gram(np.zeros((2, 3)), np.zeros((2, 4)))


# Linear machine


@pytest.mark.parametrize("weight", [None, "balanced", {0: 3.0, 2: 0.1}])
@pytest.mark.parametrize(("classes", "C"), [(2, 100.0), (5, 100.0), (5, 0.3)])
def test_decision_values_are_those_of_linear_svc(classes, C, weight):
    x, y = clusters(120, 80, classes, seed=classes)
    x, y = x[: -classes // 2], y[: -classes // 2]  # classes of unequal size
    weight = {k: v for k, v in weight.items() if k < classes} if isinstance(weight, dict) else weight
    new, _ = clusters(40, 80, classes, seed=9)
    ours = LinearSVM(C=C, class_weight=weight).fit(x, y)
    peer = LinearSVC(C=C, class_weight=weight, tol=1e-9, max_iter=1_000_000).fit(x.astype(np.float64), y)
    theirs = peer.decision_function(new.astype(np.float64))
    scores = ours.decision_function(new)
    assert scores.shape == (40, classes)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores[:, 1] if classes == 2 else scores, theirs, atol=2e-5)
    np.testing.assert_array_equal(ours.predict(new), peer.predict(new.astype(np.float64)))
    np.testing.assert_allclose(ours.coef_[-1], peer.coef_[-1], atol=2e-5)
    np.testing.assert_allclose(ours.intercept_[-1], peer.intercept_[-1], atol=2e-5)


def objectives(x, y, machine, c, costs):
    target = np.where(y == machine.classes_[c], 1.0, -1.0)
    alpha = target * machine.dual_coef_[c]
    assert alpha.min() >= 0
    return naive.squared_hinge_objectives(x, target, costs, alpha)


@pytest.mark.parametrize(("width", "unit", "C"), [(200, True, 100.0), (20, False, 100.0), (3, False, 1e4),
                                                  (3, False, 1e-3)])
def test_primal_and_dual_objectives_meet(width, unit, C):
    x, y = clusters(90, width, 3, seed=4, unit=unit)
    x = x.astype(np.float64)
    machine = LinearSVM(C=C).fit(x, y)
    for c in range(3):
        primal, dual = objectives(x, y, machine, c, np.full(90, C))
        assert 0 <= primal - dual + 1e-9 * primal < 1e-6 * primal + 1e-9


def test_weighted_costs_meet_too():
    x, y = clusters(60, 10, 3, seed=4, unit=False)
    x, y = x[:50].astype(np.float64), y[:50]
    machine = LinearSVM(C=2.0, class_weight="balanced").fit(x, y)
    for c in range(3):
        costs = np.where(y == c, 2.0 * 50 / (3 * np.count_nonzero(y == c)), 2.0)
        primal, dual = objectives(x, y, machine, c, costs)
        assert abs(primal - dual) < 1e-6 * primal


@pytest.mark.parametrize("seed", range(4))
def test_overlapping_classes_in_few_dimensions_are_left_to_newton(seed, monkeypatch):
    x, y = clusters(200, 3, 2, spread=0.5, seed=seed, unit=False)
    x = x.astype(np.float64)
    machine = LinearSVM(C=100.0).fit(x, y)  # no warning: warnings are errors here
    peer = LinearSVC(C=100.0, dual=False, tol=1e-10, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(machine.decision_function(x)[:, 1], peer.decision_function(x), atol=1e-6)
    monkeypatch.setattr(svm, "_STEPS", 0)
    monkeypatch.setattr(svm, "_newton", lambda gram_matrix, target, softness, signed: (signed, 1.0))
    with pytest.warns(ConvergenceWarning, match="2 of 2 classes are not solved"):
        machine.fit(x, y)


def test_unit_vectors_are_solved_by_coordinate_descent(monkeypatch):
    monkeypatch.setattr(svm, "_newton", None)
    x, y = clusters(200, 400, 5)
    for C in (1.0, 100.0):
        assert LinearSVM(C=C).fit(x, y).score(x, y) == 1.0


def test_newton_alone_finds_the_same(monkeypatch):
    x, y = clusters(100, 40, 4, seed=3)
    reference = LinearSVM().fit(x, y).decision_function(x)
    monkeypatch.setattr(svm, "_SWEEPS", 0)
    np.testing.assert_allclose(LinearSVM().fit(x, y).decision_function(x), reference, atol=1e-5)


def test_newton_takes_less_than_a_whole_step_where_the_objective_would_grow():
    # Of f(t) = t, the hinge of a sample with the target −1 bends at t = −1 and of +1 at 1; minimum inside (0, 1).
    scores, change = np.zeros(2), np.array([4.0, 4.0])
    target, softness = np.array([1.0, -1.0]), np.array([0.5, 0.5])
    t = svm._line_search(scores, change, -1.0, 1.0, target, softness)
    values = [0.5 * s * s - s + sum(np.maximum(0, 1 - target * change * s)**2 / (2 * softness))
              for s in np.linspace(0, 1, 10001)]
    assert t == pytest.approx(np.linspace(0, 1, 10001)[int(np.argmin(values))], abs=1e-4)
    assert 0 < t < 1
    assert svm._line_search(scores, change, -1.0, 0.0, np.array([1.0, 1.0]), softness) == 1.0


def test_a_matrix_of_no_vectors_is_told():
    matrix = -np.eye(6) * 3
    with pytest.warns(ConvergenceWarning, match=r"2 of 2 classes are not solved to 1e-06 of a margin, but to .*: sc"):
        LinearSVM().fit_gram(matrix, [0, 1] * 3)


def test_two_classes_give_two_columns_that_mirror_each_other():
    x, y = clusters(30, 50, 2)
    scores = LinearSVM().fit(x, y).decision_function(x)
    np.testing.assert_allclose(scores[:, 0], -scores[:, 1], atol=1e-12)


def test_a_class_does_not_depend_on_how_the_others_are_divided():
    x, y = clusters(60, 70, 5)
    many, one = LinearSVM().fit(x, y), LinearSVM().fit(x, y == 3)
    np.testing.assert_array_equal(many.dual_coef_[3], one.dual_coef_[1])


def test_the_order_of_the_samples_does_not_matter():
    x, y = clusters(60, 70, 3)
    order = np.random.default_rng(2).permutation(60)
    np.testing.assert_allclose(LinearSVM().fit(x, y).decision_function(x),
                               LinearSVM().fit(x[order], y[order]).decision_function(x), atol=1e-5)


def test_the_same_input_gives_the_same_bytes():
    x, y = clusters(60, 70, 3)
    a, b = LinearSVM().fit(x, y), LinearSVM().fit(x.copy(), list(y))
    assert a.coef_.tobytes() == b.coef_.tobytes()
    assert a.decision_function(x).tobytes() == b.decision_function(x).tobytes()


def test_the_number_of_threads_does_not_matter():
    x, y = clusters(400, 5000, 5)
    overlapping, z = clusters(300, 3, 2, spread=0.5, unit=False)
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            machine, newton = LinearSVM().fit(x, y), LinearSVM().fit(overlapping, z)
            results.append([array.tobytes() for array in (
                gram(x), machine.coef_, machine.decision_function(x[:50]), newton.coef_,
                newton.decide_gram(gram(overlapping)))])
    assert results[0] == results[1]


def test_labels_may_be_text():
    x, y = clusters(60, 70, 3)
    machine = LinearSVM().fit(x, np.array(["walk", "bend", "run"])[y])
    assert machine.classes_.tolist() == ["bend", "run", "walk"]
    assert machine.predict(x[:4]).tolist() == ["walk", "bend", "run", "walk"]
    assert machine.score(x, np.array(["walk", "bend", "run"])[y]) == 1.0


@pytest.mark.parametrize(("kind", "of_coef"), [(np.float16, np.float32), (np.float32, np.float32),
                                               (np.float64, np.float64), (np.int16, np.float64)])
def test_types(kind, of_coef):
    x, y = clusters(30, 20, 3)
    machine = LinearSVM().fit((100 * x).astype(kind), y)
    assert machine.coef_.dtype == of_coef
    assert machine.coef_.shape == (3, 20)
    assert machine.intercept_.shape == (3,)
    assert machine.dual_coef_.shape == (3, 30)


def test_one_gram_matrix_serves_many_splits():
    x, y = clusters(60, 300, 4)
    products = gram(x)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(60)
        train, test = order[:40], order[40:]
        of_gram = LinearSVM().fit_gram(products[np.ix_(train, train)], y[train])
        scores = of_gram.decide_gram(products[np.ix_(test, train)])
        direct = LinearSVM().fit(x[train], y[train])
        np.testing.assert_allclose(scores, direct.decision_function(x[test]), atol=1e-5)
        np.testing.assert_allclose(direct.decide_gram(products[np.ix_(test, train)]), scores, atol=1e-5)


def test_weights_of_an_earlier_fit_do_not_stay():
    x, y = clusters(30, 20, 3)
    machine = LinearSVM().fit(x, y).fit_gram(gram(x), y)
    with pytest.raises(NotFittedError):
        machine.decision_function(x)
    with pytest.raises(NotFittedError):
        LinearSVM().decide_gram(x)


def test_scikit_learn_can_handle_it():
    x, y = clusters(60, 40, 3, spread=1.0)
    machine = LinearSVM(C=3.0, class_weight="balanced")
    assert clone(machine).get_params() == {"C": 3.0, "class_weight": "balanced"}
    assert machine.set_params(C=4.0).C == 4.0
    pipeline = make_pipeline(Normalizer(), LinearSVM())
    search = GridSearchCV(pipeline, {"linearsvm__C": [0.01, 100.0]}, cv=3).fit(x, y)
    assert search.best_score_ > 0.9


@pytest.mark.parametrize(("parameters", "message"), [
    ({"C": 0}, "C is 0: it must be a positive number"),
    ({"C": float("nan")}, "C is nan: it must be"),
    ({"C": float("inf")}, "C is inf: it must be"),
    ({"C": "1"}, "C is '1': it must be"),
    ({"class_weight": "even"}, "class_weight is 'even': it must be None, 'balanced' or a dict"),
    ({"class_weight": {7: 1.0}}, "class_weight has a factor for 7, which is none of the 3 classes"),
    ({"class_weight": {1: 0.0}}, r"class_weight of 1 is 0.0: it must be a positive number"),
])
def test_bad_parameters_are_refused(parameters, message):
    x, y = clusters(30, 20, 3)
    with pytest.raises(ParameterError, match=message):
        LinearSVM(**parameters).fit(x, y)


def test_bad_input_is_refused():
    x, y = clusters(30, 20, 3)
    with pytest.raises(ParameterError, match="All 30 training samples have the label walk: a classifier needs at"):
        LinearSVM().fit(x, ["walk"] * 30)
    with pytest.raises(ParameterError, match="There is no training sample"):
        LinearSVM().fit(x[:0], [])
    with pytest.raises(ParameterError, match=r"y has the shape \(29,\): there must be one label for each of the 30"):
        LinearSVM().fit(x, y[:-1])
    with pytest.raises(ParameterError, match=r"The Gram matrix has the shape \(30, 20\): it must be square"):
        LinearSVM().fit_gram(x, y)
    machine = LinearSVM().fit(x, y)
    with pytest.raises(ParameterError, match="X has 19 columns: the machine was trained on 20 dimensions"):
        machine.decision_function(x[:, 1:])
    with pytest.raises(ParameterError, match="K has 20 columns: the machine was trained on 30 training samples"):
        machine.decide_gram(x)
    x[4, 3] = np.nan
    with pytest.raises(ParameterError, match="Row 4 of X has a value that is NaN or infinite"):
        machine.fit(x, y)
    with pytest.raises(ParameterError, match="Row 4 of X has a value that is NaN"):
        machine.predict(x)
    with pytest.raises(ParameterError, match="Row 2 of the Gram matrix has a value that is NaN"):
        machine.fit_gram(np.where(np.arange(900).reshape(30, 30) == 75, np.nan, 1.0), y)
    with pytest.raises(ParameterError, match="Row 0 of K has a value that is NaN"):
        machine.decide_gram(np.full((1, 30), np.inf))


# χ² distances


@pytest.mark.parametrize(("n", "m", "width"), [(1, 1, 1), (5, 3, 17), (33, 35, 40), (3, 65, 1025), (2, 2, 2500)])
def test_chi2_distances_are_those_of_the_oracle(n, m, width):
    x, y = histograms(n, width + 1, 1)[:, 1:], histograms(m, width + 1, 2)[:, 1:]
    distances = chi2_distances(x, y)
    assert distances.dtype == np.float32
    np.testing.assert_allclose(distances, naive.chi2_distances(x, y), rtol=2e-6, atol=1e-9)
    own = chi2_distances(x)
    np.testing.assert_allclose(own, naive.chi2_distances(x, x), rtol=2e-6, atol=1e-9)
    np.testing.assert_array_equal(own, own.T)
    np.testing.assert_array_equal(own.diagonal(), 0)


def test_chi2_distances_of_simple_histograms():
    x = np.array([[1, 0], [0, 1], [0, 0], [1, 3]])
    np.testing.assert_allclose(chi2_distances(x), [[0, 1, 0.5, 1.5], [1, 0, 0.5, 1], [0.5, 0.5, 0, 2],
                                                   [1.5, 1, 2, 0]], rtol=1e-6)
    large = np.array([[1e18, 0.0], [0.0, 1e18]])
    np.testing.assert_allclose(chi2_distances(large)[0, 1], 1e18, rtol=1e-6)


def test_chi2_distances_of_one_table_and_of_two_are_equal():
    x = histograms(70, 90)
    np.testing.assert_array_equal(chi2_distances(x), chi2_distances(x, x))


def test_chi2_kernel_is_that_of_scikit_learn():
    x, y = histograms(40, 200, 1), histograms(30, 200, 2)
    np.testing.assert_allclose(chi2_kernel(x), additive_chi2_kernel(x.astype(np.float64)), atol=1e-6)
    np.testing.assert_allclose(chi2_kernel(x, y), additive_chi2_kernel(x.astype(np.float64), y), atol=1e-6)


@pytest.mark.parametrize(("value", "message"), [
    (-0.5, "Row 2 of X has the value -0.5: histograms are not negative"),
    (np.nan, "Row 2 of X has a value that is NaN or infinite"),
    (np.inf, "Row 2 of X has a value that is NaN or infinite"),
])
def test_chi2_distances_name_a_bad_row(value, message):
    x = histograms(4, 10)
    y = x.copy()
    x[2, 7] = value
    with pytest.raises(ParameterError, match=message):
        chi2_distances(x)
    with pytest.raises(ParameterError, match=message.replace("of X", "of Y")):
        chi2_distances(y, x)


def test_chi2_distances_refuse_shapes():
    with pytest.raises(ParameterError, match="X has 3 columns and Y has 4"):
        chi2_distances(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ParameterError, match=r"X has the shape \(3,\)"):
        chi2_distances(np.zeros(3))
    assert chi2_distances(np.zeros((0, 3)), np.zeros((2, 3))).shape == (0, 2)


def test_rbf_chi2_kernel():
    distances = [np.array([[0.0, 2.0]]), np.array([[4.0, 1.0]])]
    np.testing.assert_allclose(rbf_chi2_kernel(distances, [2.0, 4.0]), np.exp([[-1.0, -1.25]]))
    np.testing.assert_allclose(rbf_chi2_kernel(distances, [2.0, np.inf]), np.exp([[0.0, -1.0]]))


# χ² machine


def bags(n, seed):
    """Two channels of histograms, each of which tells two of the three classes apart, and the labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    tables = [np.random.default_rng(width).dirichlet(np.full(width, 0.4), 2)[(y == own).astype(int)]
              for own, width in ((0, 30), (1, 40))]
    return [np.array([rng.multinomial(60, p) / 60 for p in table]).astype(np.float32) for table in tables], y


def test_chi2_svm_agrees_with_svc():
    (train, y), (test, _) = bags(90, 1), bags(60, 2)
    machine = Chi2SVM().fit(train, y)
    scales = [naive.chi2_distances(c, c).sum() / (90 * 89) for c in train]
    np.testing.assert_allclose(machine.scales_, scales, rtol=1e-5)
    own, cross = (np.exp(-sum(naive.chi2_distances(a, b) / s for a, b, s in zip(left, train, scales, strict=True)))
                  for left in (train, test))
    np.testing.assert_allclose(machine.decision_function(test), cross @ machine.dual_coef_.T + machine.intercept_,
                               atol=2e-4)
    np.testing.assert_array_equal(machine.predict(test), SVC(C=100, kernel="precomputed").fit(own, y).predict(cross))
    assert machine.score(test, np.arange(60) % 3) > 0.95


def test_chi2_svm_needs_both_channels():
    (train, y), (test, truth) = bags(90, 1), bags(60, 2)
    for channel in range(2):
        assert Chi2SVM().fit(train[channel], y).score(test[channel], truth) < 0.9


def test_chi2_svm_of_distances_is_the_same():
    (train, y), (test, _) = bags(60, 1), bags(30, 2)
    machine = Chi2SVM(C=10.0, class_weight="balanced").fit(train, y)
    of_distances = clone(machine).fit_distances([chi2_distances(c) for c in train], y)
    scores = of_distances.decide_distances([chi2_distances(a, b) for a, b in zip(test, train, strict=True)])
    np.testing.assert_array_equal(scores, machine.decision_function(test))
    for unfitted in (of_distances, machine.fit_distances([chi2_distances(c) for c in train], y)):
        with pytest.raises(NotFittedError):
            unfitted.decision_function(test)


def test_chi2_svm_of_one_table_is_that_of_one_channel():
    train, y = bags(60, 1)
    a, b = Chi2SVM().fit(train[0], y), Chi2SVM().fit([train[0]], y)
    np.testing.assert_array_equal(a.decision_function(train[0]), b.decision_function([train[0]]))


def test_chi2_svm_leaves_out_a_channel_that_says_nothing():
    (train, y), (test, _) = bags(60, 1), bags(30, 2)
    machine = Chi2SVM().fit([*train, np.ones((60, 5))], y)
    assert machine.scales_[2] == np.inf
    np.testing.assert_array_equal(machine.decision_function([*test, np.eye(30, 5)]),
                                  Chi2SVM().fit(train, y).decision_function(test))


def test_chi2_svm_refuses_bad_input():
    train, y = bags(60, 1)
    machine = Chi2SVM().fit(train, y)
    with pytest.raises(ParameterError, match="There are 1 channels: the machine was trained on 2"):
        machine.decision_function(train[0])
    with pytest.raises(ParameterError, match="channel 1 of X has 39 columns: the machine was trained on 40 bins"):
        machine.decision_function([train[0], train[1][:, 1:]])
    with pytest.raises(ParameterError, match=r"Channel 1 has the shape \(59, 59\) and channel 0 \(60, 60\): all"):
        machine.fit([train[0], train[1][1:]], y)
    with pytest.raises(ParameterError, match="There is no channel"):
        machine.fit([], y)
    with pytest.raises(ParameterError, match="All 1 training samples have the label 0"):
        machine.fit(train[0][:1], y[:1])
    with pytest.raises(ParameterError, match="All 60 training samples have the label 0"):
        machine.fit(train, np.zeros(60, int))
    with pytest.raises(ParameterError, match="distances has 59 columns: the machine was trained on 60 training"):
        machine.fit(train, y).decide_distances([chi2_distances(c)[:, 1:] for c in train])
    with pytest.raises(ParameterError, match=r"The table of distances has the shape \(60, 59\): it must be square"):
        machine.fit_distances([chi2_distances(train[0])[:, 1:]], y)
    for value in (np.nan, np.inf):
        distances = [chi2_distances(c) for c in train]
        distances[1][7, 3] = value
        with pytest.raises(ParameterError, match="Row 7 of channel 1 has a value that is NaN or infinite"):
            machine.fit_distances(distances, y)
        with pytest.raises(ParameterError, match="Row 7 of channel 1 has a value that is NaN or infinite"):
            machine.decide_distances(distances)
    train[1][5, 0] = -1
    with pytest.raises(ParameterError, match="Row 5 of channel 1 of X has the value -1: histograms are not negative"):
        machine.fit(train, y)
