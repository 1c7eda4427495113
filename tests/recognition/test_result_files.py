"""results: the files of an evaluation, every figure recomputed from the scores that they hold."""

from __future__ import annotations

import csv
import json
import logging
import math
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import idt.recognition.result_files
from idt.errors import OutputError
from idt.recognition.datasets import Dataset, Item, Split
from idt.recognition.evaluation import COMBINED, Evaluation, SplitResult
from idt.recognition.result_files import check_folder, figures, save
from idt.recognition.vectors import EncodingParams
from waiting import PATIENCE_S

NAMES = ("path", 'say "hi", wave', "$x^2$")


def evaluation(names=NAMES, seed=0, clips=24, seconds=None):
    """Random scores of two channels on two splits; the last class is never tested, one clip is a segment."""
    rng = np.random.default_rng(seed)
    items = [Item(f"root/sub/clip, {n}.avi", names[n % 3 % 2], f"g{n % 5}") for n in range(clips)]
    items[3] = Item("elsewhere/long.avi", items[3].label, "g3", (), 1.5, 0.1 + 0.2 + 4)
    items += [Item("root/never.avi", names[-1])]
    half = clips // 2
    sides = [Split("one", tuple(range(half, clips + 1)), tuple(range(half)), (), {"scheme": "hold-out", "seed": 3}),
             Split("two, again", (*range(half - 2), clips), tuple(range(half - 2, clips)), ("g1", "g2"))]
    results = tuple(SplitResult(split, {channel: rng.normal(size=(len(split.test), len(names)))
                                        for channel in ("hog", COMBINED)}) for split in sides)
    results[0].scores["hog"][0] = -np.inf, 1 / 3, 0.1
    return Evaluation(Dataset(tuple(items), names, "made up", "csv", "root"), EncodingParams(words=3), results, (2, 3),
                      {"stride": 8}, {"learn": 1.25} if seconds is None else seconds)


@pytest.fixture(scope="module")
def found():
    return evaluation()


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "new" / "folder"
    files = save(found, folder)
    assert [file.relative_to(folder).as_posix() for file in files] == [
        "evaluation.json", "scores.csv", "classes.csv", "confusion.csv", "confusion.png"]
    assert sorted(folder.iterdir()) == sorted(files)
    return folder


def table(path):
    assert b"\r" not in Path(path).read_bytes()
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


@pytest.fixture(scope="module")
def scores(folder):
    """Rows of scores.csv by channel."""
    header, *rows = table(folder / "scores.csv")
    assert header == ["channel", "split", "path", "start", "end", "label", "predicted", "score_path",
                      'score_say "hi", wave', "score_$x^2$"]
    records = [dict(zip(header, row, strict=True)) for row in rows]
    return {channel: [r for r in records if r["channel"] == channel] for channel in ("hog", COMBINED)}


def test_scores_read_back_as_they_were(found, scores):
    for channel, rows in scores.items():
        n = 0
        for result in found.results:
            for clip, expected in zip(result.split.test, result.scores[channel], strict=True):
                row, item = rows[n], found.dataset.items[clip]
                assert [float(row[f"score_{name}"]) for name in NAMES] == expected.tolist()
                assert row["label"] == item.label
                assert row["split"] == result.split.name
                n += 1
        assert n == len(rows) == 12 + 14
    first, segment = scores["hog"][0], scores["hog"][3]
    assert first["score_path"] == "-inf"
    assert first["predicted"] == NAMES[1]
    assert (first["path"], first["start"], first["end"]) == ("sub/clip, 0.avi", "", "")
    assert (segment["path"], segment["start"], segment["end"]) == ("../elsewhere/long.avi", "1.5", repr(0.1 + 0.2 + 4))


def average_precision(rows, label):
    """Mean over the clips of the class of the share of the class among the clips that score as high."""
    own = [float(r[f"score_{label}"]) for r in rows if r["label"] == label]
    return math.fsum(sum(o >= s for o in own) / sum(float(r[f"score_{label}"]) >= s for r in rows)
                     for s in own) / len(own)


