"""Optical flow in files."""

from __future__ import annotations

import io
import json
import math
import os
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from random_features import run_limited

from idt.errors import FormatError, ParameterError
from idt.flow.files import (
    FORMATS,
    KINDS,
    PICTURES,
    STACKS,
    Flows,
    dequantise,
    open_flows,
    open_writer,
    quantise,
    read_flo,
    read_kitti,
    stacks,
    write_flo,
    write_kitti,
)

HEIGHT, WIDTH = 24, 40
FOLDERS = [name for name, extensions in FORMATS.items() if extensions]
FILES = [name for name, extensions in FORMATS.items() if not extensions]
HALF = 2.0**-11  # largest relative error of float16


def flow(seed: int = 0, *, height: int = HEIGHT, width: int = WIDTH, largest: float = 19.9) -> np.ndarray:
    """Smooth motion within ±largest, all different for different seeds."""
    field = np.random.default_rng(seed).normal(size=(height, width, 2)).astype(np.float32)
    field = cv2.GaussianBlur(field, (0, 0), 5)
    return field * np.float32(largest / np.abs(field).max())


def picture(seed: int = 0) -> np.ndarray:
    """Blurred BGR noise, whose channels differ."""
    noise = np.random.default_rng(seed).uniform(0, 255, (HEIGHT, WIDTH, 3))
    noise[..., 0] /= 4
    return cv2.GaussianBlur(noise, (0, 0), 4).astype(np.uint8)


def place(tmp_path: Path, format: str, name: str = "out") -> Path:
    """Where a writer of the format may write: an empty folder, or a file that is not there yet."""
    if format in FILES:
        return tmp_path / f"{name}.{format}"
    (tmp_path / name).mkdir()
    return tmp_path / name


def write(path: Path, format: str, *, flows: int = 3, pictures: int = 4, meta: dict[str, Any] | None = None,
          **options: Any) -> Path:
    with open_writer(path, format=format, height=HEIGHT, width=WIDTH, **options) as writer:
        for i in range(flows):
            writer.add("flow", i, flow(i))
        for i in range(pictures):
            writer.add("image", i, picture(i))
        writer.close(meta or {})
    return path


def change_meta(path: Path, **changes: Any) -> None:
    """Change the facts in flow files; None takes one out."""
    def changed(text: str) -> str:
        return json.dumps({k: v for k, v in {**json.loads(text), **changes}.items() if v is not None})

    if path.is_dir():
        (path / "meta.json").write_text(changed((path / "meta.json").read_text()))
    elif path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["meta"] = changed(file.attrs["meta"])
    else:
        with np.load(path) as file:
            arrays = dict(file)
        np.savez(path, **{**arrays, "meta": np.array(changed(str(arrays["meta"])))})


# 8-bit images

def test_quantise_rounds_to_nearest_and_ties_to_even() -> None:
    # With bound 127.5 the number is v + 127.5, so that whole pixels are ties.
    values = np.array([-127.5, -127, -126, -1, 0, 1, 2, 126, 127, 127.5], np.float32)
    expected = [0, 0, 2, 126, 128, 128, 130, 254, 254, 255]
    np.testing.assert_array_equal(quantise(np.stack([values, values], -1)[None], 127.5)[0, :, 0], expected)
    # v = 0.4: 6.375 · 0.4 + 127.5 = 130.05
    assert quantise(np.array([[[0, 0.4]]]), 20).tolist() == [[[128, 130]]]


@pytest.mark.parametrize("bound", [0.5, 15, 20, 32.0, 1000])
def test_quantise_is_the_formula_in_double_precision_but_next_to_ties(bound: float) -> None:
    values = np.random.default_rng(1).uniform(-1.2 * bound, 1.2 * bound, (200, 300, 2)).astype(np.float32)
    exact = 255 * (np.clip(values.astype(float), -bound, bound) + bound) / (2 * bound)
    numbers = quantise(values, bound)
    assert numbers.dtype == np.uint8
    assert np.abs(numbers - exact).max() <= 0.5 + 2e-5  # float32 has 1.5e-5 between 128 and 256
    clear = np.abs(exact % 1 - 0.5) > 2e-5
    np.testing.assert_array_equal(numbers[clear], np.rint(exact)[clear])


@pytest.mark.parametrize("bound", [0.5, 15, 20, 32.0])
def test_dequantise_inverts_up_to_half_a_step(bound: float) -> None:
    values = np.linspace(-bound, bound, 20_000, dtype=np.float32).reshape(100, 100, 2)
    back = dequantise(quantise(values, bound), bound)
    assert back.dtype == np.float32
    assert back.shape == values.shape
    assert np.abs(back - values).max() <= bound / 255 * (1 + 1e-4)
    numbers = np.arange(256, dtype=np.uint8).reshape(8, 16, 2)
    np.testing.assert_array_equal(quantise(dequantise(numbers, bound), bound), numbers)
    assert dequantise(np.uint8([0, 255]), bound).tolist() == [-bound, bound]


