"""The package as a whole: what the wheel holds, who imports whom, how heavy an import is, the README's lines."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import idt
from waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
FOLDERS = {"idt": "idt", "flow": "idt/flow", "encoding": "idt/encoding", "cli": "idt/cli"}
HEAVY = {"av", "cv2", "h5py", "joblib", "numba", "numpy", "pyarrow", "rich", "scipy", "sklearn"}


def python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run Python outside the repository and return what it prints."""
    command = [sys.executable, *arguments]
    environment = {"PYTHONPATH": str(path)} if path else {}
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S,
                            env={"PATH": "/usr/bin:/bin", **environment})
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the sources: setuptools leaves files of earlier builds in build/."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in (*FOLDERS, "tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", cwd=folder)
    (path,) = folder.glob("dist/*.whl")
    return path


def test_the_wheel_holds_all_modules_and_nothing_else(wheel):
    assert wheel.name == f"densetraj-{idt.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {f"{inside}/{path.relative_to(ROOT / folder)}" for folder, inside in FOLDERS.items()
                for path in (ROOT / folder).rglob("*.py*") if path.suffix in (".py", ".pyi")}
    presets = {str(path.relative_to(ROOT)) for path in ROOT.glob("idt/comparison/presets/*.toml")}
    assert names == expected | presets | {"idt/py.typed", "idt/comparison/report.html"}
    assert "idt/comparison/presets/weizmann.toml" in names
    assert {"idt/__init__.py", "idt/flow/__init__.py", "idt/encoding/__init__.py", "idt/cli/__init__.py"} <= names


def test_the_wheel_works_outside_the_tree(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    program = ("import idt, idt.flow, idt.encoding, idt.cli, idt.batch; print(idt.__file__); print(idt.flow.__file__); "
               "raise SystemExit(idt.cli.main(['--version']))")
    lines = python("-c", program, cwd=tmp_path, path=site).splitlines()
    assert lines == [str(site / "idt" / "__init__.py"), str(site / "idt" / "flow" / "__init__.py"), idt.__version__]


@pytest.mark.parametrize(("program", "forbidden"), [
    ("import idt", HEAVY),
    ("import idt.params", HEAVY),
    ("from idt.cli import main; main(['--version'])", HEAVY - {"rich"}),
    ("from idt.cli import main; main(['extract', '--help'])", HEAVY - {"rich"}),
    ("import idt.trajectories.extraction, idt.batch", {"h5py", "joblib", "pyarrow", "rich", "scipy.linalg", "sklearn"}),
])
def test_light_imports_stay_light(program, forbidden, tmp_path):
    program += f"; import sys; print('heavy', *sorted({forbidden!r} & sys.modules.keys()))"
    assert python("-c", program, cwd=tmp_path).splitlines()[-1] == "heavy"


def test_lazy_names():
    assert set(idt.__all__) <= set(dir(idt))
    for name in idt.__all__:
        assert getattr(idt, name) is not None
    with pytest.raises(AttributeError, match="No idt attribute nothing"):
        idt.nothing  # noqa: B018


def test_the_readme_has_two_lines_to_paste():
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
             if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("idt demo")
    assert "pytest" in lines[1]
    assert all(" -e " in line for line in lines)


def test_what_the_pages_import_is_there(tmp_path):
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    lines = sorted({line for page in pages for line in re.findall(
        r"^(?:from idt\S* import .*|import idt.*)$", page.read_text(encoding="utf-8"), re.M)})
    assert len(lines) > 20
    python("-c", "\n".join(lines), cwd=tmp_path)


def test_the_version_stands_in_changelog_and_citation():
    assert f"## {idt.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {idt.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
