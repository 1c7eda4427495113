"""Decoding: the same grey as OpenCV's reader, honest counts and times, one clear sentence for what cannot be read."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from idt.errors import ParameterError, VideoError
from idt.video import count_frames, frames, identity

CLIPS = ["bikes_320x240_80.avi", "carphone_176x144.mp4", "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi",
         "person01_boxing_d1_uncomp.avi", "v_Bowling_g01_c01.avi"]
AWKWARD = ["gray8_ffv1.mkv", "name with spaces ünï.mp4", "odd_161x121.avi", "portrait_240x320.mp4", "rotated_90.mp4",
           "tenbit_h264.mp4", "tiny_16x16.mp4", "truncated_half.avi", "vfr.mp4", "vp9.webm"]


def pictures(count: int = 6, height: int = 24, width: int = 32) -> np.ndarray:
    """(T, H, W, 3) uint8, RGB: smooth noise, another one in every frame."""
    noise = np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)
    return np.stack([cv2.GaussianBlur(n, (0, 0), 2) for n in noise])


def write_video(path: Path, rgb: np.ndarray, codec: str = "ffv1", format: str = "yuv420p",
                ticks: list[int] | None = None) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = rgb.shape[1:3]
        stream.pix_fmt = format
        for index, picture in enumerate(rgb):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = ticks[index] if ticks else index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def blank(path: Path, *numbers: int) -> None:
    """Fill the given video packets of an AVI file with zeros."""
    content = bytearray(path.read_bytes())
    chunks = re.compile(b"00dc").finditer(bytes(content), content.index(b"movi"), content.index(b"idx1"))
    for number, chunk in enumerate(chunks):
        size = int.from_bytes(content[chunk.end():chunk.end() + 4], "little")
        if number in numbers:
            content[chunk.end() + 4:chunk.end() + 4 + size] = bytes(size)
    path.write_bytes(content)


def test_text_in_the_file_that_is_not_unicode_is_of_no_interest(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a cafe in Paris"
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuvj420p"
        for picture in pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert content.count(b"cafe") == 1
    path.write_bytes(content.replace(b"cafe", b"caf\xe9"))  # Latin-1
    assert count_frames(path) == 6


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mkv", pictures())


def greys(*args: object, **kwargs: object) -> list[np.ndarray]:
    return [frame.grey for frame in frames(*args, **kwargs)]


# --- equality -------------------------------------------------------------------------------------------------------

# Versions of FFmpeg treat odd heights and more than 8 bits differently, and OpenCV may bring another one than PyAV.
SWSCALE = f"swscale: +YES \\({av.library_versions['libswscale'][0]}\\."
DEPEND_ON_VERSION = set() if re.search(SWSCALE, cv2.getBuildInformation()) else {"odd_161x121.avi", "tenbit_h264.mp4"}


@pytest.mark.parametrize("name", [f"clips/{n}" for n in CLIPS] + [f"awkward/{n}" for n in AWKWARD])
def test_grey_equals_opencv_byte_for_byte(data: Path, name: str) -> None:
    allowed = 1.0 if Path(name).name in DEPEND_ON_VERSION else 0.0  # mean, in grey levels
    reference = cv2.VideoCapture(str(data / name))
    reader = frames(data / name)
    for index, frame in enumerate(reader):
        ok, bgr = reference.read()
        assert ok
        assert frame.index == index
        assert frame.grey.flags.c_contiguous
        assert cv2.absdiff(frame.grey, cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)).mean() <= allowed
    assert not reference.read()[0]
    assert reader.decoded == index + 1
    assert (reader.height, reader.width) == frame.grey.shape


@pytest.mark.parametrize(("codec", "format", "size"), [
    ("ffv1", "yuv420p", (239, 320)), ("ffv1", "yuv420p", (240, 319)), ("ffv1", "yuv444p", (48, 64)),
    ("ffv1", "bgr0", (48, 64)), ("ffv1", "yuv422p10le", (48, 64)), ("mjpeg", "yuvj420p", (48, 64))])
def test_grey_equals_opencv_whatever_the_format(tmp_path: Path, codec: str, format: str, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "x.mkv", pictures(3, *size), codec, format)
    reference = cv2.VideoCapture(str(path))
    for frame in frames(path):
        np.testing.assert_array_equal(frame.grey, cv2.cvtColor(reference.read()[1], cv2.COLOR_BGR2GRAY))


def test_colour_on_request(clip: Path) -> None:
    reference = cv2.VideoCapture(str(clip))
    for frame, plain in zip(frames(clip, colour=True), frames(clip), strict=True):
        np.testing.assert_array_equal(frame.bgr, reference.read()[1])
        np.testing.assert_array_equal(frame.grey, plain.grey)
        assert plain.bgr is None


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_change_nothing_even_in_damaged_frames(data: Path, threads: int) -> None:
    path = data / "awkward/corrupt_bytes.avi"
    for one, many in zip(frames(path, end=120), frames(path, end=120, threads=threads), strict=True):
        np.testing.assert_array_equal(one.grey, many.grey)


# --- counts, times, damage -----------------------------------------------------------------------------------------

def test_frame_rate_and_promised_total(data: Path) -> None:
    reader = frames(data / "clips/person01_boxing_d1_uncomp.avi")
    assert (reader.fps, reader.total, reader.width, reader.decoded) == (25.0, 360, None, 0)
    assert frames(data / "awkward/vp9.webm").total == 60  # from the duration: its header has no count


def test_header_count_is_not_trusted(data: Path) -> None:
    path = data / "clips/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi"
    assert frames(path).total == 84
    assert count_frames(path) == 83


def test_times_of_an_avi_with_b_frames_run_evenly(data: Path) -> None:
    times = [frame.time_s for frame in frames(data / "clips/v_Bowling_g01_c01.avi")]
    np.testing.assert_allclose(times, np.arange(159) / 25, atol=1e-9)


def test_times_of_a_variable_rate_are_the_stamps(tmp_path: Path, data: Path) -> None:
    # The stamps are in units of 1/25 s; the first one is not 0, as after a cut.
    path = write_video(tmp_path / "vfr.mkv", pictures(4), ticks=[10, 11, 20, 21])
    times = [frame.time_s for frame in frames(path)]
    np.testing.assert_allclose(times, [0, 0.04, 0.4, 0.44], atol=1e-9)
    steps = np.diff([frame.time_s for frame in frames(data / "awkward/vfr.mp4")])
    assert steps.min() > 0
    assert steps.max() > 2 * steps.min()


def test_damaged_frames_are_used_and_counted(data: Path) -> None:
    reader = frames(data / "awkward/corrupt_bytes.avi")
    assert sum(1 for _ in reader) == reader.decoded == 240
    assert 20 <= reader.damaged <= 60
    reader = frames(data / "awkward/truncated_half.avi")
    assert sum(1 for _ in reader) == 121
    assert (reader.damaged, reader.total) == (1, 240)


def test_undamaged_video_has_no_damage(clip: Path) -> None:
    with frames(clip) as reader:
        assert len(list(reader)) == 6
    assert reader.damaged == 0


def test_packets_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.avi", pictures(8), "mjpeg", "yuvj420p")
    blank(path, 2)
    reader = frames(path)
    assert len(list(reader)) == 7
    assert reader.damaged == 1


def test_change_of_size_names_frame_and_sizes(data: Path) -> None:
    reader = frames(data / "awkward/resolution_change.ts")
    with pytest.raises(VideoError, match=r"resolution_change\.ts: frame 29 is 160x120 pixels, but the frames before it "
                                         r"are 320x240"):
        list(reader)
    assert len(greys(data / "awkward/resolution_change.ts", end=28)) == 29


# --- range and resize ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("start", "end", "step", "indices", "decoded"), [
    (0, None, 1, [0, 1, 2, 3, 4, 5], 6), (2, None, 1, [2, 3, 4, 5], 6), (1, 3, 1, [1, 2, 3], 4),
    (1, None, 2, [1, 3, 5], 6), (0, 4, 3, [0, 3], 5), (0, 0, 1, [0], 1), (3, 100, 1, [3, 4, 5], 6),
    (6, None, 1, [], 6)])
def test_range(clip: Path, start: int, end: int | None, step: int, indices: list[int], decoded: int) -> None:
    whole = greys(clip)
    reader = frames(clip, start=start, end=end, step=step)
    chosen = list(reader)
    assert [frame.index for frame in chosen] == indices
    assert reader.decoded == decoded
    for frame in chosen:
        assert frame.time_s == pytest.approx(frame.index / 25)
        np.testing.assert_array_equal(frame.grey, whole[frame.index])


@pytest.mark.parametrize(("short_side", "size", "method"), [
    (12, (12, 16), cv2.INTER_AREA), (36, (36, 48), cv2.INTER_LINEAR), (24, (24, 32), None),
    (7, (7, 9), cv2.INTER_AREA)])
def test_short_side(clip: Path, short_side: int, size: tuple[int, int], method: int | None) -> None:
    reader = frames(clip, short_side=short_side, colour=True)
    for frame, whole in zip(reader, greys(clip), strict=True):
        expected = whole if method is None else cv2.resize(whole, size[::-1], interpolation=method)
        np.testing.assert_array_equal(frame.grey, expected)
        assert frame.bgr.shape == (*size, 3)
    assert (reader.height, reader.width) == size
    assert reader.scale == (size[1] / 32, size[0] / 24)


def test_short_side_of_a_portrait(data: Path) -> None:
    assert greys(data / "awkward/rotated_90.mp4", end=0, short_side=120)[0].shape == (160, 120)


@pytest.mark.parametrize(("name", "value", "low"), [("start", -1, 0), ("step", 0, 1), ("short_side", 0, 1),
                                                    ("threads", 0, 1)])
def test_numbers_out_of_limits(clip: Path, name: str, value: int, low: int) -> None:
    with pytest.raises(ParameterError, match=f"^{name} is {value}: it must be at least {low}.$"):
        frames(clip, **{name: value})


def test_end_before_start(clip: Path) -> None:
    with pytest.raises(ParameterError, match=r"^end is 2: it must be at least 3\.$"):
        frames(clip, start=3, end=2)


def test_closed_reader_ends(clip: Path) -> None:
    reader = frames(clip)
    next(reader)
    reader.close()
    assert list(reader) == []


# --- names ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["with space.mkv", "ünï 視.mkv", "-i.mkv", "a:b.mkv", "http:x.mkv", "a?b[1]*.mkv",
                                  "%03d.mkv", "new\nline.mkv", os.fsdecode(b"caf\xe9.mkv"), "clip", "x.m3u8"])
def test_any_file_name(clip: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip.parent)
    shutil.copy(clip, name)
    assert count_frames(name) == 6
    assert identity(name)["name"] == name


# --- image folders and globs ---------------------------------------------------------------------------------------

def write_images(folder: Path, rgb: np.ndarray, name: str = "frame{}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(rgb):
        folder.joinpath(name.format(index)).write_bytes(cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())
    return folder


def test_image_folder_in_natural_order(tmp_path: Path) -> None:
    rgb = pictures(12)
    folder = write_images(tmp_path / "ünï", rgb)
    (folder / "notes.txt").write_text("not an image")
    (folder / "._frame0.png").write_bytes(b"what some systems leave behind")
    reader = frames(folder)
    assert (reader.fps, reader.total) == (None, 12)
    for index, frame in enumerate(reader):
        np.testing.assert_array_equal(frame.grey, cv2.cvtColor(rgb[index], cv2.COLOR_RGB2GRAY))
        assert math.isnan(frame.time_s)
    assert count_frames(folder) == reader.decoded == 12


def test_image_glob(tmp_path: Path) -> None:
    rgb = pictures(11)
    write_images(tmp_path, rgb, "a{}.png")
    write_images(tmp_path, rgb[:3], "b{}.png")
    chosen = greys(str(tmp_path / "a*"))
    assert len(chosen) == 11
    np.testing.assert_array_equal(chosen[10], cv2.cvtColor(rgb[10], cv2.COLOR_RGB2GRAY))


def test_a_single_image_is_one_frame(tmp_path: Path) -> None:
    write_images(tmp_path, pictures(1))
    assert count_frames(tmp_path / "frame0.png") == 1


def test_skipped_images_are_not_read(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "x", pictures(4))
    (folder / "frame1.png").write_bytes(b"broken")
    assert len(greys(folder, step=2)) == 2
    with pytest.raises(VideoError, match=r"frame1\.png: not an image that can be read\.$"):
        greys(folder)


def test_empty_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(VideoError, match=r"a\.png: not an image that can be read\.$"):
        greys(tmp_path)


def test_image_of_another_size(tmp_path: Path) -> None:
    write_images(tmp_path, pictures(3))
    write_images(tmp_path, pictures(1, 20, 20), "frame3.png")
    with pytest.raises(VideoError, match="frame 3 is 20x20 pixels, but the frames before it are 32x24"):
        greys(tmp_path)


# --- arrays --------------------------------------------------------------------------------------------------------

def test_arrays() -> None:
    rgb = pictures()
    reader = frames(rgb, colour=True)
    assert (reader.fps, reader.total) == (None, 6)
    for index, frame in enumerate(reader):
        np.testing.assert_array_equal(frame.grey, cv2.cvtColor(rgb[index], cv2.COLOR_RGB2GRAY))
        np.testing.assert_array_equal(frame.bgr, rgb[index, :, :, ::-1])
        assert math.isnan(frame.time_s)
    grey = np.asfortranarray(rgb[..., 0])
    for index, frame in enumerate(frames(grey, colour=True)):
        assert frame.grey.flags.c_contiguous
        np.testing.assert_array_equal(frame.grey, grey[index])
        np.testing.assert_array_equal(frame.bgr, np.repeat(grey[index][..., None], 3, axis=2))
    assert count_frames(grey) == 6


@pytest.mark.parametrize(("array", "message"), [
    (np.zeros((3, 4, 4)), r"type float64 and shape \(3, 4, 4\): give uint8"),
    (np.zeros((4, 4), np.uint8), r"shape \(4, 4\): give uint8 of shape \(T, H, W\)"),
    (np.zeros((3, 4, 4, 4), np.uint8), r"shape \(3, 4, 4, 4\): give uint8"),
    (np.zeros((0, 4, 4), np.uint8), r"shape \(0, 4, 4\): there is no frame in it")])
def test_wrong_arrays(array: np.ndarray, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        frames(array)


# --- what cannot be read -------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "message"), [
    ("audio_only.mp4", r"there is no video in it \(streams: audio\)"),
    ("garbage.mp4", "not a video, or cut off or damaged"),
    ("text_file.avi", "not a video, or cut off or damaged"),
    ("truncated_header_300b.avi", "not a video, or cut off or damaged"),
    ("truncated_no_moov.mp4", "not a video, or cut off or damaged"),
    ("zero_byte.mp4", "the file is empty"),
    ("zero_frames.mp4", "there is no video in it")])
def test_files_that_are_no_video(data: Path, name: str, message: str) -> None:
    for use in (frames, count_frames):
        with pytest.raises(VideoError, match=f"{name}: {message}"):
            use(data / "awkward" / name)


def test_no_frame_in_the_stream(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.avi", pictures(4), "mjpeg", "yuvj420p")
    blank(path, 0, 1, 2, 3)
    for use in (greys, count_frames):
        with pytest.raises(VideoError, match=r"x\.avi: no frame could be decoded\.$"):
            use(path)


def test_no_decoder(clip: Path) -> None:
    clip.write_bytes(clip.read_bytes().replace(b"V_MS/VFW/FOURCC", b"V_NO/SUCH/CODEC").replace(b"V_FFV1", b"V_NONE"))
    with pytest.raises(VideoError, match="there is no decoder for its video format"):
        frames(clip)


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/a.ts", "/etc/hostname"])
def test_a_playlist_opens_nothing(tmp_path: Path, target: str) -> None:
    path = tmp_path / "list.avi"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError, match=r"list\.avi: not a video"):
        frames(path)


def test_missing_and_odd_paths(tmp_path: Path, clip: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    os.mkfifo(tmp_path / "pipe")
    for source, message in [(tmp_path / "no.avi", r"no\.avi: there is no such file or folder"),
                            (clip / "below", "below: there is no such file or folder"),
                            (empty, "empty: the folder has no images; give a video file or a folder of images"),
                            (tmp_path / "*.png", r"\*\.png: no image matches"),
                            (tmp_path / "*.mkv", r"\*\.mkv: no image matches"),
                            (tmp_path / "pipe", "pipe: not a file or folder"),
                            (tmp_path / ("x" * 5000), "cannot be read|no such file"),
                            (7, "A video cannot be read from int: give a path or a NumPy array")]:
        for use in (frames, count_frames, identity):
            with pytest.raises(VideoError, match=message):
                use(source)


# --- identity ------------------------------------------------------------------------------------------------------

def test_identity_of_a_file(clip: Path) -> None:
    stat = clip.stat()
    expected = {"name": "clip.mkv", "size": stat.st_size, "mtime_ns": stat.st_mtime_ns,
                "sha256": hashlib.sha256(clip.read_bytes()).hexdigest()}
    assert identity(clip) == expected
    assert identity(str(clip), content=False) == expected | {"sha256": None}


def test_identity_of_a_folder_covers_names_contents_and_order(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "a", pictures(3))
    first = identity(folder)
    assert first["name"] == "a"
    assert first["size"] == sum(p.stat().st_size for p in folder.iterdir())
    assert first["mtime_ns"] == max(p.stat().st_mtime_ns for p in folder.iterdir())
    assert identity(shutil.copytree(folder, tmp_path / "b"))["sha256"] == first["sha256"]
    (folder / "frame2.png").rename(folder / "frame3.png")
    renamed = identity(folder)["sha256"]
    (folder / "frame3.png").write_bytes(b"other")
    assert len({first["sha256"], renamed, identity(folder)["sha256"]}) == 3


def test_identity_of_an_array() -> None:
    array = pictures()[..., 0]
    whole = identity(array)
    assert (whole["name"], whole["size"], whole["mtime_ns"]) == ("array", array.size, None)
    assert identity(np.asfortranarray(array)) == whole
    assert identity(array.reshape(6, 32, 24))["sha256"] != whole["sha256"]
    assert identity(array[:5])["sha256"] != whole["sha256"]
    assert identity(array, content=False)["sha256"] is None