def test_quantise_clips_and_takes_any_layout_and_type() -> None:
    assert quantise(np.array([[[-np.inf, np.inf], [-21, 3e38]]]), 20).tolist() == [[[0, 255], [0, 255]]]
    field = flow()
    expected = quantise(field, 20)
    for same in (field.astype(float), np.asfortranarray(field), field.transpose(1, 0, 2).copy().transpose(1, 0, 2)):
        np.testing.assert_array_equal(quantise(same, 20), expected)
    before = field.copy()
    quantise(field, 20)
    np.testing.assert_array_equal(field, before)


def test_quantise_and_dequantise_refuse() -> None:
    hole = flow()
    hole[3, 4, 1] = np.nan
    with pytest.raises(ParameterError, match="flow holds NaN: 8-bit images cannot"):
        quantise(hole, 20)
    for bound in (0, -1, math.nan, math.inf):
        for call in (quantise, dequantise):
            with pytest.raises(ParameterError, match=f"bound is {bound}: it must be a finite number"):
                call(np.zeros((2, 2, 2), np.uint8), bound)
    for shape in ((2, 2), (2, 2, 3), (0, 5, 2)):
        with pytest.raises(ParameterError, match=r"flow has the shape .*: it must be \(H, W, 2\)"):
            quantise(np.zeros(shape), 20)
    with pytest.raises(ParameterError, match="flow is of type complex128"):
        quantise(np.zeros((2, 2, 2), complex), 20)
    with pytest.raises(ParameterError, match="images are of type int64: they must be uint8"):
        dequantise(np.zeros((2, 2), np.int64), 20)


# .flo

def test_flo_has_the_bytes_of_the_format(tmp_path: Path) -> None:
    values = [1.5, -2.25, 0.1, 1e10, 3e-8, -700.0]
    expected = struct.pack("<fii6f", 202021.25, 3, 1, *values)
    field = np.array(values, np.float32).reshape(1, 3, 2)
    write_flo(tmp_path / "a.flo", field)
    assert (tmp_path / "a.flo").read_bytes() == expected
    stream = io.BytesIO()
    write_flo(stream, np.asfortranarray(field.astype(float)))
    assert stream.getvalue() == expected
    back = read_flo(tmp_path / "a.flo")
    assert back.dtype == np.float32
    assert back.flags.writeable
    np.testing.assert_array_equal(back, field)  # the unknown pixel keeps its 1e10


