"""Places as containers and batch systems give them: read-only, without streams, with few open files, odd folders."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from random_features import random_features

from idt.features.record import Features
from idt.trajectories.extraction import compile_kernels
from synthetic import pan

if os.name != "posix":
    pytest.skip("shells, limits and mounts of POSIX", allow_module_level=True)
import resource

IDT = str(Path(sys.executable).with_name("idt"))
QUICK = ["--length", "5", "--no-camera", "--stride", "8", "--jobs", "2"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def videos() -> Path:
    for n in range(2):
        write_clip(Path(f"v/{n}.avi"), pan((1 + n, 0), frames=12).frames)
    return Path("v")


# Standard streams

@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_that_are_closed_or_full_do_not_stop_the_work(videos, streams):
    if "full" in streams and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    Path("v/broken.avi").write_bytes(b"none")  # there is an error to print, too
    command = " ".join(map(shlex.quote, [IDT, "extract", "v", "-o", "out", *QUICK[:-1], "1"]))
    child = subprocess.run(["sh", "-c", f"{command} {streams}"], capture_output=True, text=True)
    assert child.returncode == 1
    assert child.stdout == ""
    assert [len(Features.load(f"out/{n}.avi.npz")) > 0 for n in range(2)] == [True, True]
    if "2>" not in streams:
        assert "v/broken.avi: not a video" in child.stderr
        assert "2 done, 1 failed" in child.stderr
    named = subprocess.run(["sh", "-c", f"{IDT} info out/0.avi.npz {streams}"], capture_output=True, text=True)
    assert (named.returncode, named.stderr) == (0, "")
    assert named.stdout.startswith("features ") == (">&-" not in streams.replace("2>&-", ""))


@pytest.mark.parametrize("inside", ["this process", "another"])
def test_what_a_library_prints_does_not_end_in_an_output(inside):
    """With closed streams the first file that is opened would get the descriptor of stderr, in processes, too."""
    print_and_write = "file = open('out', 'wb'); os.write(2, b'a complaint of a library'); file.write(b'ours')"
    program = "import os, subprocess, sys; import idt.cli; idt.cli.mend_streams(); " + (
        print_and_write if inside == "this process" else
        f"subprocess.run([sys.executable, '-c', {f'import os; {print_and_write}'!r}])")
    subprocess.run(["sh", "-c", f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} <&- >&- 2>&-"], check=True)
    assert Path("out").read_bytes() == b"ours"


# Open files

def test_256_open_files_suffice_for_13320_features():
    for n in range(4):
        random_features(3, seed=n).save(f"{n}.npz")
    Path("features").mkdir()
    for n in range(13_320):
        os.link(f"{n % 4}.npz", f"features/{n}.npz")
    flags = ["--words", "2", "--samples", "30000", "--channels", "hog,mbhx", "--encoder", "vlad"]
    child = subprocess.run([IDT, "fit", "features", "-o", "x.codebook.npz", *flags], capture_output=True, text=True,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)))
    assert child.returncode == 0, child.stderr
    assert Path("x.codebook.npz").stat().st_size > 1000


# The working folder

def test_modules_named_like_those_of_the_standard_library_are_left_alone(videos):
    for name in ("random", "signal", "queue", "tempfile", "json", "logging", "struct", "socket", "types", "numpy"):
        Path(f"{name}.py").write_text(f"raise SystemExit('{name}.py of the working folder was imported')\n")
    child = subprocess.run([IDT, "extract", "v", "-o", "out", *QUICK, "--quiet"], capture_output=True, text=True)
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")
    assert sorted(os.listdir("out")) == ["0.avi.npz", "1.avi.npz", "report.jsonl"]


# Read-only places

class Container:
    """Runs commands that see some folders read-only."""

    def run(self, *command: str, read_only: list[Path | str], **environment: str) -> subprocess.CompletedProcess[str]:
        mounts = "".join(f"mount --bind {path} {path} && mount -o remount,bind,ro {path} && "
                         for path in map(shlex.quote, map(str, read_only)))
        script = f"{mounts} mount -t tmpfs none writable && cd . && exec \"$@\""
        places = {"HOME": str(Path("home").absolute()), "TMPDIR": str(Path("tmp").absolute())}
        return subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", *command], capture_output=True, text=True,
                              env={**os.environ, **places, **environment})


@pytest.fixture
def container() -> Container:
    for name in ("home", "tmp", "writable"):
        Path(name).mkdir()
    try:
        probe = Container().run("touch", "home/x", read_only=["home"])
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if "Read-only" not in probe.stderr:
        pytest.skip(f"nothing can be mounted here: {probe.stderr}")
    return Container()


TMP = ["tmp", *(path for path in ("/tmp", "/var/tmp", "/dev/shm") if Path(path).is_dir())]

KERNEL = """
from idt._util.kernels import jit

