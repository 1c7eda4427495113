"""Commands that tests give."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from idt.cli import main


def work_in_copy(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the temporary folder a copy of a folder, and the working folder."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines_of(command: str, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0
             ) -> tuple[list[str], list[str]]:
    """Give a command, which must end with this code; return the lines of stdout and of stderr."""
    assert main([command, *arguments]) == code
    out, err = capsys.readouterr()
    return out.splitlines(), err.splitlines()
