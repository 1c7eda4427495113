"""Awkward files: each is processed, or gives no rows and says why, or is refused in one clear sentence."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import idt
from idt.errors import VideoError
from idt.features.record import Features
from idt.params import Params


@dataclass(frozen=True)
class Rows:
    """It is processed: frames decoded, and how many of these were damaged."""

    decoded: int
    damaged: range = range(1)


@dataclass(frozen=True)
class Nothing:
    """It is processed but has no trajectories: frames decoded, and the reason."""

    decoded: int
    reason: str


@dataclass(frozen=True)
class Refused:
    """It is no video that can be used: how the message goes on after the path."""

    message: str


QUICK = Params(scales=1, stride=8)  # what decodes is the same

NO_VIDEO = Refused("not a video, or cut off or damaged (")  # and what the decoder says
STILL = "still: no track moved enough by itself, and without jumps, to be a trajectory"
SHORT = "too short: {} processed, a trajectory of length 15 needs 16"
SMALL = "too small: the frames are {} pixels, the shorter side must be at least the patch (32)"

OUTCOMES: dict[str, Rows | Nothing | Refused] = {
    "audio_only.mp4": Refused("there is no video in it (streams: audio)."),
    "const_black.mp4": Nothing(50, STILL),
    "corrupt_bytes.avi": Rows(240, range(20, 61)),  # how many, depends on the version of the decoder
    "frames_01.mp4": Nothing(1, SHORT.format("1 frame was")),
    "frames_14.mp4": Nothing(14, SHORT.format("14 frames were")),
    "frames_15.mp4": Nothing(15, SHORT.format("15 frames were")),
    "frames_16.mp4": Rows(16),
    "frames_17.mp4": Rows(17),
    "frozen_still.mp4": Nothing(50, STILL),
    "garbage.mp4": NO_VIDEO,
    "gray8_ffv1.mkv": Rows(60),
    "name with spaces ünï.mp4": Rows(90),
    "odd_161x121.avi": Rows(60),
    "portrait_240x320.mp4": Rows(60),
    "resolution_change.ts": Refused("frame 29 is 160x120 pixels, but the frames before it are 320x240; split the video "
                                    "where its size changes."),
    "rotated_90.mp4": Rows(90),
    "scene_cut.mp4": Rows(58),
    "tenbit_h264.mp4": Rows(60),
    "text_file.avi": NO_VIDEO,
    "tiny_16x16.mp4": Nothing(30, SMALL.format("16x16")),
    "tiny_32x24.mp4": Nothing(30, SMALL.format("32x24")),
    "truncated_half.avi": Rows(121, range(1, 2)),
    "truncated_header_300b.avi": NO_VIDEO,
    "truncated_no_moov.mp4": NO_VIDEO,
    "vfr.mp4": Rows(58),
    "vp9.webm": Rows(60),
    "zero_byte.mp4": Refused("the file is empty."),
    "zero_frames.mp4": Refused("there is no video in it (streams: none)."),
}


def test_every_file_has_an_expected_outcome(data: Path) -> None:
    assert {path.name for path in (data / "awkward").iterdir()} == set(OUTCOMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, outcome in OUTCOMES.items() if isinstance(outcome, Rows)])
def test_what_decodes_is_processed(data: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    expected = OUTCOMES[name]
    assert isinstance(expected, Rows)
    with caplog.at_level(logging.INFO, "idt"):
        features = idt.extract(data / "awkward" / name, QUICK)
    video = features.meta["video"]
    assert video["decoded_frames"] == expected.decoded
    assert video["damaged_frames"] in expected.damaged
    assert len(features) == features.meta["rows"] > 0
    assert features.meta["reason"] is None
    assert all(np.isfinite(array).all() for array in features.arrays().values())
    assert (features.position >= 0).all()
    assert (features.position < 1).all()
    count = video["damaged_frames"]
    damaged = "1 damaged frame was" if count == 1 else f"{count} damaged frames were"
    said = [f"{name}: {damaged} concealed or skipped by the decoder."]
    assert [record.getMessage() for record in caplog.records] == (said if video["damaged_frames"] else [])


@pytest.mark.parametrize("name", [name for name, outcome in OUTCOMES.items() if isinstance(outcome, Nothing)])
def test_no_rows_have_a_reason(data: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path, name: str) -> None:
    expected = OUTCOMES[name]
    assert isinstance(expected, Nothing)
    idt.extract(data / "awkward" / name).save(tmp_path / "none.npz")
    features = Features.load(tmp_path / "none.npz")
    assert len(features) == 0
    assert features.meta["reason"] == expected.reason
    assert features.meta["video"]["decoded_frames"] == len(features.homographies) == expected.decoded
    assert caplog.records == []


@pytest.mark.parametrize("name", [name for name, outcome in OUTCOMES.items() if isinstance(outcome, Refused)])
def test_the_rest_is_refused_in_one_sentence(data: Path, name: str) -> None:
    expected = OUTCOMES[name]
    assert isinstance(expected, Refused)
    with pytest.raises(VideoError) as caught:
        idt.extract(data / "awkward" / name)
    message = str(caught.value)
    assert message.startswith(f"{data / 'awkward' / name}: {expected.message}")
    assert message.endswith(".")
    assert "\n" not in message


def test_a_mixed_folder_at_the_command_line(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    from idt.cli import main

    monkeypatch.chdir(tmp_path)
    good = ["frames_14.mp4", "frames_16.mp4", "truncated_half.avi"]
    bad = ["audio_only.mp4", "garbage.mp4", "resolution_change.ts", "text_file.avi", "zero_byte.mp4"]
    Path("videos").mkdir()
    for name in good + bad:
        shutil.copyfile(data / "awkward" / name, Path("videos", name))

    command = ["extract", "videos", "-o", "features", "--scales", "1", "--stride", "8"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if "compiling the kernels" not in line]
    errors = sorted(line for line in lines if line.startswith("idt: videos/"))
    for line, name in zip(errors, bad, strict=True):
        assert line.startswith(f"idt: videos/{name}: {OUTCOMES[name].message}")
    warning = "idt: warning: truncated_half.avi: 1 damaged frame was concealed or skipped by the decoder."
    assert lines.count(warning) == 1
    short = f"videos/frames_14.mp4: 0 trajectories ({SHORT.format('14 frames were')}), "
    assert any(line.startswith(short) for line in lines)
    assert lines[-1].startswith("3 done, 5 failed; the files are in features (")
    assert len(lines) == len(good) + len(bad) + 2

    assert sorted(path.name for path in Path("features").iterdir()) == sorted(
        ["report.jsonl", *(f"{name}.npz" for name in good)])
    assert [len(Features.load(Path("features", f"{name}.npz"))) > 0 for name in good] == [False, True, True]

    assert main(command) == 1
    assert capsys.readouterr().err.splitlines()[-1] == ("0 done, 3 skipped (done before), 5 failed; the files are in "
                                                        "features")
