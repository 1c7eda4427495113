"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real clips and reference outputs: IDT_TEST_DATA, by default ../shared/data beside the repository.

    A test that needs it is skipped where it is absent, unless IDT_REQUIRE_DATA=1.
    """
    folder = ROOT / os.environ.get("IDT_TEST_DATA", "../shared/data")
    if folder.is_dir():
        return folder.resolve()
    message = f"the test data is not in {folder}; set IDT_TEST_DATA"
    if os.environ.get("IDT_REQUIRE_DATA") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make commands work in this process, which is quicker, unless --jobs asks for others."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of videos and of images (by name only), as the working folder."""
    for name in ("v/walk/a.avi", "v/walk/b.MP4", "v/run/a.avi", "v/run/deep/c.webm", "v/run/._a.avi", "v/run/notes.txt",
                 "v/top.mkv", "v/thumbs/1.png", "i/clip.1/f2.png", "i/clip.1/f10.png", "i/two/x.jpg", "mixed/a.avi",
                 "mixed/a.png", "none/readme.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often PCA, centres and Gaussians are learnt, by the names of their classes."""
    from idt.encoding import PCA, DiagonalGMM, KMeans

    counts: Counter[str] = Counter()
    for kind in (PCA, KMeans, DiagonalGMM):
        def fit(self, bags, kind=kind, was=kind.fit):
            counts[kind.__name__] += 1
            return was(self, bags)

        monkeypatch.setattr(kind, "fit", fit)
    return counts
