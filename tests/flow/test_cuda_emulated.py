"""The CUDA solver on an emulated GPU: the real kernels and all of the host code, each time in a process of its own.

Run with IDT_REQUIRE_EMULATOR=1 where g++ and the compiler libraries of CUDA are (pip install -e '.[test,gpu]'); the
emulator is described in ptx_emulator/README.md.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EMULATOR = ROOT / "tests" / "ptx_emulator"

pytestmark = [
    pytest.mark.emulator, pytest.mark.timeout(1800),
    pytest.mark.skipif(os.environ.get("IDT_REQUIRE_EMULATOR") != "1", reason="only with IDT_REQUIRE_EMULATOR=1")]

PROGRAM = """
import ctypes
import logging
import sys

import numpy as np

import idt.flow
from idt.errors import DeviceError
from idt.flow import compute, sequence
from idt.flow.tvl1 import TVL1Params

QUICK = TVL1Params(scales=1, warps=1, iterations=4)
TWO = TVL1Params(scales=2, warps=2, iterations=12, median=3)


def video(count, height=24, width=32):
    y, x = np.mgrid[:height, :width]
    return [np.uint8(128 + 50 * np.sin((x - 0.5 * n) / 2.5) + 50 * np.sin((y + 0.3 * n + 0.3 * x) / 3))
            for n in range(count)]


def flows(*args, **options):
    return np.array(list(sequence(*args, **options)))


def warnings_of(call):
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("idt").addHandler(handler)
    call()
    return messages


def held():
    driver = ctypes.CDLL("libcuda.so.1")
    return [driver.fake_held(what) for what in range(4)]


def reason(call):
    try:
        call()
    except DeviceError as error:
        return str(error)
    return "no error"


"""


@dataclass(frozen=True)
class Ended:
    """What a process printed, and what the emulator found out about it."""

    out: str
    err: str
    report: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def assert_clean(self, *, intended: frozenset[tuple[str, str]] = frozenset()) -> None:
        """Nothing may be left, nothing freed without a context, and no check may have failed but those intended."""
        left = re.findall(r"left (\d+) allocations.*pinned: left (\d+),.*left (\d+) streams, (\d+) events", self.report)
        assert left == [("0",) * 4], self.report
        assert "NO CONTEXT" not in self.report
        found = set()
        for problem in re.findall(r"^PROBLEM (.*)", self.report, re.M):
            place = re.fullmatch(r"(.*?) pc \d+: \d+ times; first: .* pc \d+: (\S+).*", problem)
            found.add(place.groups() if place else problem)
        assert found == intended, self.report


class Emulator:
    """Runs programs with the stand-in for the driver; what is compiled is kept for those that follow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, fails: bool = False, **settings: str) -> Ended:
        report = self.folder / "report.txt"
        report.unlink(missing_ok=True)
        child = subprocess.run(
            [str(EMULATOR / "run.sh"), sys.executable, *arguments], capture_output=True, text=True, timeout=1500,
            cwd=ROOT,
            env={**os.environ, "EMULATOR_BUILD": str(self.folder), "FAKE_REPORT": str(report),
                 "NUMBA_CACHE_DIR": str(self.folder / "kernels"), **settings})
        assert (child.returncode != 0) == fails, child.stdout + child.stderr
        assert "Traceback" not in child.stderr, child.stderr
        return Ended(child.stdout, child.stderr, report.read_text() if report.exists() else "")

    def python(self, program: str, **settings: str) -> Ended:
        return self.run("-W", "error", "-c", PROGRAM + program, **settings)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    if shutil.which("g++") is None or platform.machine() != "x86_64":
        pytest.fail("the emulator needs g++ on an x86-64 processor")
    made = Emulator(tmp_path_factory.mktemp("emulator"))
    ready = made.run("-c", "import numba_cuda; from numba import cuda; print(cuda.is_available())")
    assert ready.out == "True\n", "the emulator needs the compiler libraries of CUDA: pip install 'numba-cuda[cu13]'"
    return made


@pytest.mark.parametrize("capability", ["75", "90"])
def test_every_kernel_and_no_race(emulator, capability):
    """All of test_cuda.py with every access checked; six blocks run interleaved, threads in random order.

    Blocks of a pair meet in two places, both behind the ticket: the last one reads the sums of all, and marks in
    `control` what all have read at their beginning.
    """
    ended = emulator.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/flow/test_cuda.py",
                         FAKE_CC=capability, FAKE_CHECK="1", FAKE_INTERLEAVE="6")
    assert re.search(r"^28 passed, 2 skipped", ended.out, re.M), ended.out
    ended.assert_clean(intended=frozenset({("inter-block read after write relax8", "ld.global.f32"),
                                           ("inter-block write after read relax8", "st.global.u32")}))


