"""codebooks: what a codebook remembers of its videos, and what is learnt once and kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_features import random_features

import idt.recognition.codebook_learning
from idt.encoding.bags import one_thread
from idt.encoding.model import Codebook
from idt.errors import FormatError, ParameterError
from idt.params import Params
from idt.recognition.codebook_learning import Learner, learn_codebook, load_codebook
from idt.recognition.vectors import EncodingParams

SMALL = EncodingParams(channels=("trajectory", "hog"), words=3, samples=300)


def video(rows=150, seed=0, **meta):
    features = random_features(rows, seed)
    return replace(features, meta=features.meta | meta)


def test_a_codebook_remembers_the_extraction_its_videos_share():
    strided = {"params": Params(stride=8).to_dict()}
    assert learn_codebook([video(), video(200)], SMALL).meta == {
        "params": SMALL.to_dict(), "videos": 2, "descriptors": 300, "extraction": Params().to_dict()}
    assert learn_codebook([video(120), video(200)], SMALL).meta["descriptors"] == 120 + 150
    assert learn_codebook([video(**strided)], SMALL).meta["extraction"]["stride"] == 8
    assert learn_codebook([video(**strided), video()], SMALL).meta["extraction"] is None
    assert learn_codebook([video(origin="text")], SMALL).meta["extraction"] is None
    assert learn_codebook([replace(video(), meta={})], SMALL).meta["extraction"] is None


def test_a_codebook_whose_extraction_nobody_could_repeat(tmp_path):
    codebook = learn_codebook([video()], SMALL)

    def written(extraction):
        with open(tmp_path / "x.codebook.npz", "wb") as file:
            Codebook(codebook.channels, {"extraction": extraction}).save(file)
        return tmp_path / "x.codebook.npz"

    for sound in (None, Params(stride=8).to_dict()):
        assert load_codebook(written(sound)).meta == {"extraction": sound}
    for extraction, message in (("standard", "it is 'standard'"), ([1], r"it is \[1\]"), (False, "it is False"),
                                ({"stride": "a"}, "stride is 'a': it must be an integer from 1 to 1000"),
                                ({"strides": 5}, "strides is not a parameter; did you mean stride")):
        with pytest.raises(FormatError, match=rf"x\.codebook\.npz: the extraction .* cannot be used .{message}"):
            load_codebook(written(extraction))


def test_channels_are_reported_in_order():
    told = []
    codebook = learn_codebook([video()], SMALL, threads=2, report=lambda name, channel: told.append((name, channel)))
    assert told == list(codebook.channels.items())


def learnt(folder, videos, *encodings):
    """The channels of HOG that a learner of its own makes, and their times."""
    learner = Learner(videos, folder=folder)
    with one_thread():
        return [learner.channel("hog", params) for params in encodings]


VIDEOS = [video(seed=n, key=str(n)) for n in range(2)]
HOG = replace(SMALL, channels=("hog",))


def test_what_channels_share_is_learnt_once(fitted):
    encodings = [HOG, replace(HOG, norm="l2", pyramid=("1x1x1", "1x1x2")), replace(HOG, words=4),
                 replace(HOG, encoder="vlad"), replace(HOG, encoder="bow", norm="l1"), replace(HOG, pca=1.0),
                 replace(HOG, seed=1), replace(HOG, samples=200), replace(HOG, root=True), replace(HOG, whiten=True)]
    found = learnt(None, VIDEOS, *encodings)
    # Words: 3 and 4 Gaussians, centres of both, and five that depend on what comes before them.
    assert fitted == {"PCA": 5, "DiagonalGMM": 7, "KMeans": 1}
    position = np.random.default_rng(0).uniform(0, 1, (150, 3))
    for (channel, seconds), params in zip(found, encodings, strict=True):
        alone = learn_codebook(VIDEOS, params).channels["hog"]
        np.testing.assert_array_equal(channel.encode(VIDEOS[0].hog, position), alone.encode(VIDEOS[0].hog, position))
        assert (channel.norm.get_params(), channel.root) == (alone.norm.get_params(), alone.root)
        assert seconds > 0


def test_what_is_kept_is_not_learnt_again(fitted, tmp_path):
    folder = tmp_path / "deep" / "codebooks"
    encodings = [HOG, replace(HOG, encoder="vlad")]
    first = learnt(folder, VIDEOS, *encodings)
    assert fitted == {"PCA": 1, "DiagonalGMM": 1, "KMeans": 1}
    assert len(list(folder.glob("hog-*.npz"))) == 2
    again = learnt(folder, [replace(one, path="/moved.npz") for one in VIDEOS], *encodings,
                   replace(HOG, encoder="bow", cost=3.0), replace(HOG, norm="none", channels=("hog", "mbhx")))
    assert fitted.total() == 3
    for (channel, seconds), (kept, then) in zip(first, again[:2], strict=True):
        assert channel.encode(VIDEOS[0].hog).tobytes() == kept.encode(VIDEOS[0].hog).tobytes()
        assert seconds == then  # what it takes when nothing is known


@pytest.mark.parametrize("changed", [
    {"videos": VIDEOS[::-1]}, {"videos": VIDEOS[:1]}, {"videos": [VIDEOS[0], video(key="2")]}, {"words": 4},
    {"videos": [VIDEOS[0], video(seed=1, key="1", span={"first": 2, "last": 39, "frames": 38})]}, {"pca": 0.4},
    {"seed": 1}, {"samples": 200}, {"whiten": True}, {"root": True}, {"encoder": "vlad"}])
def test_what_was_learnt_otherwise_is_not_taken(changed, fitted, tmp_path):
    learnt(tmp_path, VIDEOS, HOG)
    before = fitted.total()
    videos = changed.pop("videos", VIDEOS)
    learnt(tmp_path, videos, replace(HOG, **changed))
    assert fitted.total() == before + 2
    assert len(list(tmp_path.iterdir())) == 2


def test_another_version_learns_anew(fitted, tmp_path, monkeypatch):
    learnt(tmp_path, VIDEOS, HOG)
    monkeypatch.setattr(idt.recognition.codebook_learning, "__version__", "99")
    learnt(tmp_path, VIDEOS, HOG)
    assert fitted["PCA"] == 2


def test_what_is_kept_and_damaged_or_of_another_is_made_again(fitted, tmp_path):
    learnt(tmp_path, VIDEOS, HOG)
    (file,) = tmp_path.iterdir()
    sound = file.read_bytes()
    file.write_bytes(sound[:-200])
    learnt(tmp_path, VIDEOS, HOG)
    assert fitted["PCA"] == 2
    with open(file, "wb") as other:
        Codebook(learn_codebook(VIDEOS, HOG).channels, {"key": "another", "seconds": 1.0}).save(other)
    learnt(tmp_path, VIDEOS, HOG)
    assert fitted["PCA"] == 4
    assert Codebook.load(file).meta["key"] != "another"


def test_features_that_nothing_identifies_are_not_kept(tmp_path):
    learnt(tmp_path / "x", [VIDEOS[0], video(seed=1)], HOG)
    assert not (tmp_path / "x").exists()


def test_nothing_to_learn_from():
    with pytest.raises(ParameterError, match=r"^No training video has a trajectory: there is nothing to learn a "):
        Learner([video(0, key="0")])
    with pytest.raises(ParameterError, match=r"^No training video has a trajectory"):
        learn_codebook([], SMALL)
