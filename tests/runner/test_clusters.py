"""clusters: Dask and Ray with real schedulers and worker processes, started as a user starts them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path

import pytest
from clips import write_clip
from odd_jobs import files, jobs_of, odd
from outcomes import outcomes

import idt.runner.clusters
import idt.runner.dask_executor
from idt.cli import main
from idt.errors import IdtError
from idt.runner.jobs import Workers
from idt.runner.scheduler import run
from synthetic import pan
from waiting import PATIENCE_S, until

HERE = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE), "RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "ignore"}
QUICK = ("--length", "5", "--no-camera")

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start processes, each in a session of its own, which ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*command: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{len(started)}.log").open("wb")
        started.append(subprocess.Popen([BIN / command[0], *command[1:]], stdout=log, stderr=log, env=ENVIRONMENT,
                                        start_new_session=True, cwd="/"))
        log.close()
        return started[-1]

    yield begin
    for process in started:
        if process.args[0].name == "ray":  # it ends what it has started elsewhere
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def videos() -> None:
    for name in "abc":
        write_clip(Path(f"videos/{name}.avi"), pan(seed=ord(name)).frames)


def extracted(output: str, *more: str) -> dict[str, bytes]:
    """Extract the videos as a user does and return the files."""
    subprocess.run([BIN / "idt", "extract", "videos", "-o", output, *QUICK, *more, "--quiet"], env=ENVIRONMENT,
                   check=True, timeout=PATIENCE_S)
    return {path.name: path.read_bytes() for path in Path(output).glob("*.npz")}


# What becomes of jobs whose process dies, hangs or fails: as on this machine, see test_runner
FATES = {
    "a": None, "b": None, "flaky": None,
    "crash": "crash: the process that worked on it died (signal 11, Segmentation fault).",
    "hang": "hang: not done in 5 s, which is the timeout.",
    "bad": "bad: bad."}


def test_dask(start, capsys, caplog):
    pytest.importorskip("distributed")
    start("dask", "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", os.path.abspath("dask.json"))
    address = until(lambda: Path("dask.json").exists() and json.loads(Path("dask.json").read_text())["address"])
    workers = [start("dask", "worker", address, "--nthreads", "1", "--no-dashboard") for _ in range(2)]
    cluster = Workers(backend="dask", scheduler=address, timeout=5, retries=2)

    found = outcomes(run, jobs_of(*FATES, "warns"), odd, ".", workers=cluster)
    assert {o.job.source: o.reason for o in found} == {**FATES, "warns": None}
    assert [record.getMessage() for record in caplog.records] == ["warns warns."]
    assert [name for name in files() if name.endswith(".npz")] == ["a.npz", "b.npz", "flaky.npz", "warns.npz"]
    assert Path("flaky.tries").stat().st_size == 3

    # A worker is lost with all its processes, as with its machine: the other does its jobs.
    names = [f"held {n}" for n in range(6)]

    def kill():
        until(lambda: len(glob("held *.tries")) >= 2)  # both work
        os.killpg(workers[0].pid, signal.SIGKILL)
        Path("go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    summary = run(jobs_of(*names), odd, ".", workers=Workers(backend="dask", scheduler=address))
    killer.join()
    assert summary.done == 6
    assert summary.failed == ()
    assert all(Path(f"{name}.npz").read_bytes() == b"half" for name in names)
    assert sum(Path(f"{name}.tries").stat().st_size for name in names) > 6
    assert [name for name in os.listdir() if name.startswith(".idt")] == []

    videos()
    assert extracted("dask", "--backend", "dask", "--scheduler", address) == extracted("local", "--jobs", "2")
    begun = json.loads(Path("dask/report.jsonl").read_text().partition("\n")[0])
    assert (begun["backend"], begun["videos"]) == ("dask", 3)
    assert main(["status", "dask"]) == 0
    assert re.match(r"last run  3 videos, on dask, begun \S+; it ended after \S+ s: 3 done, 0 failed\n",
                    capsys.readouterr().out)


def test_ray(start):
    pytest.importorskip("ray")
    # The path of a socket is short: the folder of the test may be too deep.
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as place:
        start("ray", "start", "--head", "--block", "--port", "0", "--num-cpus", "2", "--include-dashboard", "false",
              "--disable-usage-stats", "--object-store-memory", "100000000", "--temp-dir", place)
        log = Path("0.log")
        address = until(lambda: re.search(r"address='([0-9.:]+)'", log.read_text(errors="replace")))[1]
        code = RAY.format(names=[*FATES], held=[f"held {n}" for n in range(6)], address=address)
        Path("script.py").write_text(code)
        result = subprocess.run([sys.executable, "script.py"], env=ENVIRONMENT, capture_output=True, text=True,
                                timeout=PATIENCE_S)
        assert result.returncode == 0, result.stderr
        fates, summary = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("{"))
        assert fates == FATES
        assert summary == {"done": 6, "failed": []}
        assert all(Path(f"held {n}.npz").read_bytes() == b"half" for n in range(6))
        assert sum(Path(f"held {n}.tries").stat().st_size for n in range(6)) > 6
        assert [name for name in os.listdir() if name.startswith(".idt")] == []
        videos()
        assert extracted("ray", "--backend", "ray", "--scheduler", address) == extracted("local", "--jobs", "2")


RAY = """
import contextlib, json, os, signal, threading, time
from glob import glob
from pathlib import Path
from outcomes import outcomes
from odd_jobs import jobs_of, odd
from idt.runner import Workers, run

def worker():
    for path in glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if Path(path).read_bytes().startswith(b"ray::do"):
                return int(path.split("/")[2])

def kill():
    while len(glob("held *.tries")) < 2 or worker() is None:  # both work
        time.sleep(0.02)
    os.kill(worker(), signal.SIGKILL)
    Path("go").touch()

if __name__ == "__main__":
    found = outcomes(run, jobs_of(*{names}), odd, ".",
                     workers=Workers(backend="ray", scheduler="{address}", timeout=5, retries=2))
    print(json.dumps({{o.job.source: o.reason for o in found}}))
    killer = threading.Thread(target=kill)
    killer.start()
    summary = run(jobs_of(*{held}), odd, ".", workers=Workers(backend="ray", scheduler="{address}"))
    killer.join()
    print(json.dumps({{"done": summary.done, "failed": [o.reason for o in summary.failed]}}))
"""


def test_what_is_not_there(monkeypatch, capsys):
    pytest.importorskip("distributed")
    for module in (idt.runner.clusters, idt.runner.dask_executor):
        monkeypatch.setattr(module, "CONNECT", 0.5)
    Path("a.avi").touch()
    assert main(["extract", "a.avi", "-o", "out", "--backend", "dask", "--scheduler", "tcp://127.0.0.1:1"]) == 1
    assert re.fullmatch(r"idt: The Dask scheduler at tcp://127\.0\.0\.1:1 cannot be reached \(.*\): see that it runs "
                        r"and that the address is right\.\n", capsys.readouterr().err)
    for backend, package in (("dask", "distributed"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(IdtError, match=rf"is not installed: pip install 'densetraj\[{backend}\]'\.$"):
            run(jobs_of("a"), odd, ".", workers=Workers(backend=backend))
