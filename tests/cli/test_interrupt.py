"""Ctrl-C while rows are being spooled: the videos before stay whole, of this one nothing stays, and it ends at once."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from idt.cli import main
from idt.features.record import Features
from idt.runner.log import NAME
from waiting import PATIENCE_S, until

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(sys.platform != "linux", reason="open files without a name are seen in /proc")]


def spooled(process: subprocess.Popen[str], folder: Path) -> int:
    """Bytes in files in the folder that the process holds open and that have no name."""
    size = 0
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            if str(entry.readlink()).startswith(str(folder)) and str(entry.readlink()).endswith(" (deleted)"):
                size += entry.stat().st_size
        except FileNotFoundError:  # closed meanwhile
            continue
    return size


@pytest.mark.parametrize(("threads", "signals"), [("1", 1), ("2", 1), ("2", 2), ("2", 9)])
def test_an_interrupt_costs_one_video(data: Path, tmp_path: Path, threads: str, signals: int,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    shutil.copyfile(data / "awkward/frames_16.mp4", videos / "a.mp4")
    shutil.copyfile(data / "clips/v_Bowling_g01_c01.avi", videos / "b.avi")
    arguments = ["extract", str(videos), "-o", str(out), "--jobs", "1", "--threads", threads, "--quiet"]
    process = subprocess.Popen([sys.executable, "-c", "import sys; from idt.cli import main; sys.exit(main())",
                                *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        for reached in ((out / "a.mp4.npz").exists, lambda: not spooled(process, out), lambda: spooled(process, out)):
            until(reached, process)
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.003 * (signals - 1))
        try:
            said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 130
    assert said == ("", "idt: interrupted\n")
    assert sorted(path.name for path in out.iterdir()) == ["a.mp4.npz", NAME]

    assert main(["extract", str(videos), "-o", str(out), "--end", "15"]) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("2 done; ")  # --end makes other features
    assert main(["extract", str(videos), "-o", str(out), "--end", "15"]) == 0
    assert capsys.readouterr().err == f"0 done, 2 skipped (done before); the files are in {out}\n"
    assert len(Features.load(out / "b.avi.npz")) > 0
