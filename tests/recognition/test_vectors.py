"""vectors: videos and windows of them, encoded; their files; what a codebook remembers of its videos."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from random_bags import encoded
from random_features import random_features

import idt.recognition.vectors
from idt._util.npz import kind_of
from idt.encoding.model import FORMAT, Codebook
from idt.errors import FormatError, OutputError, ParameterError
from idt.features.record import Features
from idt.features.text import write_text
from idt.params import Params
from idt.recognition.clip_features import rows_of
from idt.recognition.codebook_learning import learn_codebook
from idt.recognition.datasets import Item
from idt.recognition.vectors import (
    EncodingParams,
    Vectors,
    encode,
    extraction_of,
    made_by,
    other_parameters,
)

SMALL = EncodingParams(channels=("trajectory", "hog"), words=3, samples=300)


def video(rows=150, seed=0, **changes):
    features = random_features(rows, seed, **changes)
    features.position[:, 2] = np.random.default_rng(seed).uniform(0, 1, rows)
    return features


@pytest.fixture(scope="module")
def codebook():
    return learn_codebook([video(seed=1), video(seed=2)], SMALL)


@pytest.fixture(scope="module")
def pyramid():
    return learn_codebook([video(seed=1)], dataclasses.replace(SMALL, encoder="bow", norm="none", pca=1.0,
                                                               pyramid=("1x1x1", "1x1x2")))


def naive_windows(features, codebook, window, stride, first, last):
    """Windows one after the other, each trajectory asked whether its middle frame lies in it."""
    found, start = [], first
    while True:
        end = min(start + window - 1, last)
        rows = [n for n in range(len(features)) if start <= features.frame[n] - 7.5 < end + 1]
        position = features.position[rows].astype(np.float64)
        for i, n in enumerate(rows):
            position[i, 2] = (features.frame[n] - 7.5 - start) / (end + 1 - start)
        bags = {name: getattr(features, name)[rows] for name in codebook.channels}
        found.append((start, end, len(rows), encoded(codebook, bags, position)))
        if end == last:
            return found
        start += stride


@pytest.mark.parametrize(("window", "stride"), [(10, None), (10, 4), (7, 12), (1, 1), (40, 3), (39, 1), (100, 50)])
@pytest.mark.parametrize("which", ["codebook", "pyramid"])
def test_windows_are_those_of_a_loop(which, window, stride, request):
    book, features = request.getfixturevalue(which), video(seed=5)
    found = encode(features, book, window=window, stride=stride)
    expected = naive_windows(features, book, window, stride or window, 0, 39)
    assert found.start.tolist() == [start for start, *_ in expected]
    assert found.end.tolist() == [end for _, end, *_ in expected]
    assert found.count.tolist() == [count for _, _, count, _ in expected]
    assert list(found.channels) == ["trajectory", "hog"]
    for name, rows in found.channels.items():
        np.testing.assert_allclose(rows, [vectors[name] for *_, vectors in expected], rtol=1e-4, atol=1e-6)


def test_windows_begin_at_the_first_processed_frame():
    span = {"first": 12, "last": 39, "frames": 28}
    features = video(meta={**video().meta, "span": span})
    found = encode(features, learn_codebook([features], SMALL), window=10)
    assert (found.start.tolist(), found.end.tolist()) == ([12, 22, 32], [21, 31, 39])
    assert found.count.sum() == ((features.frame - 7.5) >= 12).sum()


def test_windows_of_a_segment_cover_the_segment_alone(codebook):
    whole = video(meta={**video().meta, "video": {"fps": 25.0}})
    segment = rows_of(whole, Item("a.avi", "walk", start_s=0.2, end_s=1.2))
    assert 0 < len(segment) < 150
    found = encode(segment, codebook, window=10)
    assert (found.start.tolist(), found.end.tolist()) == ([5, 15, 25], [14, 24, 30])
    assert found.count.sum() == len(segment)
    assert (encode(segment, codebook).start, encode(segment, codebook).end) == ([5], [30])


def test_windows_side_by_side_share_and_lose_no_trajectory(codebook):
    found = encode(video(), codebook, window=6)
    assert len(found) == 7
    assert found.count.sum() == 150
    assert not found.channels["hog"][found.count == 0].any()
    assert found.count.min() == 0 < np.abs(found.channels["hog"][found.count > 0]).sum(axis=1).min()


def test_the_whole_video_is_one_window(codebook):
    found = encode(video(), codebook)
    assert (found.start.tolist(), found.end.tolist(), found.count.tolist()) == ([0], [39], [150])
    expected = encoded(codebook, {"trajectory": video().trajectory, "hog": video().hog})
    for name, rows in found.channels.items():
        np.testing.assert_array_equal(rows, expected[name][None])


def test_cells_divide_the_time_of_the_window(pyramid):
    found = encode(video(), pyramid, window=10)
    counts = found.channels["hog"].reshape(4, 3, 3).sum(axis=2)  # of the whole and of two halves of each window
    np.testing.assert_array_equal(counts[:, 0], found.count)
    middle = video().frame - 7.5
    halves = [[((middle >= s) & (middle < s + 5)).sum(), ((middle >= s + 5) & (middle < s + 10)).sum()]
              for s in found.start]
    np.testing.assert_array_equal(counts[:, 1:], halves)


@pytest.mark.parametrize("window", [None, 10])
def test_the_number_of_threads_does_not_matter(codebook, window):
    one, three = (encode(video(), codebook, window=window, threads=threads) for threads in (1, 3))
    assert list(one.channels) == list(three.channels)
    assert all(one.channels[name].tobytes() == three.channels[name].tobytes() for name in one.channels)


@pytest.mark.parametrize("window", [None, 10])
def test_a_video_without_trajectories_has_zero_vectors(codebook, window):
    found = encode(random_features(0), codebook, window=window)
    assert len(found) == (1 if window is None else 4)
    assert not found.count.any()
    assert found.channels["hog"].shape == (len(found), codebook.channels["hog"].size)
    assert not any(rows.any() for rows in found.channels.values())


@pytest.mark.parametrize(("options", "message"), [
    ({"window": 0}, r"^window is 0: it must be an integer from 1\.$"),
    ({"window": 2.5}, r"^window is 2\.5: it must be an integer"),
    ({"window": 5, "stride": 0}, r"^stride is 0: it must be an integer from 1\.$"),
    ({"stride": 5}, r"^stride is 5, but there is no window: give the frames of a window, too\.$"),
    ({"threads": 0}, r"^threads is 0: it must be an integer from 1\.$")])
def test_arguments_that_are_not_allowed(codebook, options, message):
    with pytest.raises(ParameterError, match=message):
        encode(video(), codebook, **options)


def test_features_that_do_not_fit(codebook, tmp_path):
    with pytest.raises(ParameterError, match=r"Übung.*: its features have no hog: extract with it"):
        encode(video(hog=None), codebook)
    with pytest.raises(ParameterError, match=r"Übung.*: its features have no cnn: extract with it"):
        encode(video(), Codebook({"cnn": codebook.channels["hog"]}))
    with pytest.raises(ParameterError, match=r"^hog of Übung.* has 95 columns: 96 are needed"):
        encode(video(hog=video().hog[:, 1:]), codebook)
    bad = video()
    bad.hog[77, 5] = np.nan
    bad.save(tmp_path / "bad.npz")
    with pytest.raises(ParameterError, match=r"^hog of .*bad\.npz has a number that is NaN, .* in row 77: leave"):
        encode(Features.load(tmp_path / "bad.npz"), codebook)
    windows = encode(video(), codebook, window=10).count
    order = np.argsort(video().frame, kind="stable")
    assert 77 in order[windows[:2].sum():windows[:3].sum()]
    with pytest.raises(ParameterError, match=r"in row 77: leave"):
        encode(bad, codebook, window=10)


def test_what_makes_features_unlike_others():
    def differing(**changes):
        return other_parameters(extraction_of(video(meta={"params": Params(**changes).to_dict()})), Params().to_dict())

    assert differing() == []
    assert differing(start=3, end=30, descriptors="hog", dtype="float32") == []
    assert differing(stride=8, camera=False) == ["stride 8 instead of 5", "camera False instead of True"]
    assert other_parameters(extraction_of(video(meta={})), Params().to_dict()) == []
    strided = Params(stride=8).to_dict()
    assert other_parameters(extraction_of(video(meta={"params": strided, "origin": "text"})), Params().to_dict()) == []
    assert other_parameters(extraction_of(video(meta={"params": strided})), None) == []


# Files


@pytest.fixture
def vectors(codebook):
    features = video(meta={**video().meta, "key": "0" * 64, "reason": None})
    return dataclasses.replace(encode(features, codebook, window=10, stride=5),
                               meta=made_by(features, "c" * 64, window=10, stride=5))


def test_a_file_holds_plain_arrays_by_name(vectors, tmp_path):
    vectors.save(tmp_path / "walk" / "a.npz")
    with np.load(tmp_path / "walk" / "a.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["count", "end", "hog", "meta", "start", "trajectory"]
        np.testing.assert_array_equal(file["hog"], vectors.channels["hog"])
        assert file["hog"].dtype == np.float32
        np.testing.assert_array_equal(file["start"], [0, 5, 10, 15, 20, 25, 30])
        np.testing.assert_array_equal(file["end"], [9, 14, 19, 24, 29, 34, 39])
        assert file["count"].tolist() == vectors.count.tolist()
        meta = json.loads(str(file["meta"]))
    assert len(meta.pop("key")) == 64
    assert meta == {"kind": "vectors", "format": 1, "package": idt.__version__, "codebook": "c" * 64, "window": 10,
                    "stride": 5, "features": "0" * 64, "video": {"name": "Übung \udcff.avi"}, "rows": 150,
                    "reason": None}


def test_what_is_saved_and_loaded_is_the_same(vectors, tmp_path):
    vectors.save(tmp_path / "a.npz")
    loaded = Vectors.load(tmp_path / "a.npz")
    for name in ("start", "end", "count"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(vectors, name))
        assert getattr(loaded, name).dtype == getattr(vectors, name).dtype
    assert list(loaded.channels) == list(vectors.channels)
    assert loaded.meta == {"kind": "vectors", "format": FORMAT, **vectors.meta}
    loaded.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    dataclasses.replace(vectors, meta={"kind": "features", "format": 9}).save(tmp_path / "c.npz")
    assert kind_of(tmp_path / "a.npz") == kind_of(tmp_path / "c.npz") == "vectors"
    assert Vectors.load(tmp_path / "c.npz").meta == {"kind": "vectors", "format": FORMAT}


def test_the_key_depends_on_all_that_decides_the_numbers_and_on_nothing_else():
    features = video(meta={"key": "0" * 64, "video": {"name": "a.avi"}})
    key = made_by(features, "c", window=10)["key"]
    assert made_by(features, "c", window=10, stride=10)["key"] == key
    moved = dataclasses.replace(features, path="/elsewhere/b.npz", meta={"key": "0" * 64, "video": {"name": "b.avi"}})
    assert made_by(moved, "c", window=10)["key"] == key
    others = {made_by(features, "c")["key"], made_by(features, "d", window=10)["key"],
              made_by(features, "c", window=11)["key"], made_by(features, "c", window=10, stride=9)["key"],
              made_by(video(meta={"key": "1" * 64}), "c", window=10)["key"]}
    assert len(others | {key}) == 6


def test_features_without_a_key_are_known_by_their_file(tmp_path):
    write_text(video(), tmp_path / "a.txt")
    found = made_by(Features.load(tmp_path / "a.txt"), "c")
    assert found["features"] == hashlib.sha256((tmp_path / "a.txt").read_bytes()).hexdigest()
    assert found["video"] is None
    assert made_by(video(), "c")["features"] is None


def test_a_file_that_cannot_be_written(vectors, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/a\.npz cannot be written"):
        vectors.save(tmp_path / "file" / "a.npz")


def test_arrays_that_do_not_fit(vectors):
    with pytest.raises(ParameterError, match=r"^start has the shape \(7,\) and type int64: it must be an array \(7\) "
                                             r"of int32\.$"):
        dataclasses.replace(vectors, start=vectors.start.astype(np.int64))
    with pytest.raises(ParameterError, match=r"^hog has the shape \(6, 288\) .* an array \(7, any\) of float32\.$"):
        dataclasses.replace(vectors, channels={"hog": vectors.channels["hog"][1:]})
    with pytest.raises(ParameterError, match=r"^count has the type list"):
        dataclasses.replace(vectors, count=vectors.count.tolist())


def rewritten(path, change):
    """Change the parts of a file."""
    with np.load(path, allow_pickle=False) as file:
        parts = dict(file)
    meta = json.loads(str(parts["meta"]))
    change(meta, parts)
    np.savez(path, **{**parts, "meta": np.array(json.dumps(meta))})


@pytest.mark.parametrize(("change", "message"), [
    (lambda meta, parts: meta.update(kind="features"), "not a file of vectors but features; give a file that"),
    (lambda meta, parts: meta.update(kind="codebook"), "not a file of vectors but a codebook; give"),
    (lambda meta, parts: meta.update(kind=["vectors"]), "not a file of vectors but"),
    (lambda meta, parts: meta.update(format=2), "a file of vectors of format 2; this version reads format 1"),
    (lambda meta, parts: meta.update(window="10"), "does not fit together .window in its meta is '10'"),
    (lambda meta, parts: meta.update(stride=True), "does not fit together .stride in its meta is True"),
    (lambda meta, parts: meta.update(video=["a.avi"]), "does not fit together .video in its meta is"),
    (lambda meta, parts: meta.update(key=7), "does not fit together .key in its meta is 7"),
    (lambda meta, parts: parts.pop("count"), "does not fit together .'count'"),
    (lambda meta, parts: parts.update(end=parts["end"][1:]), r"does not fit together .end has the shape \(6,\)"),
    (lambda meta, parts: parts.update(count=parts["count"].astype(float)), "count has the shape .7,. and type float64"),
    (lambda meta, parts: parts.update(hog=parts["hog"][1:]), r"hog has the shape \(6, 288\)"),
    (lambda meta, parts: parts.update(hog=parts["hog"].astype(np.float64)), "hog has .* it must be .* of float32"),
    (lambda meta, parts: parts["hog"].__setitem__((3, 4), np.inf), "hog has a number that is NaN or infinite")])
def test_files_that_are_refused(vectors, tmp_path, change, message):
    vectors.save(tmp_path / "a.npz")
    rewritten(tmp_path / "a.npz", change)
    with pytest.raises(FormatError, match=message) as error:
        Vectors.load(tmp_path / "a.npz")
    assert str(error.value).startswith(str(tmp_path / "a.npz"))


def test_objects_are_not_unpickled(vectors, tmp_path):
    vectors.save(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, archive.open("hof.npy", "w") as member:
        np.lib.format.write_array(member, np.array([{}], object), allow_pickle=True)
    with pytest.raises(FormatError, match="allow_pickle=False"):
        Vectors.load(tmp_path / "a.npz")


def test_a_missing_file(tmp_path):
    with pytest.raises(FormatError, match=r"none\.npz: not a file of vectors that can be read "
                                         r"\(No such file or directory\)\.$"):
        Vectors.load(tmp_path / "none.npz")


@pytest.mark.parametrize("text", ["[]", "null", "7", "{", '{"kind": "vectors"}', '"vectors"', "[" * 100_000])
def test_a_meta_of_another_type(vectors, tmp_path, text):
    np.savez(tmp_path / "a.npz", meta=np.array(text), start=vectors.start, end=vectors.end, count=vectors.count)
    with pytest.raises(FormatError):
        Vectors.load(tmp_path / "a.npz")


def test_damaged_files_give_a_format_error_or_the_same_numbers(vectors, tmp_path):
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    vectors.save(path)
    sound = path.read_bytes()
    refused = 0
    for n in range(600):
        damaged = bytearray(sound[:rng.integers(len(sound))] if n % 6 == 0 else sound)
        # Headers and directory, where damage does most, are a small part of the file.
        places = rng.integers(len(damaged), size=1 + n % 3) if n % 2 else [len(damaged) - 1 - rng.integers(700)]
        if n % 6:
            for place in places:
                damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            loaded = Vectors.load(path)
        except FormatError:
            refused += 1
        else:  # a time stamp or the like
            for name, rows in vectors.channels.items():
                np.testing.assert_array_equal(loaded.channels[name], rows)
    assert refused > 300


def test_the_page_in_docs_is_made_from_the_fields():
    page = Path(__file__).parents[2] / "docs" / "encoding-parameters.md"
    assert page.read_text(encoding="utf-8") == idt.recognition.vectors.parameters_page(), (
        "run: python -m idt.recognition.vectors > docs/encoding-parameters.md")