@jit()
def add(a, b):
    return a + b
"""
PROGRAM = """
import os, subprocess, sys
sys.path.insert(0, "package")
import kernel
from idt._util.kernels import are_kept, is_cached
before = is_cached(kernel.add)
assert kernel.add(1, 2) == 3
print(are_kept(), before, is_cached(kernel.add), flush=True)
if len(sys.argv) > 1:
    subprocess.run([sys.executable, sys.argv[0]])
"""


@pytest.mark.parametrize(("filled", "read_only", "kept"), [
    # (are kept, were there before, are there after), of a process and of one that it begins
    ((), [], [(True, False, True), (True, True, True)]),
    ((), ["package", "home"], [(False, False, True), (True, True, True)]),
    ((), ["package", "home", *TMP], [(False, False, False)] * 2),
    ((), ["package", "home", *TMP[:-1]], [(False, False, True), (True, True, True)]),
    (("tree",), ["package", "home"], [(False, True, True), (True, True, True)]),
    (("tree",), ["package"], [(True, True, True)] * 2),
    (("home",), ["package", "home"], [(False, True, True), (True, True, True)]),
    (("given",), ["given"], [(True, True, True)] * 2),
    (("given",), ["package", "home", "given"], [(False, True, True), (True, True, True)]),
])
def test_compiled_kernels_are_found_and_kept_where_they_can_be(container, filled, read_only, kept):
    Path("package").mkdir()
    Path("package/kernel.py").write_text(KERNEL)
    Path("program.py").write_text(PROGRAM)
    Path("given").mkdir()
    command = [sys.executable, "program.py", "and another"]
    places = {"NUMBA_CACHE_DIR": str(Path("given").absolute()) if "given" in (*filled, *read_only) else ""}
    if filled:
        first = container.run(*command[:2], read_only=["package"] if filled == ("home",) else [], **places)
        assert first.stdout.split() == ["True", "False", "True"], first.stderr
    found = container.run(*command, read_only=[path if path.startswith("/") else Path(path).absolute()
                                               for path in read_only], **places)
    assert found.stdout.splitlines() == [" ".join(map(str, line)) for line in kept], found.stderr
    assert os.listdir("tmp") == []


def test_commands_work_in_a_read_only_container(container, videos, folder):
    compile_kernels()  # they lie next to the source, as in an image
    root = Path(__file__).parents[1]
    script = (f"{IDT} extract v -o writable/out {' '.join(QUICK)} && {IDT} view v/0.avi writable/out/0.avi.npz "
              "-o writable/a.png --frame 8 && ls -A writable && sha256sum writable/out/1.avi.npz")
    run = container.run("sh", "-c", script, read_only=[folder, root, *TMP[:-1]])
    assert run.returncode == 0, run.stderr
    assert "2 done" in run.stderr
    assert "compiling" not in run.stderr
    assert subprocess.run([IDT, "extract", "v", "-o", "out", *QUICK, "--quiet"]).returncode == 0
    digest = hashlib.sha256(Path("out/1.avi.npz").read_bytes()).hexdigest()
    assert run.stdout.split() == ["writable/a.png", "a.png", "out", digest, "writable/out/1.avi.npz"]


def test_what_is_compiled_for_one_run_alone_is_said_once(monkeypatch, capsys):
    from idt._util import kernels
    from idt.cli.options import Common
    from idt.cli.progress import Reporter

    monkeypatch.setattr(kernels, "_folder", "/tmp/some")
    monkeypatch.setattr(Reporter, "kernels_cached", lambda self: False)
    assert Reporter(Common()).must_compile()
    assert capsys.readouterr().err == (
        "idt: compiling the kernels; this takes up to half a minute, and every run does it, because no folder for them "
        "can be written: set NUMBA_CACHE_DIR to one that can\n")
    np.testing.assert_equal(kernels.are_kept(), False)