def test_two_threads_may_meet_kernels_that_are_cached(emulator):
    """Numba fails when two threads load a kernel from its cache at once, as in every process but the first."""
    program = """
images = video(600, 16, 20)
found = flows(images, params=QUICK, device="cuda")
print(len(found), np.abs(found - flows(images, params=QUICK)).max() < 1e-3)
"""
    for _ in range(4):
        ended = emulator.python(program)
        assert ended.out == "599 True\n"
        ended.assert_clean()


def test_nothing_is_left_of_twenty_videos(emulator, tmp_path):
    """Neither where kernels are in the cache nor where they are compiled, and without the garbage collector's help."""
    program = """
import gc
gc.disable()
images = video(9)
seen = []
for n in range(20):
    # every fifth of another size, and one that nobody takes to its end
    size = (24, 32) if n % 5 else (18, 20)
    running = sequence(video(9, *size), params=TWO, device="cuda")
    for _ in range(4 if n == 7 else 9):
        next(running, None)
    del running
    seen.append(held())
print(*{tuple(s) for s in seen[2:]})
idt.flow.devices.release_gpus()
print(*held())
unfinished = sequence(images, params=TWO, device="cuda")  # freed when the program ends
next(unfinished)
print(held()[0] > 0)
"""
    one_batch = "(9, 4, 1, 4)"  # arrays on the device, pinned or mapped, streams, events: of one solver that was used
    for _ in range(2):
        ended = emulator.python(program, NUMBA_CACHE_DIR=str(tmp_path))
        assert ended.lines == [one_batch, "0 0 0 0", "True"]
        ended.assert_clean()


def test_a_driver_that_is_too_old(emulator):
    ended = emulator.python("""
a, b = video(2)
print(reason(lambda: compute(a, b, device="cuda")))
print(reason(lambda: sequence([a, b], device="cuda:0")))
found = []
print(warnings_of(lambda: found.extend(compute(a, b, params=TWO, device="auto") for _ in range(3))))
print(all(np.array_equal(flow, compute(a, b, params=TWO)) for flow in found), len(found))
""", FAKE_DRIVER="12080")
    message = (r"The GPU cuda:0 cannot be used \(.*CUDA_ERROR_UNSUPPORTED_PTX_VERSION.*\); its driver supports CUDA "
               r"12\.8, the libraries that compile for it are of CUDA 13\.\d+, numba-cuda is 0\.30\.\d+: update the "
               r'driver, or pip install "densetraj\[gpu12\]" for drivers older than CUDA 13 and for GPUs below compute '
               r"capability 7\.5, or use device cpu\.")
    first, second, warnings, same = ended.lines
    assert re.fullmatch(message, first)
    assert re.fullmatch(message, second)
    assert re.fullmatch(rf"\['device is auto, which does without a GPU: {message}'\]", warnings)
    assert same == "True 3"
    ended.assert_clean()


@pytest.mark.parametrize(("setting", "message", "warnings"), [
    ({"FAKE_CC": "70"}, r"The GPU cuda:0 cannot be used \(.*compute capability 7\.0 is not supported", 1),
    ({"FAKE_INIT_ERROR": "999"}, r"No CUDA device: there is no NVIDIA driver that works \(.*CUDA_ERROR_UNKNOWN", 1),
    ({"FAKE_INIT_ERROR": "100"}, r"No CUDA device: the NVIDIA driver works but shows none; is CUDA_VISIBLE", 0),
    ({"FAKE_DEVICES": "0"}, r"No CUDA device: the NVIDIA driver works but shows none; is CUDA_VISIBLE_", 0),
    ({"NUMBA_DISABLE_CUDA": "1"}, r"No CUDA device: .*NUMBA_DISABLE_CUDA", 0),
    ({"FAKE_TOTAL_MEM": "1000"}, r"The GPU cuda:0 cannot be used \(.*CUDA_ERROR_OUT_OF_MEMORY.*\); its driver", 1)])
def test_gpus_that_do_not_start(emulator, setting, message, warnings):
    """The error says what is wrong; where there is no GPU at all, `auto` is silent."""
    ended = emulator.python("""
a, b = video(2)
print(reason(lambda: compute(a, b, device="cuda")))
print(len(warnings_of(lambda: compute(a, b, params=QUICK, device="auto"))))
""", **setting)
    assert re.match(message, ended.lines[0]), ended.out
    assert ended.lines[1] == str(warnings)


