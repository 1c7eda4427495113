"""encoding.model: channels, codebooks and their files."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from idt.encoding import PCA, VLAD, BagOfWords, DiagonalGMM, FisherVector, KMeans, Normalise, Pyramid
from idt.encoding.model import FORMAT, Channel, Codebook
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
    for name, vector in codebook.encode(bags(), POSITION).items():
        assert loaded.encode(bags(), POSITION)[name].tobytes() == vector.tobytes()
        assert loaded.channels[name].encoder.get_params(deep=False).keys() == codebook.channels[
            name].encoder.get_params(deep=False).keys()
    again = io.BytesIO()
    loaded.save(again)
    assert again.getvalue() == path.read_bytes()


def test_empty_bags_give_zero_vectors(codebook):
    empty = dict.fromkeys(codebook.channels, np.empty((0, 12), np.float16))
    for name, vector in codebook.encode(empty, np.empty((0, 3), np.float32)).items():
        assert vector.shape == (codebook.channels[name].size,)
        assert not vector.any()


def test_bags_that_do_not_fit(codebook):
    with pytest.raises(ParameterError, match=r"bag has 11 columns: 12 are needed, as many as were learnt from"):
        codebook.channels["hog"].encode(HISTOGRAMS[1][:, 1:])
    with pytest.raises(ParameterError, match="has a pyramid, which needs the position"):
        codebook.encode(bags())


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
    (lambda meta, parts: meta.update(format=FORMAT + 1), f"of format {FORMAT + 1}; this version reads format {FORMAT}"),
    (lambda meta, parts: parts.pop("hog.pca.mean_"), "does not fit together .*hog.pca.mean_"),
    (lambda meta, parts: parts.update({"hog.codebook.means_": parts["hog.codebook.means_"][:, 1:]}),
     "does not fit together .the shapes of hog.codebook contradict each other"),
    (lambda meta, parts: parts["hof.codebook.centres_"].fill(np.nan), "hof.codebook.centres_ are not finite"),
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
