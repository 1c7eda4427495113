"""encoding.model: channels, codebooks, models and their files."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from random_bags import encoded

from idt.encoding import (
    PCA,
    VLAD,
    BagOfWords,
    Chi2SVM,
    DiagonalGMM,
    FisherVector,
    KMeans,
    LinearSVM,
    Normalise,
    Pyramid,
)
from idt.encoding.model import FORMAT, Channel, Codebook, Model
from idt.encoding.norms import l2, power, root_sift
from idt.errors import FormatError, ParameterError

rng = np.random.default_rng(7)
HISTOGRAMS = [np.abs(rng.normal(size=(n, 12))).astype(np.float32) for n in (80, 60, 90)]
POSITION = rng.uniform(size=(60, 3)).astype(np.float32)


def channels():
    """One channel of each encoder, fitted on HISTOGRAMS."""
    pca = PCA(0.5).fit([root_sift(bag) for bag in HISTOGRAMS])
    projected = pca.transform([root_sift(bag) for bag in HISTOGRAMS])
    return {
        "hog": Channel(12, FisherVector(DiagonalGMM(4, seed=3)).fit(projected), pca, root=True, norm=Normalise()),
        "hof": Channel(12, VLAD(KMeans(5), residual=True).fit(HISTOGRAMS), norm=Normalise(("intra", "l2"), blocks=5),
                       pyramid=Pyramid(("1x1x1", "1x1x2"))),
        "mbhx": Channel(12, BagOfWords(KMeans(6), soft=0.8).fit(HISTOGRAMS), norm=Normalise(("l1",)))}


@pytest.fixture
def codebook():
    return Codebook(channels(), {"params": {"words": 4}})


@pytest.fixture
def path(codebook, tmp_path):
    with open(tmp_path / "x.codebook.npz", "wb") as file:
        codebook.save(file)
    return tmp_path / "x.codebook.npz"


def bags(n=1):
    return dict.fromkeys(("hog", "hof", "mbhx", "mbhy"), HISTOGRAMS[n])


def test_a_channel_is_its_steps_in_order(codebook):
    channel = codebook.channels["hog"]
    expected = l2(power(channel.encoder.encode(channel.pca.project(root_sift(HISTOGRAMS[1])))))
    np.testing.assert_array_equal(channel.encode(HISTOGRAMS[1]), expected)
    assert channel.size == 2 * 4 * 6 == len(expected)


def test_cells_of_a_pyramid_are_normalised_by_themselves(codebook):
    channel = codebook.channels["hof"]
    vector = channel.encode(HISTOGRAMS[1], POSITION)
    assert vector.shape == (channel.size,) == (3 * 5 * 12,)
    late = HISTOGRAMS[1][POSITION[:, 2] >= 0.5]
    np.testing.assert_array_equal(vector[2 * 60:], channel.norm.transform(channel.encoder.encode(late)))
    np.testing.assert_allclose(np.linalg.norm(vector.reshape(3, 60), axis=1), 1, rtol=1e-6)


def test_what_is_saved_and_loaded_encodes_to_the_same_bytes(codebook, path):
    loaded = Codebook.load(path)
    assert loaded.meta == {"params": {"words": 4}}
    assert list(loaded.channels) == ["hog", "hof", "mbhx"]
    for name, vector in encoded(codebook, bags(), POSITION).items():
        assert encoded(loaded, bags(), POSITION)[name].tobytes() == vector.tobytes()
        assert loaded.channels[name].encoder.get_params(deep=False).keys() == codebook.channels[
            name].encoder.get_params(deep=False).keys()
    again = io.BytesIO()
    loaded.save(again)
    assert again.getvalue() == path.read_bytes()


def test_empty_bags_give_zero_vectors(codebook):
    empty = dict.fromkeys(codebook.channels, np.empty((0, 12), np.float16))
    for name, vector in encoded(codebook, empty, np.empty((0, 3), np.float32)).items():
        assert vector.shape == (codebook.channels[name].size,)
        assert not vector.any()


def test_bags_that_do_not_fit(codebook):
    with pytest.raises(ParameterError, match=r"bag has 11 columns: 12 are needed, as many as were learnt from"):
        codebook.channels["hog"].encode(HISTOGRAMS[1][:, 1:])
    with pytest.raises(ParameterError, match="has a pyramid, which needs the position"):
        encoded(codebook, bags())


def rewritten(path, change):
    """Change the parts of a codebook file."""
    with np.load(path, allow_pickle=False) as file:
        parts = dict(file)
    meta = json.loads(str(parts["meta"]))
    change(meta, parts)
    parts["meta"] = np.array(json.dumps(meta))
    np.savez(path, allow_pickle=False, **parts)


@pytest.mark.parametrize(("change", "message"), [
    (lambda meta, parts: meta.update(kind="features"), "not a codebook but features; give a file that idt fit wrote"),
    (lambda meta, parts: meta.update(kind=["codebook"]), r"not a codebook but \['codebook'\]; give a file"),
    (lambda meta, parts: meta.update(format=FORMAT + 1), f"of format {FORMAT + 1}; this version reads format {FORMAT}"),
    (lambda meta, parts: parts.pop("hog.pca.mean_"), "does not fit together .*hog.pca.mean_"),
    (lambda meta, parts: parts.update({"hog.codebook.means_": parts["hog.codebook.means_"][:, 1:]}),
     "does not fit together .the shapes of hog.codebook contradict each other"),
    (lambda meta, parts: parts["hof.codebook.centres_"].fill(np.nan), "hof.codebook.centres_ are not finite"),
    (lambda meta, parts: parts["hog.codebook.weights_"].put(2, 0), "hog.codebook.weights_ are not all above 0"),
    (lambda meta, parts: parts["hog.codebook.variances_"].put(5, -1), "hog.codebook.variances_ are not all above 0"),
    (lambda meta, parts: parts["hog.codebook.weights_"].put(2, 2), "hog.codebook.weights_ do not sum to 1"),
    (lambda meta, parts: parts["hog.codebook.variances_"].fill(1e-45), "hog makes vectors that are NaN or infinite"),
    (lambda meta, parts: meta["channels"]["mbhx"].update(encoder="cnn"), "does not fit together .'cnn'"),
    (lambda meta, parts: meta["channels"]["hof"].update(pyramid=["1x1"]), "does not fit together .grids has '1x1'"),
    (lambda meta, parts: meta["channels"]["hog"]["codebook"].update(words=3), "does not fit together")])
def test_files_that_are_refused(path, change, message):
    rewritten(path, change)
    with pytest.raises(FormatError, match=message) as error:
        Codebook.load(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FormatError, match="not a codebook that can be read"):
        Codebook.load(tmp_path / "x")


def test_a_cut_file(path):
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FormatError, match="not a codebook that can be read"):
        Codebook.load(path)


def test_an_array_of_numpy(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(FormatError, match="not a codebook that can be read"):
        Codebook.load(tmp_path / "x.npy")


def test_a_missing_file(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        Codebook.load(tmp_path / "none")


def test_objects_are_not_unpickled(path):
    rewritten(path, lambda meta, parts: parts.update(evil=np.zeros(1)))
    with np.load(path, allow_pickle=False) as file:
        parts = dict(file)
    parts["hog.pca.mean_"] = np.array([print], dtype=object)
    np.savez(path, allow_pickle=True, **parts)
    with pytest.raises(FormatError, match="not a codebook that can be read"):
        Codebook.load(path)


# Models


LABELS = ["walk", "run", "walk", "größe, \"x\"", "run", "walk", "run"]


def vectors(codebook, n=7, seed=1):
    """Vectors of n videos, as histograms with one empty bin, for each channel."""
    rng = np.random.default_rng(seed)
    rows = {name: rng.uniform(0, 1, (n, channel.size)).astype(np.float32)
            for name, channel in codebook.channels.items()}
    for values in rows.values():
        values[:, 3] = 0
    return rows


@pytest.fixture(params=["linear", "chi2"])
def model(request, codebook):
    rows = list(vectors(codebook).values())
    machine = LinearSVM(C=10.0).fit(np.hstack(rows), LABELS) if request.param == "linear" else \
        Chi2SVM(C=10.0, class_weight="balanced").fit(rows, LABELS)
    return Model(codebook, machine, {"dataset": "set", "clips": 7})


@pytest.fixture
def model_path(model, tmp_path):
    with open(tmp_path / "x.model.npz", "wb") as file:
        model.save(file)
    return tmp_path / "x.model.npz"


def test_scores_are_those_of_the_machine_whatever_the_order_of_the_channels(model):
    rows = vectors(model.codebook, 4, seed=2)
    scores = model.scores({"other": np.zeros((4, 2)), **dict(reversed(rows.items()))})
    ordered = [rows[name] for name in ("hog", "hof", "mbhx")]
    expected = model.machine.decision_function(
        np.hstack(ordered) if isinstance(model.machine, LinearSVM) else ordered)
    assert model.labels == ("größe, \"x\"", "run", "walk")
    assert scores.shape == (4, 3)
    np.testing.assert_array_equal(scores, expected)


def test_a_model_that_is_saved_and_loaded_gives_the_same_scores(model, model_path):
    loaded = Model.load(model_path)
    assert (loaded.labels, loaded.meta) == (model.labels, {"dataset": "set", "clips": 7})
    assert loaded.codebook.meta == {"params": {"words": 4}}
    assert loaded.machine.get_params() == model.machine.get_params()
    rows = vectors(model.codebook, 4, seed=2)
    assert loaded.scores(rows).tobytes() == model.scores(rows).tobytes()
    assert encoded(loaded.codebook, bags(), POSITION)["hof"].tobytes() == \
        encoded(model.codebook, bags(), POSITION)["hof"].tobytes()
    again = io.BytesIO()
    loaded.save(again)
    assert again.getvalue() == model_path.read_bytes()


def test_vectors_that_a_model_does_not_take(model):
    rows = vectors(model.codebook, 4)
    with pytest.raises(ParameterError, match=r"The vectors of hof are missing: they must have the shape \(n, 180\)\."):
        model.scores({name: rows[name] for name in ("hog", "mbhx")})
    with pytest.raises(ParameterError, match=r"The vectors of mbhx are of the shape \(4, 5\): they must .* \(n, 6\)\."):
        model.scores({**rows, "mbhx": rows["mbhx"][:, 1:]})
    rows["hog"][2, 5] = np.nan
    with pytest.raises(ParameterError, match=r"Row 2 of .* NaN or infinite"):
        model.scores(rows)


def test_a_codebook_is_no_model_and_the_other_way_round(path, model_path):
    with pytest.raises(FormatError, match=r"x\.codebook\.npz: not a model but a codebook; give a file that idt tra"):
        Model.load(path)
    with pytest.raises(FormatError, match=r"x\.model\.npz: not a codebook but a model; give a file that idt fit wrote"):
        Codebook.load(model_path)


def swap(part, value):
    """A change of a file that sets one array; a callable gets the array that was there."""
    return lambda meta, parts: parts.update({part: value(parts[part]) if callable(value) else np.array(value)})


BOTH = [
    (lambda meta, parts: meta.update(format=FORMAT + 1), f"a model of format {FORMAT + 1}; this version reads format"),
    (lambda meta, parts: meta["labels"].pop(), r"does not fit together \(the shapes of labels and machine\.intercept"),
    (lambda meta, parts: meta.update(labels=["a", "b", "a"]), "labels is not a list of two different texts or more"),
    (lambda meta, parts: meta.update(labels=["a", "b", 3]), "labels is not a list of two different texts or more"),
    (lambda meta, parts: meta.update(labels="abc"), "labels is not a list of two different texts or more"),
    (lambda meta, parts: meta.update(labels=["a"]), "labels is not a list of two different texts or more"),
    (lambda meta, parts: meta.update(meta=None), "meta is None"),
    (lambda meta, parts: meta["codebook"].update(meta=[1]), r"meta is \[1\]"),
    (lambda meta, parts: meta["codebook"].update(channels={}), "it has no channel"),
    (lambda meta, parts: meta["codebook"]["channels"]["mbhx"]["options"].update(soft="x"), "soft is 'x'"),
    (lambda meta, parts: meta["codebook"]["channels"]["hog"]["norm"].update(steps=["sum"]), "steps has 'sum'"),
    (lambda meta, parts: meta["machine"].update(kind="tree"), r"does not fit together \('tree'\)"),
    (lambda meta, parts: meta["machine"]["params"].update(depth=3), "depth"),
    (lambda meta, parts: parts.pop("machine.intercept"), "machine.intercept"),
    (swap("machine.intercept", [np.nan, 0, 0]), "machine.intercept are not finite numbers of float64"),
    (swap("machine.intercept", np.float32([1, 0, 0])), "machine.intercept are not finite numbers of float64"),
    (swap("hog.pca.mean_", lambda values: np.full_like(values, np.inf)), "hog.pca.mean_ are not finite")]
LINEAR = [
    (swap("machine.coef", lambda values: values[:, 1:]),
     "the shapes of machine.coef, labels and the codebook contradict each other"),
    (swap("machine.coef", lambda values: values[:2]), "the shapes of machine.coef, labels and the codebook"),
    (swap("machine.coef", lambda values: np.full_like(values, -np.inf)), "machine.coef are not finite"),
    (swap("machine.coef", lambda values: values.astype(np.float64)), "machine.coef are not finite numbers of float32")]
CHI2 = [
    (swap("machine.scales", [1.0, 2.0]), "the shapes of machine.scales and the codebook contradict each other"),
    (swap("machine.scales", [1.0, 2.0, 0.0]), "machine.scales are not positive numbers of float64"),
    (swap("machine.scales", [1.0, 2.0, np.nan]), "machine.scales are not positive numbers of float64"),
    (swap("machine.dual_coef", lambda values: values[:, 1:]),
     "the shapes of machine.dual_coef, labels, machine.vectors.hog and the codebook contradict each other"),
    (swap("machine.vectors.hof", lambda values: values[:, 1:]), "machine.vectors.hof and the codebook contradict"),
    (swap("machine.vectors.hof", lambda values: values[1:]), "machine.vectors.hof and the codebook contradict"),
    (swap("machine.vectors.mbhx", lambda values: values - 1), "machine.vectors.mbhx are no histograms"),
    (lambda meta, parts: parts.pop("machine.vectors.mbhx"), "machine.vectors.mbhx")]


@pytest.mark.parametrize(("model", "change", "message"), [
    *(("linear", *case) for case in BOTH + LINEAR), *(("chi2", *case) for case in BOTH + CHI2)], indirect=["model"])
def test_models_that_are_refused(model_path, change, message):
    rewritten(model_path, change)
    with pytest.raises(FormatError, match=message) as error:
        Model.load(model_path)
    assert str(error.value).startswith(str(model_path))


def test_an_infinite_scale_leaves_a_channel_out(codebook, tmp_path):
    rows = vectors(codebook)
    rows["hof"][:] = 0.5
    model = Model(codebook, Chi2SVM().fit(list(rows.values()), LABELS))
    with open(tmp_path / "x.model.npz", "wb") as file:
        model.save(file)
    loaded = Model.load(tmp_path / "x.model.npz")
    assert np.isinf(loaded.machine.scales_).tolist() == [False, True, False]
    np.testing.assert_array_equal(loaded.scores(vectors(codebook, 3, seed=4)),
                                  loaded.scores(vectors(codebook, 3, seed=4) | {"hof": np.ones((3, 180), np.float32)}))


def opened(kind, path):
    """What is read from a file, None if it is refused in a sentence that begins with its name."""
    try:
        return kind.load(path)
    except FormatError as error:
        if not str(error).startswith(str(path)):
            raise
        return None


def fuzzed(content, rng):
    """The file cut, or with some bytes changed."""
    if rng.random() < 0.2:
        return content[:rng.integers(len(content))]
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def test_damaged_models_and_codebooks_raise_nothing_else(model, model_path, path, tmp_path):
    rows = vectors(model.codebook, 2)
    expected = model.scores(rows)
    bad = tmp_path / "bad.npz"
    for kind, sound in ((Model, model_path), (Codebook, path)):
        refused = 0
        for seed in range(200):
            bad.write_bytes(fuzzed(sound.read_bytes(), np.random.default_rng(seed)))
            loaded = opened(kind, bad)
            refused += loaded is None
            if isinstance(loaded, Model):  # a byte was changed that nobody reads, such as a time in the archive
                np.testing.assert_array_equal(loaded.scores(rows), expected)
        assert refused > 130


def other_values(value):
    """What JSON could hold in the place of a value."""
    return [other for other in (None, True, -1, 3, 0.5, "x", "12", [], [1], {}, {"a": 1}) if other != value]


def places(value, path=()):
    """All places in a JSON value that hold something, but for what is kept as it is."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key not in ("kind", "format", "meta"):
            yield from places(inner, (*path, key))


def test_a_description_with_other_types_raises_nothing_else(model, model_path, tmp_path):
    with np.load(model_path, allow_pickle=False) as file:
        parts = dict(file)
    text = str(parts["meta"])
    bad = tmp_path / "bad.npz"
    rows = vectors(model.codebook, 2)
    for place in places(json.loads(text)):
        for other in other_values(None) if place else [None, 3, [], "x"]:
            meta = json.loads(text)
            inner = meta
            for key in place[:-1]:
                inner = inner[key]
            if place:
                inner[place[-1]] = other
            np.savez(bad, allow_pickle=False, **{**parts, "meta": np.array(json.dumps(meta if place else other))})
            loaded = opened(Model, bad)
            if loaded is not None:  # an option that is of no use once all is learnt
                assert loaded.scores(rows).shape == (2, 3)
                for vector in encoded(loaded.codebook, bags(), POSITION).values():
                    assert np.isfinite(vector).all()
