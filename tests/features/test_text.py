"""The original program's text rows."""

from __future__ import annotations

import dataclasses
import gzip
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from random_features import random_features, run_limited, same

from idt.errors import FormatError, OutputError, ParameterError
from idt.features.record import Features, load_any
from idt.features.text import read_text, write_text
from idt.params import Params


def text_of(features: Features) -> bytes:
    stream = io.BytesIO()
    write_text(features, stream)
    return stream.getvalue()


def line_of(f: Features, row: int) -> str:
    """Return a row as printf prints it, number by number."""
    numbers = [f"{f.frame[row]:d}"]
    for array in (f.mean, f.std, f.length, f.scale, f.position, f.trajectory):
        numbers += [f"{x:.6f}" for x in np.atleast_1d(array[row]).tolist()]
    for array in (f.hog, f.hof, f.mbhx, f.mbhy):
        numbers += [f"{x:.7f}" for x in array[row].tolist()]
    return "".join(number + "\t" for number in numbers) + "\n"


def test_published_file_survives_reading_and_writing(data: Path) -> None:
    path = data / "golden" / "person01_boxing_d1.original.gz"
    features = Features.load(path)
    assert len(features) == 2001
    assert [features.trajectory.shape[1], features.hog.shape[1], features.hof.shape[1], features.mbhx.shape[1],
            features.mbhy.shape[1]] == [30, 96, 108, 96, 96]
    assert text_of(features) == gzip.decompress(path.read_bytes())


def test_published_file_survives_the_features_file(data: Path, tmp_path: Path) -> None:
    features = Features.load(data / "golden" / "person01_boxing_d1.original.gz")
    features.save(tmp_path / "a.npz")
    loaded = Features.load(tmp_path / "a.npz")
    same(loaded, features)
    assert loaded.meta == features.meta
    assert (loaded.points, loaded.homographies, loaded.meta["video"], loaded.meta["key"]) == (None, None, None, None)
    assert np.isnan(loaded.time).all()
    assert loaded.meta["origin"] == "text"
    assert loaded.meta["params"]["dtype"] == "float32"


@pytest.mark.parametrize(("name", "params"), [
    ("length20_temporal2", Params(length=20, temporal_cells=2)),
    ("stride8_patch24_spatial3", Params(stride=8, patch=24, spatial_cells=3))])
def test_other_parameters(data: Path, tmp_path: Path, name: str, params: Params) -> None:
    features = load_any(data / "golden" / f"person01_boxing_d1_uncomp.{name}.npz")
    write_text(features, tmp_path / "a.txt")
    read = Features.load(tmp_path / "a.txt", params)
    assert text_of(read) == text_of(features)
    assert read.mbhy.shape == features.mbhy.shape
    with pytest.raises(FormatError, match=r"a\.txt, line 1: \d+ numbers, expected are 436 for length 15, 2 spatial and "
                                          "3 temporal cells; give the parameters"):
        Features.load(tmp_path / "a.txt")


def test_digits_are_those_of_printf() -> None:
    features = random_features(300, position=np.zeros((300, 3), np.float32))
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 0x3F800000, (300, 96), dtype=np.int64).astype(np.uint32)  # any float32 from 0 to 1
    # 10**7 k / 256 ends in one half for odd k: exactly between two texts, where printf chooses the even digit.
    hog = bits.view(np.float32).copy()
    hog[:, ::10] = rng.integers(0, 256, hog[:, ::10].shape) / np.float32(256)
    features = dataclasses.replace(features, hog=hog, mbhx=hog[::-1].astype(np.float16))
    assert (hog[:, ::10].astype(np.float64) * 1e7 % 1 == 0.5).sum() > 100
    assert text_of(features).decode() == "".join(line_of(features, row) for row in range(300))


@pytest.mark.parametrize("value", [-0.0, -1e-9, -3.25, 9.9999999, 123456.7, np.nan, np.inf])
def test_digits_of_unusual_values(value: float) -> None:
    features = random_features(3, hog=np.zeros((3, 96), np.float32))
    features.hog[1, 5] = value
    features.trajectory[2, 3] = value
    assert text_of(features).decode() == "".join(line_of(features, row) for row in range(3))