def test_flo_of_middlebury(data: Path, tmp_path: Path) -> None:
    path = data / "flow" / "Grove2" / "flow10.flo"
    field = read_flo(path)
    assert field.shape == (480, 640, 2)
    np.testing.assert_array_equal(field, cv2.readOpticalFlow(str(path)))
    assert 0 < np.abs(field[np.abs(field) < 1e9]).max() < 20
    write_flo(tmp_path / "a.flo", field)
    assert (tmp_path / "a.flo").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is no .flo file: it does not begin with PIEH"),
    (b"HEIP" + bytes(20), "is no .flo file: it does not begin with PIEH"),
    (b"PIEH\1\0", "is cut short within its header"),
    (struct.pack("<4sii", b"PIEH", -3, 2), "says that it is -3x2: both must be at least 1"),
    (struct.pack("<4sii", b"PIEH", 3, 0), "says that it is 3x0: both must be at least 1"),
    (struct.pack("<4sii", b"PIEH", 2**31 - 1, 2**31 - 1), "has 12 bytes where its header, 2147483647x2147483647"),
    (struct.pack("<4sii", b"PIEH", 2, 1) + bytes(15), "has 27 bytes where its header, 2x1, makes 28: it is damaged"),
    (struct.pack("<4sii", b"PIEH", 2, 1) + bytes(17), "has 29 bytes where its header, 2x1, makes 28: it is damaged"),
])
def test_flo_refuses_what_is_damaged(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.flo").write_bytes(content)
    with pytest.raises(FormatError, match=message) as error:
        read_flo(tmp_path / "a.flo")
    assert str(error.value).startswith(str(tmp_path / "a.flo"))


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for read in (read_flo, read_kitti, open_flows):
        with pytest.raises(FormatError, match=r"a\.flo does not exist"):
            read(tmp_path / "a.flo")
    for read in (read_flo, read_kitti):
        with pytest.raises(FormatError, match="cannot be read: Is a directory"):
            read(tmp_path)


# KITTI

def test_kitti_decoded_by_opencv_alone(tmp_path: Path) -> None:
    field = flow(largest=300)
    field[0, 0] = [1 / 128, 3 / 128]  # ties
    field[0, 1] = [-600, 600]
    field[0, 2] = [np.nan, np.inf]
    valid = np.ones(field.shape[:2], bool)
    valid[0, 2] = False
    write_kitti(tmp_path / "a.png", field, valid)
    image = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16
    blue, green, red = cv2.split(image)
    np.testing.assert_array_equal(blue, valid)
    assert [red[0, 0], green[0, 0]] == [32768, 32770]
    assert [red[0, 1], green[0, 1]] == [0, 65535]
    assert image[0, 2].tolist() == [0, 0, 0]
    decoded = (np.dstack([red, green]).astype(float) - 32768) / 64
    assert np.abs(decoded - field)[1:].max() <= 1 / 128
    back, known = read_kitti(tmp_path / "a.png")
    assert back.dtype == np.float32
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_array_equal(back[valid], decoded[valid])
    assert back[0, 2].tolist() == [0, 0]


def test_kitti_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(ParameterError, match="flow holds NaN where it is valid"):
        write_kitti(path, np.full((2, 2, 2), np.nan))
    with pytest.raises(ParameterError, match=r"valid has the shape \(2, 3\) and type bool"):
        write_kitti(path, np.zeros((2, 2, 2)), np.ones((2, 3), bool))
    with pytest.raises(ParameterError, match=r"flow has the shape \(2, 2\)"):
        write_kitti(path, np.zeros((2, 2)))
    assert not path.exists()
    for image in (np.zeros((5, 6), np.uint16), np.zeros((5, 6, 3), np.uint8)):
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        with pytest.raises(FormatError, match="it must be a colour image of 16 bits"):
            read_kitti(path)
    write_kitti(path, flow())
    whole = path.read_bytes()
    for content in (b"", b"abc", whole[:-1], whole[:len(whole) // 2], whole[:12] + whole[-12:]):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"a\.png is damaged or incomplete"):
            read_kitti(path)


# Round trips

def allowed(format: str, field: np.ndarray) -> np.ndarray | float:
    """Largest error in pixels; that of jpg was measured on these fields and rounded up."""
    return {"jpg": 0.6, "png": 20 / 255 + 1e-5, "kitti": 1 / 128, "flo": 0.0}.get(format, np.abs(field) * HALF + 1e-7)


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(tmp_path: Path, format: str) -> None:
    meta = {"pairs": [[0, 1], [1, 2], [2, 3]], "video": {"name": "Übung \udcff.avi"}}
    path = write(place(tmp_path, format), format, meta=meta)
    with open_flows(path) as flows:
        assert flows.counts == {"flow": 3, "image": 4}
        assert flows.kinds == ("flow", "image")
        assert (flows.height, flows.width, len(flows)) == (HEIGHT, WIDTH, 3)
        assert flows.meta["pairs"] == meta["pairs"]
        assert flows.meta["video"] == meta["video"]
        assert flows.meta["encoding"] == format
        assert flows.meta["clipped"] == {}
        for i, back in enumerate(flows):
            assert back.dtype == np.float32
            assert (np.abs(back - flow(i)) <= allowed(format, flow(i))).all()
            np.testing.assert_array_equal(flows[i - 3], back)
            np.testing.assert_array_equal(flows.get("flow", i), back)
        for i in range(4):
            back = flows.get("image", i)
            assert back.dtype == np.uint8
            difference = np.abs(back.astype(int) - picture(i))
            assert difference.mean() <= (2 if format == "jpg" else 0)
        for i in (3, -4):
            with pytest.raises(IndexError, match=f"has 3 arrays of the kind flow: there is no number {i}"):
                flows[i]
        np.testing.assert_array_equal(flows[np.int64(1)], flows[1])
        for i in (slice(2), 1.0):
            with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
                flows[i]
        with pytest.raises(ParameterError, match="has no 'warped': it has flow, image"):
            flows.get("warped", 0)
        assert f"{WIDTH}x{HEIGHT}" in repr(flows)


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_but_facts(tmp_path: Path, format: str) -> None:
    path = write(place(tmp_path, format), format, flows=0, pictures=0, meta={"reason": "one frame"})
    with open_flows(path) as flows:
        assert (len(flows), list(flows), flows.kinds) == (0, [], ())
        assert flows.meta["reason"] == "one frame"
        with pytest.raises(IndexError, match="has no flows"):
            flows[0]
        with pytest.raises(ParameterError, match="has no 'flow': it has nothing"):
            flows.get("flow", 0)


@pytest.mark.parametrize("format", FORMATS)
def test_all_kinds(tmp_path: Path, format: str) -> None:
    path = place(tmp_path, format)
    kinds = [kind for kind in KINDS if format in FILES or kind not in STACKS]
    with open_writer(path, format=format, height=HEIGHT, width=WIDTH) as writer:
        for n, kind in enumerate(reversed(kinds)):
            writer.add(kind, 0, picture(n) if kind in PICTURES else
                       np.concatenate([flow(n), flow(n + 50)], 2) if kind in STACKS else flow(n))
        writer.close({})
    with open_flows(path) as flows:
        assert flows.kinds == tuple(kinds)
        for n, kind in enumerate(reversed(kinds)):
            back = flows.get(kind, 0)
            if kind in PICTURES:
                assert np.abs(back.astype(int) - picture(n)).mean() <= (2 if format == "jpg" else 0)
            else:
                assert (np.abs(back[..., :2] - flow(n)) <= allowed(format, flow(n))).all()
            if kind in STACKS:
                assert back.shape == (HEIGHT, WIDTH, 4)
                assert (np.abs(back[..., 2:] - flow(n + 50)) <= allowed(format, flow(n + 50))).all()


def test_first_kind_is_what_a_sequence_gives(tmp_path: Path) -> None:
    for kind, array in (("warped_backward", flow(3)), ("stack", np.dstack([flow(3), flow(4), flow(5)]))):
        path = tmp_path / f"{kind}.npz"
        with open_writer(path, format="npz", height=HEIGHT, width=WIDTH) as writer:
            writer.add("image", 0, picture())
            writer.add(kind, 0, array)
            writer.close({})
        with open_flows(path) as flows:
            assert len(flows) == 1
            assert (np.abs(flows[0] - array) <= np.abs(array) * HALF + 1e-7).all()


# What is on the disk

@pytest.mark.parametrize(("naming", "first"), [("dense_flow", 1), ("denseflow", 0)])
def test_names(tmp_path: Path, naming: str, first: int) -> None:
    for format, names in {
            "jpg": ["flow_x_{}.jpg", "flow_y_{}.jpg", "back_x_{}.jpg", "back_y_{}.jpg", "warp_x_{}.jpg",
                    "warp_y_{}.jpg", "warpback_x_{}.jpg", "warpback_y_{}.jpg", "img_{}.jpg", "diff_{}.jpg",
                    "colour_{}.jpg"],
            "flo": ["flow_{}.flo", "back_{}.flo", "warp_{}.flo", "warpback_{}.flo", "img_{}.png", "diff_{}.png",
                    "colour_{}.png"],
            "kitti": ["flow_{}.png", "back_{}.png", "warp_{}.png", "warpback_{}.png", "img_{}.png", "diff_{}.png",
                      "colour_{}.png"]}.items():
        path = place(tmp_path, format, format)
        with open_writer(path, format=format, height=HEIGHT, width=WIDTH, naming=naming) as writer:
            for kind in KINDS:
                if kind not in STACKS:
                    for i in range(2):
                        writer.add(kind, i, picture() if kind in PICTURES else flow())
            writer.close({})
        expected = {name.format(f"{i + first:05d}") for name in names for i in range(2)} | {"meta.json"}
        assert set(os.listdir(path)) == expected
        assert json.loads((path / "meta.json").read_text())["naming"] == naming
        assert len(open_flows(path)) == 2


def test_images_are_what_other_readers_expect(tmp_path: Path) -> None:
    path = write(place(tmp_path, "png"), "png")
    x = cv2.imread(str(path / "flow_x_00002.png"), cv2.IMREAD_UNCHANGED)
    assert x.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(x, quantise(flow(1), 20)[..., 0])
    np.testing.assert_array_equal(cv2.imread(str(path / "flow_y_00002.png"), cv2.IMREAD_UNCHANGED),
                                  quantise(flow(1), 20)[..., 1])
    np.testing.assert_array_equal(cv2.imread(str(path / "img_00004.png")), picture(3))


def test_quality_and_bound_are_used_and_told(tmp_path: Path) -> None:
    sizes = {}
    for quality in (30, 95):
        path = write(place(tmp_path, "jpg", f"q{quality}"), "jpg", quality=quality, bound=32)
        meta = json.loads((path / "meta.json").read_text())
        assert (meta["quality"], meta["bound"], meta["kind"], meta["format"]) == (quality, 32.0, "flow", 1)
        assert (meta["height"], meta["width"], meta["counts"]) == (HEIGHT, WIDTH, {"flow": 3, "image": 4})
        sizes[quality] = (path / "flow_x_00001.jpg").stat().st_size
        assert np.abs(open_flows(path)[0] - flow(0)).mean() < 0.5
    assert sizes[30] < sizes[95]


def test_arrays_without_this_package(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", "npz", meta={"step": 2})
    write(tmp_path / "a.h5", "h5", meta={"step": 2})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as npz, h5py.File(tmp_path / "a.h5") as h5:
        assert set(npz.files) == {"meta", "flow", "image"}
        assert set(h5) == {"flow", "image"}
        assert {**json.loads(str(npz["meta"])), "encoding": "h5"} == json.loads(h5.attrs["meta"])
        for file in (npz, h5):
            assert file["flow"].dtype == np.float16
            assert file["flow"].shape == (3, HEIGHT, WIDTH, 2)
            np.testing.assert_array_equal(file["flow"][:], [flow(i).astype(np.float16) for i in range(3)])
            np.testing.assert_array_equal(file["image"][:], [picture(i)[..., ::-1] for i in range(4)])  # RGB
        assert h5["flow"].chunks == (1, HEIGHT, WIDTH, 2)
        assert (h5["flow"].compression, h5["flow"].shuffle) == ("gzip", True)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("format", FORMATS)
def test_same_input_same_bytes(tmp_path: Path, format: str) -> None:
    one, two = (write(place(tmp_path, format, name), format) for name in ("one", "two"))
    for a, b in zip(sorted(one.iterdir()), sorted(two.iterdir()), strict=True) if one.is_dir() else [(one, two)]:
        assert a.read_bytes() == b.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_values_beyond_the_format_are_counted(tmp_path: Path) -> None:
    field = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    field[0, :3, 0], field[1, :2, 1] = 21, -600
    for format, clipped in {"png": {"flow": 10}, "kitti": {"flow": 4}, "flo": {}, "npz": {}, "h5": {}}.items():
        path = place(tmp_path, format, format)
        with open_writer(path, format=format, height=HEIGHT, width=WIDTH) as writer:
            writer.add("flow", 0, field)
            writer.add("flow", 1, field)
            writer.close({})
        with open_flows(path) as flows:
            assert flows.meta["clipped"] == clipped
            assert flows[0].min() == {"png": -20, "kitti": -512}.get(format, -600)


def test_numbers_beyond_five_digits(tmp_path: Path) -> None:
    writer = open_writer(place(tmp_path, "flo", "long"), format="flo", height=HEIGHT, width=WIDTH)
    writer.add("flow", 99_999, flow())
    assert os.listdir(tmp_path / "long") == ["flow_100000.flo"]
    # Names without leading zeros, in a folder of another program: 10 comes after 9, not after 1.
    for i in range(1, 12):
        for plane, image in zip("xy", cv2.split(quantise(flow(i), 20)), strict=True):
            cv2.imwrite(str(tmp_path / f"flow_{plane}_{i}.png"), image)
    flows = open_flows(tmp_path, bound=20)
    assert len(flows) == 11
    for i in range(11):
        np.testing.assert_array_equal(flows[i], dequantise(quantise(flow(i + 1), 20), 20))


@pytest.mark.parametrize("format", FORMATS)
def test_any_layout_in_memory(tmp_path: Path, format: str) -> None:
    path, twin = (place(tmp_path, format, name) for name in ("views", "copies"))
    arrays = {"flow": flow()[::-1, ::-1], "flow_backward": np.asfortranarray(flow(1)),
              "image": picture()[:, ::-1, ::-1], "difference": np.asfortranarray(picture(1))}
    for out, prepare in ((path, lambda array: array), (twin, np.ascontiguousarray)):
        with open_writer(out, format=format, height=HEIGHT, width=WIDTH) as writer:
            for kind, array in arrays.items():
                writer.add(kind, 0, prepare(array))
            writer.close({})
    with open_flows(path) as views, open_flows(twin) as copies:
        for kind in arrays:
            np.testing.assert_array_equal(views.get(kind, 0), copies.get(kind, 0))
            assert views.get(kind, 0).flags.c_contiguous


# The writer

def test_several_threads_add_at_once(tmp_path: Path) -> None:
    path = place(tmp_path, "png")
    with (open_writer(path, format="png", height=HEIGHT, width=WIDTH, bound=10) as writer,
          ThreadPoolExecutor(8) as pool):
        list(pool.map(lambda i: writer.add("flow", i, flow(i)), reversed(range(64))))
        list(pool.map(lambda i: writer.add("image", i, picture(i)), range(65)))
        writer.close({})
    flows = open_flows(path)
    assert flows.counts == {"flow": 64, "image": 65}
    assert flows.meta["clipped"] == {"flow": sum(int((np.abs(flow(i)) > 10).sum()) for i in range(64))}
    for i in range(64):
        np.testing.assert_array_equal(flows[i], dequantise(quantise(flow(i), 10), 10))
        np.testing.assert_array_equal(flows.get("image", i), picture(i))


@pytest.mark.parametrize("format", ["npz", "h5"])
def test_memory_does_not_grow_with_the_number_of_flows(tmp_path: Path, format: str) -> None:
    def peak(count: int) -> int:
        field = flow(height=240, width=320)
        tracemalloc.start()
        path = tmp_path / f"{count}.{format}"
        with open_writer(path, format=format, height=240, width=320) as writer:
            for i in range(count):
                writer.add("flow", i, field)
            writer.close({})
        with open_flows(path) as flows:
            assert sum(1 for _ in flows) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)  # imports
    few, many = peak(10), peak(60)
    assert many - few < 100_000  # one pair more held would be 307,200 bytes
    assert (tmp_path / f"60.{format}").stat().st_size > 60 * 50_000


def test_writer_refuses_arrays_that_do_not_fit(tmp_path: Path) -> None:
    for format in FORMATS:
        path = place(tmp_path, format, format)
        with open_writer(path, format=format, height=HEIGHT, width=WIDTH) as writer:
            for kind, array, message in (
                    ("flows", flow(), "The kind is 'flows': allowed are flow, flow_backward, "),
                    ("flow", flow(height=25), r"flow has the shape \(25, 40, 2\): it must be \(24, 40, 2\)"),
                    ("flow", flow()[..., 0], r"flow has the shape \(24, 40\)"),
                    ("flow", np.zeros((HEIGHT, WIDTH, 2), np.uint8), "flow is of type uint8: it must be float32"),
                    ("image", flow(), r"image has the shape \(24, 40, 2\): it must be \(24, 40, 3\)"),
                    ("image", picture().astype(float), "image is of type float64: it must be uint8"),
                    ("flow", flow() * np.nan, f"flow holds nan pixels, which {format} cannot: it must be finite"),
                    ("flow", flow() + np.inf, "flow holds inf pixels"),
                    ("flow", flow() - np.inf, "flow holds inf pixels"),
                    ("stack", flow()[..., :1], r"stack has the shape \(24, 40, 1\): it must be \(24, 40, 2 k\)")):
                with pytest.raises(ParameterError, match=message):
                    writer.add(kind, 0, array)
            if format in FOLDERS:
                with pytest.raises(ParameterError, match="stacks are arrays, format npz or h5"):
                    writer.add("stack", 0, np.dstack([flow(), flow()]))
            else:
                writer.add("stack", 0, np.dstack([flow(), flow()]))
                with pytest.raises(ParameterError, match=r"it must be \(24, 40, 4\)"):
                    writer.add("stack", 1, np.dstack([flow(), flow(), flow()]))
                with pytest.raises(ParameterError, match=f"flow holds 70000.0 pixels, which {format} cannot: it must "
                                                         "be finite and at most 65504"):
                    writer.add("flow", 0, np.full((HEIGHT, WIDTH, 2), -7e4, np.float32))


@pytest.mark.parametrize("format", FORMATS)
def test_writer_counts(tmp_path: Path, format: str) -> None:
    with open_writer(place(tmp_path, format), format=format, height=HEIGHT, width=WIDTH) as writer:
        writer.add("flow", 0, flow())
        for number in (0, -1):
            with pytest.raises(ParameterError, match=f"flow has the number {number}: it must be at least 0 and not"):
                writer.add("flow", number, flow())
        if format in FILES:
            with pytest.raises(ParameterError, match="flow number 3 came where 1 was due"):
                writer.add("flow", 3, flow())
        else:
            writer.add("flow", 3, flow())
            with pytest.raises(ParameterError, match="flow number 1 of 4 was not written"):
                writer.close({})


@pytest.mark.parametrize(("meta", "message"), [
    ({"counts": 3}, "meta has the key 'counts', which the writer sets itself"),
    ({"a": {1, 2}}, "cannot be stored as JSON: Object of type set"),
    ({"a": math.nan}, "cannot be stored as JSON: Out of range float"),
])
def test_writer_refuses_meta(tmp_path: Path, meta: dict[str, Any], message: str) -> None:
    for format in FORMATS:
        with (open_writer(place(tmp_path, format, format), format=format, height=HEIGHT, width=WIDTH) as writer,
              pytest.raises(ParameterError, match=message)):
            writer.close(meta)


@pytest.mark.parametrize(("options", "message"), [
    ({"format": "gif"}, "The format is 'gif': allowed are jpg, png, kitti, flo, npz, h5"),
    ({"naming": "tsn"}, "naming is 'tsn': allowed are dense_flow, denseflow"),
    ({"height": 0}, "The size is 40x0: both must be at least 1"),
    ({"quality": 0}, "quality is 0: it must be from 1 to 100"),
    ({"quality": 101}, "quality is 101: it must be from 1 to 100"),
    ({"bound": 0}, "bound is 0: it must be a finite number of pixels above 0"),
    ({"bound": -20.0}, r"bound is -20\.0"),
])
def test_open_writer_refuses(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        open_writer(tmp_path, **{"format": "jpg", "height": HEIGHT, "width": WIDTH, **options})


def test_writer_needs_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="new is no folder: the format jpg needs an existing empty one"):
        open_writer(tmp_path / "new", format="jpg", height=HEIGHT, width=WIDTH)
    (tmp_path / "a").touch()
    with pytest.raises(ParameterError, match="is not empty: flows are written to an empty one"):
        open_writer(tmp_path, format="jpg", height=HEIGHT, width=WIDTH)


def test_image_too_wide_for_jpg(tmp_path: Path) -> None:
    with (open_writer(place(tmp_path, "jpg"), format="jpg", height=1, width=70_000) as writer,
          pytest.raises(ParameterError, match="cannot encode an image of 70000x1 pixels as jpg")):
        writer.add("flow", 0, np.zeros((1, 70_000, 2), np.float32))


def test_h5_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.h5", "h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    message = r"The format h5 needs h5py, which is not installed: pip install densetraj\[h5\]"
    with pytest.raises(ParameterError, match=message):
        open_writer(tmp_path / "b.h5", format="h5", height=HEIGHT, width=WIDTH)
    assert not (tmp_path / "b.h5").exists()
    with pytest.raises(ParameterError, match=message):
        open_flows(tmp_path / "a.h5")


def test_abandoned_writer_leaves_no_open_file(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for format in FORMATS:
        with (pytest.raises(ZeroDivisionError),  # noqa: PT012
              open_writer(place(tmp_path, format, format), format=format, height=HEIGHT, width=WIDTH) as writer):
            writer.add("flow", 0, flow())
            raise ZeroDivisionError
    assert len(os.listdir("/proc/self/fd")) == len(before)


# Disk full

@pytest.mark.parametrize("write_one", [write_flo, write_kitti])
def test_full_disk_under_a_single_field(write_one: Callable[..., None]) -> None:
    with pytest.raises(OSError, match="No space left"):
        write_one("/dev/full", flow())
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "wb") as file:  # noqa: PT012
        write_one(file, flow())
        file.flush()


@pytest.mark.parametrize("format", ["npz", "h5"])
def test_full_disk_under_a_file(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"a.{format}"
    path.symlink_to("/dev/full")
    with (pytest.raises(OSError, match="No space left"),  # noqa: PT012
          open_writer(path, format=format, height=HEIGHT, width=WIDTH) as writer):
        for i in range(200):
            writer.add("flow", i, flow(i))
        writer.close({})


FILL = """
import sys
from pathlib import Path
import numpy as np
from idt.flow.files import open_writer
path, format = Path(sys.argv[1]), sys.argv[2]
field = np.random.default_rng(0).normal(0, 5, (240, 320, 2)).astype(np.float32)
try:
    with open_writer(path, format=format, height=240, width=320) as writer:
        for i in range(20):
            writer.add("flow", i, field)
        writer.close({})
except OSError as exc:
    print(exc.errno, i)
"""


@pytest.mark.parametrize(("format", "limit", "last"), [
    ("jpg", 10_000, 0), ("flo", 10_000, 0), ("npz", 1_000_000, 3), ("h5", 1_000_000, None)])
def test_full_disk_on_the_way(tmp_path: Path, format: str, limit: int, last: int | None) -> None:
    child = run_limited(FILL, place(tmp_path, format), format, limit=limit)
    assert (child.returncode, child.stderr) == (0, "")
    errno, i = child.stdout.split()
    assert errno == "27"  # EFBIG
    assert int(i) < 20
    if last is not None:
        assert int(i) == last


# Reading damage

@pytest.mark.parametrize(("changes", "message"), [
    ({"kind": "features"}, "is of the kind 'features': expected are the flows of a video"),
    ({"kind": None}, "is of the kind None"),
    ({"format": 2}, "has the flow format 2: this version reads format 1"),
    ({"encoding": "gif"}, "encoding is 'gif'"),
    ({"encoding": ["jpg"]}, "is damaged or incomplete"),
    ({"height": None}, "height or width is missing"),
    ({"width": -1}, "height or width is missing"),
    ({"counts": [3]}, r"counts is \[3\]"),
    ({"counts": {"flow": "3"}}, "counts is {'flow': '3'}"),
    ({"counts": {"flow": 4, "image": 4}}, None),
    ({"counts": {"flow": 10**15, "image": 4}}, None),
    ({"counts": {"flow": 2, "image": 4}}, None),
    ({"counts": {"flow": 3, "image": 4, "warped": 1}}, None),
])
@pytest.mark.parametrize("format", FORMATS)
def test_meta_that_does_not_fit(tmp_path: Path, format: str, changes: dict[str, Any], message: str | None) -> None:
    path = write(place(tmp_path, format), format)
    change_meta(path, **changes)
    with pytest.raises(FormatError, match=message or ("damaged" if format in FILES else "incomplete|in an empty folder")
                       ) as error:
        open_flows(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(("changes", "message"), [
    ({"bound": None}, "bound is None"), ({"bound": -1}, "bound is -1"), ({"naming": "x"}, "naming is 'x'"),
    ({"counts": {"stack": 3}}, "naming is 'dense_flow'"), ({"encoding": "npz"}, "expected is a folder")])
def test_meta_of_a_folder_that_does_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(place(tmp_path, "jpg"), "jpg")
    change_meta(path, **changes)
    with pytest.raises(FormatError, match=message):
        open_flows(path)


def test_meta_json_that_is_no_json(tmp_path: Path) -> None:
    path = write(place(tmp_path, "jpg"), "jpg")
    for content in (b"", b"{", b"[]", b"3", b"\xff\xfe"):
        (path / "meta.json").write_bytes(content)
        with pytest.raises(FormatError, match=r"meta\.json is (damaged or incomplete|of the kind None)"):
            open_flows(path)


def test_folder_that_lacks_or_has_too_much(tmp_path: Path) -> None:
    path = write(place(tmp_path, "jpg"), "jpg")
    extra = path / "flow_x_00004.jpg"
    extra.write_bytes(b"")
    with pytest.raises(FormatError, match=r"has 4 files like flow_x_00004\.jpg where there should be 3; make it again"):
        open_flows(path)
    extra.unlink()
    (path / "flow_y_00002.jpg").unlink()
    with pytest.raises(FormatError, match="is incomplete: flow_y_00002 is missing of 3 files of its kind; make it"):
        open_flows(path)


def test_damaged_images(tmp_path: Path) -> None:
    for format in ("jpg", "png", "kitti", "flo"):
        path = write(place(tmp_path, format, format), format)
        victim = sorted(path.glob("flow_*"))[-1]
        whole = victim.read_bytes()
        flows = open_flows(path)
        for content in (b"", whole[:-1], whole[:len(whole) // 2], b"\0" * len(whole)):
            victim.write_bytes(content)
            flows[0]
            with pytest.raises(FormatError, match=f"{victim.name} (is|has) "):
                flows[2]
        victim.unlink()
        with pytest.raises(FormatError, match=f"{victim.name} does not exist"):
            flows[2]


def test_images_of_another_size(tmp_path: Path) -> None:
    path = write(place(tmp_path, "png"), "png")
    for name in ("flow_x_00001.png", "img_00001.png"):
        cv2.imwrite(str(path / name), np.zeros((HEIGHT, WIDTH - 1), np.uint8))
    flows = open_flows(path)
    with pytest.raises(FormatError, match=r"flow_x_00001\.png and flow_y_00001\.png differ in size"):
        flows[0]
    with pytest.raises(FormatError, match=r"img_00001\.png is 39x24, the others 40x24"):
        flows.get("image", 0)


@pytest.mark.parametrize("format", ["npz", "h5"])
def test_truncated_files_of_arrays(tmp_path: Path, format: str) -> None:
    path = write(tmp_path / f"a.{format}", format)
    whole = path.read_bytes()
    for length in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match=rf"a\.{format} (is damaged|cannot be read|holds no flows)"):
            open_flows(path)
    path.write_bytes(whole)
    with open_flows(path) as flows:
        os.truncate(path, len(whole) // 8)
        with pytest.raises(FormatError, match=r"damaged or incomplete|cannot be read|has changed since it was opened"):
            flows[2]


def test_npz_of_others(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, flow=np.zeros((3, HEIGHT, WIDTH, 2), np.float16))
    with pytest.raises(FormatError, match="has no meta: it is not a file of this package"):
        open_flows(path)
    write(path, "npz")
    with np.load(path) as file:
        arrays = dict(file)
    for changed, message in (
            ({"flow": arrays["flow"].astype(np.float32)}, "flow has the shape .* and type float32"),
            ({"flow": arrays["flow"][:, 1:]}, r"flow has the shape \(3, 23, 40, 2\)"),
            ({"flow": np.asfortranarray(arrays["flow"])}, "member flow does not begin like an array"),
            ({"more": np.zeros(3)}, "its arrays are .*more, its meta lists flow, image"),
            ({"flow": np.array([{}], object)}, "is damaged")):
        np.savez(path, **{**arrays, **changed})
        with pytest.raises(FormatError, match=message):
            open_flows(path)
    np.savez_compressed(path, **arrays)
    with pytest.raises(FormatError, match="is compressed"):
        open_flows(path)
    np.savez(path, **arrays, allow_pickle=True)
    np.savez(path, **{**arrays, "meta": np.array([os.getcwd], object)})
    with pytest.raises(FormatError, match=r"member meta has the type '\|O'"):
        open_flows(path)


def test_h5_of_others(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["flow"] = np.zeros((3, HEIGHT, WIDTH, 2), np.float16)
    with pytest.raises(FormatError, match="has no meta: it is not a flow file of this package"):
        open_flows(path)
    write(path, "h5")
    with h5py.File(path, "r+") as file:
        del file["flow"]
        file.create_group("flow")
    with pytest.raises(FormatError, match="is damaged"):
        open_flows(path)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(FormatError, match=r"a\.txt holds no flows of a video: it is no folder, \.npz or \.h5 file"):
        open_flows(tmp_path / "a.txt")
    with pytest.raises(FormatError, match=r"has no meta\.json and no images named like flow_x_00001\.jpg"):
        open_flows(tmp_path)


# Folders of other programs

@pytest.mark.parametrize(("naming", "extension"), [("dense_flow", "jpg"), ("denseflow", "jpg"), ("dense_flow", "png")])
def test_folder_of_another_program(tmp_path: Path, naming: str, extension: str) -> None:
    path = write(place(tmp_path, extension), extension, bound=25, naming=naming)
    expected = [open_flows(path)[i] for i in range(3)]
    (path / "meta.json").unlink()
    with pytest.raises(ParameterError, match=r"has no meta\.json: give the bound .* open_flows\(path, bound=20\)"):
        open_flows(path)
    flows = open_flows(path, bound=25)
    assert flows.counts == {"flow": 3, "image": 4}
    assert (flows.height, flows.width, flows.meta["bound"]) == (HEIGHT, WIDTH, 25)
    np.testing.assert_array_equal(list(flows), expected)
    for name in sorted(path.glob("flow_y_*"))[-1:]:
        name.unlink()
    with pytest.raises(FormatError, match=r"is incomplete: flow_y_0000. is missing of 3 files"):
        open_flows(path, bound=25)
    for name in sorted(path.glob("flow_x_*"))[:2]:
        name.unlink()
    with pytest.raises(FormatError, match=r"the first flow is flow_x_0000.* but numbers begin with 0 or 1|_y_"):
        open_flows(path, bound=25)


def test_bound_that_contradicts(tmp_path: Path) -> None:
    path = write(place(tmp_path, "jpg"), "jpg")
    assert len(open_flows(path, bound=20)) == 3
    with pytest.raises(ParameterError, match=r"bound is 15, but .* was made with 20\.0: leave it out"):
        open_flows(path, bound=15)
    with pytest.raises(ParameterError, match="bound is -1: it must be a finite number"):
        open_flows(path, bound=-1)


# Stacks

def test_stacks() -> None:
    fields = [flow(i) for i in range(7)]
    found = list(stacks(fields, 3))
    assert len(found) == 5
    for i, stack in enumerate(found):
        assert (stack.shape, stack.dtype) == ((HEIGHT, WIDTH, 6), np.float32)
        for j in range(3):
            np.testing.assert_array_equal(stack[..., 2 * j], fields[i + j][..., 0])
            np.testing.assert_array_equal(stack[..., 2 * j + 1], fields[i + j][..., 1])
    every = list(stacks(iter(fields), 3, every=2))
    assert len(every) == 3
    np.testing.assert_array_equal(every, found[::2])
    assert [len(list(stacks(fields, 2, every=n))) for n in (1, 4, 5, 6)] == [6, 2, 2, 1]
    assert list(stacks(fields, 8)) == []
    np.testing.assert_array_equal(list(stacks(fields, 1)), fields)
    for options in ({"k": 0}, {"k": 2, "every": 0}):
        with pytest.raises(ParameterError, match="is 0: it must be at least 1"):
            stacks(fields, **options)


def test_stacks_of_a_file_read_each_flow_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.npz", "npz", flows=6)
    read: list[int] = []
    original = Flows.get
    monkeypatch.setattr(Flows, "get", lambda self, kind, i: (read.append(i), original(self, kind, i))[1])
    with open_flows(path) as flows:
        assert len(list(stacks(flows, 4))) == 3
    assert read == list(range(6))
