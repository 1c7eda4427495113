"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

import pytest

from idt._util.files import remove_leftovers, replacing, replacing_folder, scratch_beside
from idt.errors import OutputError


def test_file_appears_at_the_end_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out.bin"
    with replacing(path) as file:
        file.write(b"abc")
        assert not path.exists()
        assert Path(file.name).parent == path.parent
        assert Path(file.name).name.startswith(".idt-")
    assert path.read_bytes() == b"abc"
    assert os.listdir(path.parent) == ["out.bin"]


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with replacing(tmp_path / "out"):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:
        raise error(file.write(b"new"))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_long_names_work_up_to_the_limit_of_the_file_system(tmp_path: Path) -> None:
    with replacing(tmp_path / ("n" * 255)):
        pass
    with pytest.raises(OutputError, match=r"nnn cannot be written: File name too long\.$"), \
            replacing(tmp_path / ("n" * 256)):
        pass
    assert os.listdir(tmp_path) == ["n" * 255]


def test_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "out")
    with replacing(tmp_path / "link") as file:
        file.write(b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "out").read_bytes() == b"x"


@pytest.mark.parametrize(("name", "reason"), [
    ("file/out", "file is not a folder"), ("file/sub/out", "Not a directory"),
    ("folder", "it is a folder; name a file in it"), ("pipe", "it is not a plain file")])
def test_impossible_places(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=rf"{name} cannot be written: .*{reason}"), replacing(tmp_path / name):
        pytest.fail("the block must not run")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "pipe"]


def test_device_is_never_replaced() -> None:
    with pytest.raises(OutputError, match=r"^/dev/full cannot be written: it is not a plain file\.$"), \
            replacing("/dev/full"):
        pytest.fail("the block must not run")


def test_full_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"out cannot be written: No space left on device\.$"), \
            replacing(tmp_path / "out"), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    assert os.listdir(tmp_path) == []


def test_failing_sync_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="Input/output error"), replacing(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == []


# ---- folders --------------------------------------------------------------------------------------------------------

def ours(folder: Path) -> bool:
    return (folder / "ours").exists()


def test_folder_appears_at_the_end_and_replaces_only_ours(tmp_path: Path) -> None:
    path = tmp_path / "a" / "out"
    for content in ("first", "second"):
        with replacing_folder(path, ours) as new:
            (new / "ours").write_text(content)
            (new / content).touch()
            assert new.parent == path.parent
            assert new.name.startswith(".idt-")
            assert not path.exists() or (path / "ours").read_text() == "first"
        assert sorted(os.listdir(path)) == sorted(["ours", content])
        assert os.listdir(path.parent) == ["out"]
    (path / "ours").unlink()
    with pytest.raises(OutputError, match=r"out cannot be written: there is a folder of that name with other things"), \
            replacing_folder(path, ours):
        pass
    assert os.listdir(path) == ["second"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_exception_leaves_the_old_folder_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ours").touch()
    with pytest.raises(OutputError if error is OSError else error), replacing_folder(tmp_path / "out", ours) as new:
        raise error((new / "half").touch())
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["ours"]


def test_a_folder_that_cannot_take_the_name_leaves_the_old_one(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ours").touch()
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if (self / "new").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OutputError, match=r"out cannot be written: Input/output error\.$"), \
            replacing_folder(tmp_path / "out", ours) as new:
        (new / "new").touch()
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["ours"]


def test_of_two_runs_that_replace_a_folder_at_a_time_the_later_one_wins(tmp_path: Path, monkeypatch) -> None:
    real, target, met = Path.rename, tmp_path / "out", []

    def rename(self: Path, other: Path) -> Path:
        if self == target and "taken" not in met:  # another run takes the old folder away ...
            met.append("taken")
            real(target, tmp_path / "old")
        elif other == target and "given" not in met:  # ... and gives the name to its own
            met.append("given")
            target.mkdir()
            (target / "theirs").touch()
        return real(self, other)

    target.mkdir()
    (target / "ours").touch()
    monkeypatch.setattr(Path, "rename", rename)
    with replacing_folder(target, ours) as new:
        (new / "ours").touch()
    assert met == ["taken", "given"]
    assert os.listdir(target) == ["ours"]
    assert sorted(os.listdir(tmp_path)) == ["old", "out"]


def test_link_to_a_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "out")
    with replacing_folder(tmp_path / "link", ours) as new:
        (new / "ours").touch()
    assert os.listdir(tmp_path / "far") == ["out"]
    assert (tmp_path / "link").is_symlink()
    assert ours(tmp_path / "link")


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_scratch_folder_is_gone_after_its_block(tmp_path: Path, error: type[BaseException] | None) -> None:
    path = tmp_path / "a" / "out"
    with pytest.raises(error) if error else contextlib.nullcontext(), scratch_beside(path) as folder:
        assert folder.parent == path.parent
        assert folder.name.startswith(".idt-")
        (folder / "large").touch()
        remove_leftovers(path.parent)  # as another run does
        assert os.listdir(folder) == ["large"]
        if error:
            raise error
    assert os.listdir(path.parent) == []


def test_what_cannot_be_written_in_a_scratch_folder_is_told_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^(.*)/out cannot be written: No space left on device\.$") as found, \
            scratch_beside(tmp_path / "out"), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    assert str(found.value).startswith(f"{tmp_path}/out ")
    message = r"/out cannot be written: No space left on device\.$"
    with pytest.raises(OutputError, match=message) as found, scratch_beside(tmp_path / "out") as folder, \
            replacing(folder / "large"), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    assert found.value.errno == errno.ENOSPC
    (tmp_path / "file").touch()
    message = r"/file/out cannot be written: .*/file is not a folder\.$"
    with pytest.raises(OutputError, match=message), scratch_beside(tmp_path / "file" / "out"):
        pytest.fail("the block must not run")
    assert os.listdir(tmp_path) == ["file"]


def test_leftovers_are_removed_unless_somebody_holds_them(tmp_path: Path) -> None:
    (tmp_path / ".idt-00.tmp").mkdir()
    (tmp_path / ".idt-00.tmp" / "a").touch()
    (tmp_path / ".idt-11.tmp").touch()
    (tmp_path / "idt-22.tmp").touch()
    with replacing_folder(tmp_path / "out", ours) as folder, replacing(tmp_path / "file") as file:
        remove_leftovers(tmp_path)
        held = [folder, Path(file.name)]
        assert sorted(os.listdir(tmp_path)) == sorted([
            "idt-22.tmp", *(path.name for path in held), *(path.with_suffix(".lock").name for path in held)])
    assert sorted(os.listdir(tmp_path)) == ["file", "idt-22.tmp", "out"]
    remove_leftovers(tmp_path / "none")


def test_where_there_are_no_locks_nothing_is_taken_for_a_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                  ) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with replacing(tmp_path / "a") as file:
        file.write(b"new")
        remove_leftovers(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]
