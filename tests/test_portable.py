"""The package on a system that is not POSIX: what such a one lacks is hidden from processes on this one."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import write_clip

import idt.cli
from synthetic import pan

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("idt", "flow", "encoding", "cli") for path in (ROOT / folder).rglob("*.py")]

HIDDEN = """
import multiprocessing.reduction
import os
import sys

for module in ("fcntl", "grp", "pwd", "resource", "syslog", "termios"):
    sys.modules[module] = None
for name in ("fork", "forkpty", "getuid", "killpg", "link", "mkfifo", "pread", "preadv", "pwrite", "sched_getaffinity",
             "setsid", "symlink"):  # without some others NumPy or the standard library does not begin on Linux
    if hasattr(os, name):
        delattr(os, name)
multiprocessing.reduction.HAVE_SEND_HANDLE = False  # so there is no fork server
multiprocessing.set_start_method("spawn", force=True)
"""

IDT = [sys.executable, "-c", "import sys; from idt.cli import main; sys.exit(main())"]
QUICK = ["--length", "5", "--no-camera", "--stride", "8", "--jobs", "2", "--quiet"]


@pytest.fixture
def hidden(tmp_path: Path) -> dict[str, str]:
    """Environment of processes from which what other systems lack is hidden."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/sitecustomize.py").write_text(HIDDEN)
    # filelock warns that it has no lock of this system; that of Windows it knows.
    return {**os.environ, "PYTHONPATH": str(tmp_path / "hidden"), "PYTHONWARNINGS": "ignore:only soft file lock"}


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for n in range(4):
        write_clip(tmp_path / "v" / f"{n}.avi", pan((1 + n / 4, 0), frames=12 + 3 * n).frames)
    return tmp_path / "v"


def files(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*"))
            if path.is_file() and not path.name.startswith("report")}


def test_every_module_is_imported(hidden):
    names = [".".join(path.with_suffix("").relative_to(ROOT).parts) for path in SOURCES]
    names = [name if name.startswith("idt") else f"idt.{name}" for name in sorted(names)]
    program = f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name.removesuffix('.__init__'))"
    child = subprocess.run([sys.executable, "-c", program], env=hidden, cwd=Path("/"), capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")
    assert len(names) > 60


@pytest.mark.parametrize(("command", "flags"), [
    ("extract", QUICK), ("flow", ["--method", "dis", "--jobs", "2", "--quiet"])])
def test_commands_make_the_same_bytes(videos, hidden, command, flags):
    assert idt.cli.main([command, "v", "-o", "here", *flags]) == 0
    child = subprocess.run([*IDT, command, "v", "-o", "there", *flags], env=hidden, capture_output=True, text=True)
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")
    assert files("there") == files("here")
    assert sorted(os.listdir("there")) == sorted(os.listdir("here"))  # nothing hidden is left
    status = subprocess.run([*IDT, "status", "there"], env=hidden, capture_output=True, text=True)
    assert "4 done, 0 failed" in status.stdout


@pytest.mark.skipif(os.name != "posix", reason="kills by a signal")
def test_a_killed_run_is_taken_up(videos, hidden):
    assert idt.cli.main(["extract", "v", "-o", "here", *QUICK]) == 0
    write_clip(videos / "0long.avi", pan(frames=400).frames)
    run = subprocess.Popen([*IDT, "extract", "v", "-o", "there", *QUICK], env=hidden)
    while not list(Path("there").glob("[0-9].avi.npz")):
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    (videos / "0long.avi").unlink()
    again = subprocess.run([*IDT, "extract", "v", "-o", "there", *QUICK[:-1]], env=hidden, capture_output=True,
                           text=True)
    assert again.returncode == 0, again.stderr
    assert "skipped (done before)" in again.stderr
    # filelock's stand-in for a system's locks cannot know whose a file is that was killed before it wrote its number.
    left = {name: content for name, content in files("there").items() if content or not name.endswith(".lock")}
    left.pop("0long.avi.npz", None)
    assert left == files("here")


# What only POSIX has, and where it may be named: each of these has a form for other systems.
ONLY_POSIX = {"fcntl", "grp", "pwd", "resource", "termios", "fork", "killpg", "SIGKILL", "SIGHUP", "SIGALRM", "pread",
              "pwrite", "uname", "getuid", "geteuid", "symlink", "readlink", "mkfifo", "setsid", "sysconf", "statvfs",
              "ForkServerContext", "ForkServerProcess"}
ALLOWED = {("idt/_util/files.py", "resource"), ("idt/_util/locks.py", "fcntl")}


def test_names_that_only_posix_has_are_not_used():
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {alias.name for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
                 for alias in node.names}
        place = path.relative_to(ROOT).as_posix()
        assert {(place, name) for name in used & ONLY_POSIX} <= ALLOWED


def test_the_number_of_cores_is_known_without_affinity(monkeypatch):
    from idt.cli.options import usable_cores

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores() == 7


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such limit")
def test_the_file_limit_is_raised_to_what_macos_allows(monkeypatch):
    program = """
import json, resource
import idt._util.files as files
limits = []
for soft, hard in ((256, resource.RLIM_INFINITY), (256, 4096), (20000, resource.RLIM_INFINITY), (300, 300)):
    resource.getrlimit = lambda which, pair=(soft, hard): pair
    resource.setrlimit = lambda which, pair: limits.append(pair)
    files.allow_open_files()
print(json.dumps(limits))
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    unlimited = -1
    assert json.loads(child.stdout) == [[10240, unlimited], [4096, 4096], [20000, unlimited]], child.stderr