def test_without_the_compiler_libraries_and_after_a_fork(emulator):
    ended = emulator.python("""
import os
import warnings
from unittest import mock
from idt.flow import _tvl1_cuda
a, b = video(2)
with mock.patch.object(_tvl1_cuda.cuda, "is_available", return_value=False):
    print(reason(lambda: compute(a, b, device="cuda")))
compute(a, b, params=QUICK, device="cuda")
sys.stdout.flush()
warnings.simplefilter("ignore")  # of other threads, which Python 3.12 counts
child = os.fork()
if not child:
    print(reason(lambda: compute(a, b, params=QUICK, device="cuda")), flush=True)
    os._exit(0)
os.waitpid(child, 0)
""")
    assert ended.lines[0] == ('A CUDA device is there, but not the libraries to compile for it: pip install '
                              '"densetraj[gpu]", or "densetraj[gpu12]" where the driver is older than CUDA 13.')
    assert re.match(r"The GPU cuda:0 cannot be used \(.*CUDA initialized before forking\); its driver", ended.lines[1])
    ended.assert_clean()


def test_a_small_gpu(emulator):
    """Batches are made for the memory there is, halved when it is less than was said, and a lone pair has all of it."""
    ended = emulator.python("""
from unittest import mock
from idt.flow import _tvl1_cuda
images = video(20)
expected = flows(images, params=TWO, device="cuda")
idt.flow.devices.release_gpus()
free = "FAKE_TOTAL_MEM"
pair = _tvl1_cuda.bytes_per_pair(32, 24, TWO)


def limited(total):
    import os
    ctypes.CDLL(None).setenv(b"FAKE_TOTAL_MEM", str(total).encode(), 1)
    same = np.array_equal(flows(images, params=TWO, device="cuda"), expected)
    size = idt.flow.devices._made[0].size
    idt.flow.devices.release_gpus()
    return same, size


print(*limited(9 * pair))
with mock.patch.object(_tvl1_cuda.Solver, "capacity", lambda *_: 40):
    print(warnings_of(lambda: print(*limited(6 * pair))))
    print(*limited(int(1.8 * pair)))
    print(reason(lambda: limited(pair // 2)))
""", FAKE_GRAN="64")
    assert ended.lines == [
        "True 4", "True 4",
        "['The memory of the GPU does not hold 19 pairs of 32x24 pixels at once: going on with fewer.']", "True 1",
        "The memory of the GPU does not hold one pair of 32x24 pixels: use device cpu, smaller images (short_side), or "
        "fewer processes on each GPU (jobs)."]
    ended.assert_clean()


def test_two_gpus(emulator):
    ended = emulator.python("""
images = video(300, 16, 20)
expected = flows(images, params=QUICK, device="cuda")
for device in ("cuda:1", "cuda:0,1", "auto"):
    print(np.array_equal(flows(images, params=QUICK, device=device), expected))
print(reason(lambda: sequence(images, device="cuda:2")))
""", FAKE_DEVICES="2", FAKE_CHECK="1")
    assert ended.lines == ["True"] * 3 + [
        "device is 'cuda:2', but there are 2 GPUs, numbered from 0: use cuda:0 to cuda:1."]
    ended.assert_clean()


def test_without_row_stack(emulator):
    """NumPy 2.5 has no np.row_stack, which numba-cuda 0.30 looks up at its first kernel; ours is left as it was."""
    ended = emulator.python("""
a, b = video(2)
expected = compute(a, b, params=TWO)  # by Numba, which looks it up where NumPy has it
if vars(np).pop("row_stack", None):
    np.__all__.remove("row_stack")
print(np.abs(compute(a, b, params=TWO, device="cuda") - expected).mean() < 0.02)
print("row_stack" in vars(np))
""")
    assert ended.lines == ["True", "False"]


def test_several_processes_on_one_gpu(emulator, tmp_path):
    """What `idt flow` does by default: the files are those of one process, for all that processes share the memory."""
    import cv2

    for name in "abc":
        folder = tmp_path / "videos" / name
        folder.mkdir(parents=True)
        y, x = np.mgrid[:24, :32]
        for n in range(5):
            cv2.imwrite(str(folder / f"{n}.png"), np.uint8(128 + 90 * np.sin((x - n) / (2 + ord(name) % 3) + y / 3)))
    for jobs in ("1", "3"):
        ended = emulator.run("-c", "import sys; from idt.cli import main; sys.exit(main(sys.argv[1:]))", "flow",
                             *(str(tmp_path / "videos" / name) for name in "abc"), "-o", str(tmp_path / jobs),
                             "--device", "cuda", "--format", "flo", "--scales", "2", "--jobs", jobs)
        assert "3 done" in ended.err, ended.err
    files = [sorted(path.relative_to(tmp_path / jobs) for path in (tmp_path / jobs).rglob("*.flo")) for jobs in "13"]
    assert len(files[0]) == 12
    assert files[0] == files[1]
    for file in files[0]:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "3" / file).read_bytes()