def test_figures_follow_from_the_scores(found, folder, scores):
    report = json.loads((folder / "evaluation.json").read_text())
    for channel, rows in scores.items():
        for row in rows:
            assert row["predicted"] == max(NAMES, key=lambda name, row=row: float(row[f"score_{name}"]))
        right = [r["label"] == r["predicted"] for r in rows]
        by_split = [[ok for ok, r in zip(right, rows, strict=True) if r["split"] == name]
                    for name in ("one", "two, again")]
        by_class = [[ok for ok, r in zip(right, rows, strict=True) if r["label"] == name] for name in NAMES[:2]]
        precisions = [average_precision([r for r in rows if r["split"] == split], label)
                      for split in ("one", "two, again") for label in NAMES[:2]]
        expected = {"accuracy": np.mean(right), "mean_of_splits": np.mean([np.mean(s) for s in by_split]),
                    "mean_class_accuracy": np.mean([np.mean(c) for c in by_class]),
                    "mean_average_precision": np.mean(precisions)}
        assert len(set(expected.values())) == 4
        assert report["channels"][channel] == pytest.approx(expected, rel=1e-12)
        assert report["channels"][channel] == figures(found.scored(channel))
        assert [split["accuracy"][channel] for split in report["splits"]] == [np.mean(s) for s in by_split]
        header, *lines = table(folder / "classes.csv")
        assert header == ["class", "clips", "hog", COMBINED]
        assert [line[0] for line in lines] == list(NAMES)
        column = header.index(channel)
        assert [float(line[column]) for line in lines[:2]] == [np.mean(c) for c in by_class]
        assert [line[1:] for line in lines[2:]] == [["0", "", ""]]
        assert [int(line[1]) for line in lines[:2]] == [len(c) for c in by_class]


def test_the_report_tells_what_was_evaluated(found, folder):
    report = json.loads((folder / "evaluation.json").read_text())
    assert list(report) == ["kind", "format", "package", "dataset", "extraction", "division", "params", "channels",
                            "splits", "empty", "seconds"]
    assert (report["kind"], report["format"]) == ("evaluation", 1)
    assert report["dataset"] == {"name": "made up", "layout": "csv", "clips": 25, "classes": list(NAMES)}
    assert report["extraction"] == {"stride": 8}
    assert report["division"] == {"scheme": "hold-out", "seed": 3}
    assert report["params"] == EncodingParams(words=3).to_dict()
    assert [{k: v for k, v in split.items() if k != "accuracy"} for split in report["splits"]] == [
        {"name": "one", "train": 13, "test": 12, "shared_groups": []},
        {"name": "two, again", "train": 11, "test": 14, "shared_groups": ["g1", "g2"]}]
    assert report["empty"] == [{"path": "sub/clip, 2.avi", "start": None, "end": None},
                               {"path": "../elsewhere/long.avi", "start": 1.5, "end": 0.1 + 0.2 + 4}]
    assert report["seconds"] == {"learn": 1.25}


def test_the_confusion_counts_what_was_taken_for_what(folder, scores):
    header, *rows = table(folder / "confusion.csv")
    assert header == ["label", *NAMES]
    for row, label in zip(rows, NAMES, strict=True):
        assert row == [label, *(str(sum(r["label"] == label and r["predicted"] == name for r in scores[COMBINED]))
                                for name in NAMES)]


def test_equal_evaluations_give_equal_files_but_for_the_times(folder, tmp_path):
    for file in save(evaluation(seconds={"learn": 7.0}), tmp_path):
        ours, theirs = file.read_bytes(), (folder / file.name).read_bytes()
        assert ours.replace(b'"learn": 7.0', b'"learn": 1.25') == theirs