def test_streams_and_paths_get_the_same_text(tmp_path: Path) -> None:
    features = random_features(1500)
    expected = text_of(features)
    stream = io.StringIO()
    write_text(features, stream)
    assert stream.getvalue().encode() == expected
    write_text(features, tmp_path / "new" / "a.features")
    assert (tmp_path / "new" / "a.features").read_bytes() == expected
    write_text(features, str(tmp_path / "a.gz"))
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == expected
    assert sorted(os.listdir(tmp_path)) == ["a.gz", "new"]
    assert expected.count(b"\n") == 1500
    assert all(line.count(b"\t") == 436 and line.endswith(b"\t") for line in expected.splitlines())


def test_gzip_does_not_tell_when_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = random_features(10)
    write_text(features, tmp_path / "a.gz")
    clock = time.time() + 1e8
    monkeypatch.setattr(time, "time", lambda: clock)
    write_text(features, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_no_rows(tmp_path: Path) -> None:
    write_text(random_features(0), tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b""
    features = Features.load(tmp_path / "a.txt")
    assert len(features) == 0
    assert features.hof.shape == (0, 108)
    assert features.meta["rows"] == 0


def test_missing_descriptors_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="these features have no hog, mbhy: extract with all of them"):
        write_text(random_features(5, hog=None, mbhy=None), tmp_path / "a.txt")
    assert os.listdir(tmp_path) == []


def test_blank_lines_count_but_do_not_matter(tmp_path: Path) -> None:
    lines = text_of(random_features(3)).splitlines(keepends=True)
    (tmp_path / "a.txt").write_bytes(b"\n" + lines[0] + b"  \n" + lines[1] + lines[2].rstrip())
    assert len(read_text(tmp_path / "a.txt")) == 3
    (tmp_path / "a.txt").write_bytes(b"\n" + lines[0] + b"  \n" + lines[1][:-12])
    with pytest.raises(FormatError, match=r"a\.txt, line 4: 435 numbers, expected are 436"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize(("old", "new", "message"), [
    (b"\t", b"\tx", "line 2: could not convert string to float: 'x"),
    (b"", b"-", "line 2: the frame is -"), (b"", b"1.5", "line 2: the frame is 1.5"),
    (b"", b"nan\t", "line 2: 437 numbers"), (b"\t", b"\t\xff", "line 2: .* expected are 436 numbers")])
def test_lines_that_are_wrong_are_named(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    lines = text_of(random_features(3)).splitlines(keepends=True)
    lines[1] = lines[1].replace(old, new, 1)
    (tmp_path / "a.txt").write_bytes(b"".join(lines))
    with pytest.raises(FormatError, match=rf"a\.txt, {message}"):
        read_text(tmp_path / "a.txt")


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    write_text(random_features(50), tmp_path / "a.gz")
    content = (tmp_path / "a.gz").read_bytes()
    for bad in (content[:-100], content[:1000] + b"\0" * 50 + content[1050:], content[:5]):
        (tmp_path / "a.gz").write_bytes(bad)
        with pytest.raises(FormatError, match=r"a\.gz cannot be read: "):
            Features.load(tmp_path / "a.gz")
    for name, message in (("none.txt", "does not exist"), ("a.gz/x", "does not exist"), (".", "Is a directory")):
        with pytest.raises(FormatError, match=message):
            read_text(tmp_path / name)


def test_full_disk(tmp_path: Path) -> None:
    features = random_features(500)
    with open("/dev/full", "wb") as stream, pytest.raises(OSError, match="No space left on device"):
        write_text(features, stream)
    with pytest.raises(OutputError, match=r"^/dev/full cannot be written: it is not a plain file"):
        write_text(features, "/dev/full")
    code = ("import os, sys; sys.path.insert(0, sys.argv[2])\n"
            "from random_features import random_features\nfrom idt.errors import OutputError\n"
            "from idt.features.text import write_text\n"
            "try: write_text(random_features(500), sys.argv[1])\n"
            "except OutputError as exc: print(exc)\n"
            "print(os.listdir(os.path.dirname(sys.argv[1])))\n")
    for name in ("a.txt", "a.gz"):
        result = run_limited(code, tmp_path / name, Path(__file__).parents[1], limit=100_000)
        assert result.stdout == f"{tmp_path / name} cannot be written: File too large.\n[]\n"
        assert result.stderr == ""