@pytest.mark.parametrize(("count", "width"), [(2, 400), (10, 600), (101, 1800)])
def test_the_picture_shows_the_shares_of_each_class(tmp_path, count, width):
    names = tuple(f"class {n}" for n in range(count)) if count > 2 else ("$\\frac{$", "走る")
    items = tuple(Item(f"{n}.avi", name) for n, name in enumerate(names))
    right = np.eye(count)
    found = Evaluation(Dataset(items, names, "d", "csv", "."), EncodingParams(), (
        SplitResult(Split("s", (0,), tuple(range(count))), {COMBINED: right}),))
    *_, file = save(found, tmp_path)
    picture = cv2.imread(str(file))
    assert width <= picture.shape[1] <= 1.5 * width
    # The darkest colour of the map fills the diagonal: as many cells as classes, and next to nothing elsewhere.
    dark = (np.abs(picture.astype(int) - (107, 48, 8)).max(axis=2) < 8).astype(np.uint8)
    regions, _, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
    cells = [k for k in range(1, regions) if stats[k, 4] > 0.5 * stats[k, 2] * stats[k, 3] and stats[k, 2] > 8]
    across = [k for k in cells if stats[k, 2] < 2 * stats[k, 3] and stats[k, 3] < 2 * stats[k, 2]]
    assert len(across) == count
    assert sorted(across, key=lambda k: stats[k, 0]) == sorted(across, key=lambda k: stats[k, 1])


def test_without_matplotlib_there_is_no_picture_and_a_line_says_why(tmp_path, monkeypatch, caplog):
    (tmp_path / "confusion.png").write_bytes(b"of another evaluation")
    monkeypatch.setattr(idt.recognition.result_files.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING, logger="idt"):
        files = save(evaluation(), tmp_path)
    assert [file.name for file in files] == ["evaluation.json", "scores.csv", "classes.csv", "confusion.csv"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/confusion.png is left out: pictures need matplotlib, pip install matplotlib."]


def test_pictures_leave_the_state_of_pyplot_alone(tmp_path):
    code = ("import sys; sys.path[:0] = sys.argv[2:]; from test_result_files import evaluation, save; "
            "save(evaluation(), sys.argv[1]); print('matplotlib.pyplot' in sys.modules)")
    folders = map(str, list(Path(__file__).parents)[:2])
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path), *folders],
                          capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_report_is_written_last(tmp_path, monkeypatch):
    save(evaluation(), tmp_path)

    def full(*_):
        raise OutputError("no room")

    monkeypatch.setattr(idt.recognition.result_files, "_draw", full)
    with pytest.raises(OutputError, match="no room"):
        save(evaluation(), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["classes.csv", "confusion.csv", "confusion.png",
                                                                  "scores.csv"]


def test_names_that_are_not_utf8_are_kept(tmp_path):
    _, scores, *_ = save(evaluation(("a\udcff", "b", "c")), tmp_path)
    assert b",a\xff,b," in scores.read_bytes()
    assert json.loads((tmp_path / "evaluation.json").read_text())["dataset"]["classes"][0] == "a\udcff"


def test_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "scores.csv").mkdir(parents=True)
    for check in (check_folder, lambda folder: save(evaluation(), folder)):
        with pytest.raises(OutputError, match=r"file/evaluation\.json cannot be written: .*/file is not a folder\.$"):
            check(tmp_path / "file")
        with pytest.raises(OutputError, match=r"scores\.csv cannot be written: it is a folder"):
            check(tmp_path / "folder")
    with pytest.raises(OutputError, match=r"/proc/1.* cannot be written: "):
        check_folder("/proc/1")
    check_folder(tmp_path / "new")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "comparison.json").touch()
    for check in (check_folder, lambda folder: save(evaluation(), folder)):
        with pytest.raises(OutputError, match=r"other holds comparison\.json, whose tables would be replaced: choose "):
            check(tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["comparison.json"]
    assert not re.search("idt", "".join(p.name for p in (tmp_path / "new").iterdir()))
