"""comparison_results: every figure recomputed from the saved scores, the table to paste, published figures."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recomputed

import idt.comparison.result_files
from idt.comparison.methods import ExternalMethod, FeatureMethod, Fusion
from idt.comparison.published import not_comparable, published
from idt.comparison.result_files import check_comparison_folder, figures_of, save
from idt.comparison.run import Comparison, Row
from idt.errors import OutputError, ParameterError
from idt.recognition.datasets import Dataset, Item, Split, splits

NAMES = ["iDT | FV", "net", "both"]
FILES = ["comparison.json", "comparison.md", "report.html", "methods.csv", "splits.csv", "classes.csv", "confusion.csv",
         "weights.csv", "mcnemar.csv", "scores.csv"]


@pytest.fixture(scope="module")
def found():
    """Three methods with random scores on six groups of six clips of three classes."""
    items = tuple(Item(f"/d/{'abc'[n % 3]}/{n}.avi", "abc"[n % 3], f"g{n // 6}") for n in range(36))
    dataset = Dataset(items, ("a", "b", "c"), "made", "folders", "/d")
    parts = tuple(splits(dataset, "k-fold", folds=3))
    rng = np.random.default_rng(0)
    methods = [FeatureMethod(name=NAMES[0]), ExternalMethod(name=NAMES[1], features=Path("in/net.csv"), cost=10.0),
               Fusion(name=NAMES[2], of=(NAMES[0], NAMES[1]), how="weighted")]
    seconds = [{"extract": 200.5, "learn": 2.0, "encode": 3.0, "classify": 0.25}, {"classify": 0.125}, {"learn": 2.0}]
    sizes = [{"features": 123_400_000, "vectors": 5000}, {"features": 1234, "vectors": 10}, {}]
    rows = []
    for n, method in enumerate(methods):
        scores = tuple(rng.normal(size=(len(part.test), 3)) + n * np.eye(3)[np.array(part.test) % 3] for part in parts)
        rows.append(Row(method, scores, seconds[n], sizes[n], ((0.5, 0.5), (0.4, 0.6), (0.5, 0.5)) if n == 2 else ()))
    return Comparison(dataset, parts, tuple(rows))


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    assert [path.name for path in save(found, folder, reference="net")] == FILES
    return folder


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_figure_follows_from_the_saved_scores(found, folder):
    items = found.dataset.items
    saved = recomputed.read(folder, {item.path.removeprefix("/d/"): item.group for item in items})
    assert len(saved.first.clips) == 36
    assert all(path[0] == label for (path, *_), label in zip(saved.first.clips, saved.first.labels, strict=True))
    for check in (recomputed.check_json, recomputed.check_tables, recomputed.check_markdown,
                  recomputed.check_page_data):
        check(saved)


def test_json_tells_what_was_compared(found, folder):
    content = json.loads((folder / "comparison.json").read_text())
    assert [content[name] for name in ("kind", "format", "tests", "scheme", "reference", "published", "published_note")
            ] == ["comparison", 1, 36, "k-fold", "net", [], None]
    assert content["bootstrap"] == {"level": 0.95, "samples": 2000, "seed": 0, "drawn": 6, "units": "groups"}
    assert content["dataset"] == {"name": "made", "layout": "folders", "clips": 36, "classes": ["a", "b", "c"]}
    assert content["division"] == {"scheme": "k-fold", "folds": 3, "seed": 0}
    assert content["splits"][0] == {"name": "fold 1", "train": 24, "test": 12, "shared_groups": []}
    features, net, both = content["methods"]
    assert features["extraction"] == found.rows[0].method.extraction.to_dict()
    assert features["encoding"] == found.rows[0].method.encoding.to_dict()
    assert (net["kind"], net["features"], net["cost"], net["described"]) == (
        "external", "in/net.csv", 10.0, "features in net.csv; cost = 10")
    assert (both["of"], both["fusion"]) == (NAMES[:2], "weighted")
    assert both["weights"] == [[0.5, 0.5], [0.4, 0.6], [0.5, 0.5]]
    assert [one["time"] for one in content["methods"]] == [205.75, None, None]
    assert features["seconds"] == found.rows[0].seconds


def test_the_table_of_methods(folder):
    rows, content = table(folder / "methods.csv"), json.loads((folder / "comparison.json").read_text())
    assert [row["method"] for row in rows] == NAMES
    for row, method in zip(rows, content["methods"], strict=True):
        for name in ("accuracy", "mean_of_splits", "mean_class_accuracy", "mean_average_precision"):
            assert float(row[name]) == method[name]
        assert [float(row["low"]), float(row["high"])] == method["interval"]
    assert [rows[0][name] for name in ("extract", "learn", "encode", "classify", "time", "features", "vectors")] == [
        "200.5", "2.0", "3.0", "0.25", "205.75", "123400000", "5000"]
    assert [rows[2][name] for name in ("extract", "learn", "time", "features")] == ["", "2.0", "", ""]


def test_the_tables_hold_what_the_json_holds(folder):
    content = json.loads((folder / "comparison.json").read_text())
    methods = {one["name"]: one for one in content["methods"]}
    rows = table(folder / "splits.csv")
    assert [(row["method"], row["split"]) for row in rows] == [(name, f"fold {k}") for name in NAMES for k in (1, 2, 3)]
    for n, row in enumerate(rows):
        assert float(row["accuracy"]) == methods[row["method"]]["splits"][n % 3] == int(row["right"]) / 12
        assert (row["train"], row["test"]) == ("24", "12")
    rows = table(folder / "classes.csv")
    assert [(row["method"], row["class"]) for row in rows] == [(name, label) for name in NAMES for label in "abc"]
    for n, row in enumerate(rows):
        assert float(row["accuracy"]) == methods[row["method"]]["classes"][n % 3] == int(row["right"]) / 12
        assert row["clips"] == "12"
    counts = np.zeros((3, 3, 3), int)
    for row in table(folder / "confusion.csv"):
        assert int(row["clips"]) > 0
        place = NAMES.index(row["method"]), "abc".index(row["class"]), "abc".index(row["taken_for"])
        counts[place] += int(row["clips"])
    assert counts.tolist() == [methods[name]["confusion"] for name in NAMES]
    assert [list(row.values()) for row in table(folder / "weights.csv")] == [
        ["both", f"fold {k}", name, weight] for k, weights in ((1, "0.5 0.5"), (2, "0.4 0.6"), (3, "0.5 0.5"))
        for name, weight in zip(NAMES, weights.split(), strict=False)]
    rows = table(folder / "mcnemar.csv")
    assert [{name: value if name in "ab" else float(value) for name, value in row.items()} for row in rows] == \
        content["mcnemar"]


def test_a_class_without_a_test_has_an_empty_accuracy(found, tmp_path):
    part = Split("s", tuple(range(36)), tuple(n for n in range(36) if n % 3))
    row = replace(found.rows[1], scores=(np.eye(3)[np.array(part.test) % 3],))
    save(replace(found, splits=(part,), rows=(row,)), tmp_path)
    assert [list(row.values())[1:] for row in table(tmp_path / "classes.csv")] == [
        ["a", "0", "0", ""], ["b", "12", "12", "1.0"], ["c", "12", "12", "1.0"]]
    (method,) = json.loads((tmp_path / "comparison.json").read_text())["methods"]
    assert (method["classes"], method["mean_class_accuracy"]) == ([None, 1.0, 1.0], 1.0)
    assert '"about":"24 test clips of 3 classes, 1 given split"' in (tmp_path / "report.html").read_text()


def test_the_table_to_paste(found, folder):
    lines = (folder / "comparison.md").read_text().splitlines()
    assert lines[:2] == ["| method | accuracy | interval | mean class accuracy | mAP | p | time, s | disk, MB |",
                         "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for line, name, ending in zip(lines[2:5], [r"iDT \| FV", "net", "both"], [
            "206 | 123 |", "- | 0.00123 |", "- | - |"], strict=True):
        method = name.replace("\\", "")
        low, high = found.interval(method)
        p = "-" if name == "net" else f"{found.mcnemar(method, 'net').p:.2g}"
        assert line.startswith(f"| {name} | {100 * found.accuracy(method):.1f} | {100 * low:.1f}–{100 * high:.1f} | ")
        assert line.endswith(f" | {p} | {ending}")
    assert lines[5:] == ["", (
        "made: 36 clips of 3 classes, 36 tests on 3 splits (k-fold). Accuracies in per cent; interval: 95 %, bootstrap "
        "over 6 groups (2000 draws). p: McNemar's test against net (exact, two-sided). Time in seconds of one "
        f"processor core, extraction included; disk: features in MB. Made by densetraj {idt.__version__}."), "",
        *(f"- {name}: {row.method.described}".replace("|", r"\|") for name, row in zip(NAMES, found.rows, strict=True))]


def test_a_single_method_has_no_p(found, tmp_path):
    save(replace(found, rows=found.rows[1:2]), tmp_path)
    text = (tmp_path / "comparison.md").read_text()
    assert text.startswith("| method | accuracy | interval | mean class accuracy | mAP | time, s | disk, MB |\n")
    assert "McNemar" not in text
    assert not (tmp_path / "mcnemar.csv").exists()


def test_the_same_comparison_gives_the_same_files(found, folder, tmp_path):
    for name in (*FILES, "published.csv"):
        (tmp_path / name).write_text("of an earlier one")
    save(found, tmp_path, reference="net")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_pair_is_the_reference_and_the_best_other_that_differs(found, folder):
    best = max((NAMES[0], NAMES[2]), key=found.accuracy)
    assert json.loads((folder / "comparison.json").read_text())["pair"] == ["net", best]
    assert f'"pair":["net","{best}"]' in (folder / "report.html").read_text()
    twin, worst = replace(found.rows[2], method=ExternalMethod(name="twin", scores=Path("t.csv"))), found.rows[1]
    assert figures_of(replace(found, rows=(found.rows[2], twin, worst)))["pair"] == ["both", "net"]
    assert figures_of(replace(found, rows=(found.rows[2], twin)))["pair"] == ["both", "twin"]
    assert figures_of(replace(found, rows=(twin,)))["pair"] is None


def test_where_there_is_json_all_files_belong_to_it(found, tmp_path):
    save(found, tmp_path)
    (tmp_path / "methods.csv").unlink()
    (tmp_path / "methods.csv").mkdir()
    with pytest.raises(OutputError, match=r"methods\.csv cannot be written: it is a folder"):
        save(found, tmp_path)
    assert not (tmp_path / "comparison.json").exists()


def test_figures_are_there_when_drawing_is_interrupted(found, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    save(found, tmp_path)
    tables = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in (".csv", ".md")}
    for path in tables:
        path.unlink()
    monkeypatch.setattr(idt.comparison.result_files, "page", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(found, tmp_path)
    left = {path: path.read_bytes() for path in tmp_path.iterdir() if path.name != "comparison.json"}
    assert left == tables  # and nothing of the earlier one
    assert json.loads((tmp_path / "comparison.json").read_text())["methods"][0]["name"] == NAMES[0]


def test_what_cannot_be_saved(found, tmp_path):
    with pytest.raises(ParameterError, match=r"^'nett' is no method of the comparison; did you mean net\? The "):
        save(found, tmp_path, reference="nett")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written: .*file is not a folder\.$"):
        save(found, tmp_path / "file")
    (tmp_path / "evaluation.json").touch()
    for check in (check_comparison_folder, lambda folder: save(found, folder)):
        with pytest.raises(OutputError, match=r"holds evaluation\.json, whose tables would be replaced: choose "):
            check(tmp_path)


@pytest.mark.parametrize(("name", "layout", "classes", "expected"), [
    ("HMDB51", "folders", 51, [46.6, 57.2]), ("x", "hmdb51", 51, [46.6, 57.2]),
    ("UCF-50", "folders", 50, [84.5, 91.2]),
    ("UCF-101", "ucf101", 101, [85.9, 88.0, 90.4, 94.2]), ("UCF-101", "ucf101", 11, []), ("UCF101", "folders", 50, []),
    ("weizmann", "weizmann", 10, [])])
def test_figures_are_published_of_known_datasets_alone(name, layout, classes, expected):
    dataset = Dataset((), tuple(map(str, range(classes))), name, layout, ".")
    assert [round(100 * one.accuracy, 1) for one in published(dataset)] == expected
    assert all(one.source and one.method and one.protocol for one in published(dataset))


@pytest.mark.parametrize(("classes", "name", "scheme", "tests", "expected"), [
    (101, "UCF101", "official", (3783, 3734, 3696), None),
    (51, "HMDB51", "official", (1530,) * 3, None),
    (50, "UCF50", "leave-one-group-out", (265,) * 25, None),
    (10, "weizmann", "k-fold", (10,), None),
    (51, "HMDB51", "official", (1530,), "has 1,530 tests on 1 official split, the published figures are of 4,590 on 3 "
                                        "official splits."),
    (101, "UCF101", "k-fold", (4440,) * 3, "has 13,320 tests on 3 k-fold splits, the published figures are of 11,213 "
                                           "on 3 official splits."),
    (50, "UCF50", "leave-one-group-out", (200,) * 25, "has 5,000 tests on 25 leave-one-group-out splits, the published "
                                                      "figures are of 6,618 on 25 leave-one-group-out splits."),
    (50, "UCF50", "leave-one-group-out", (1324,) * 5, "has 6,620 tests on 5 leave-one-group-out splits, the published "
                                                      "figures are of 6,618 on 25 leave-one-group-out splits."),
    (50, "UCF50", None, (1,), "has 1 test on 1 given split, the published figures are of 6,618 on 25 leave-one-group-"
                              "out splits.")])
def test_it_is_told_where_published_figures_are_of_other_splits(classes, name, scheme, tests, expected):
    dataset = Dataset((), tuple(map(str, range(classes))), name, "folders", ".")
    parts = [Split("s", (), tuple(range(n)), division={"scheme": scheme} if scheme else {}) for n in tests]
    assert not_comparable(dataset, parts) == (expected and f"Not comparable as it stands: this comparison {expected}")


def test_published_figures_are_marked(tmp_path):
    items = tuple(Item(f"{n}.avi", f"c{n}") for n in range(50))
    dataset = Dataset(items, tuple(f"c{n}" for n in range(50)), "UCF50", "folders", ".")
    part = Split("split", (), tuple(range(50)), division={"scheme": "official"})
    row = Row(ExternalMethod(name="m", scores=Path("m.csv")), (np.eye(50),), {}, {})
    save(Comparison(dataset, (part,), (row,)), tmp_path)
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    assert lines[0].startswith("| method | accuracy | interval | mean of splits | mean class accuracy |")
    assert lines[3:] == ["", (
        "UCF50: 50 clips of 50 classes, 50 tests on 1 split (official). Accuracies in per cent; interval: 95 %, "
        "bootstrap over 50 videos (2000 draws). An interval without width tells of no error to come: the bootstrap "
        "draws what was seen. Time in seconds of one processor core, extraction included; disk: features in MB. Made "
        f"by densetraj {idt.__version__}."), "", "- m: scores in m.csv", "", (
        "Published figures, which were not computed here. Not comparable as it stands: this comparison has 50 tests on "
        "1 official split, the published figures are of 6,618 on 25 leave-one-group-out splits."), "",
        "| method | accuracy | protocol | source |", "| --- | ---: | --- | --- |",
        "| dense trajectories, bags of words | 84.5 | each of 25 groups left out in turn, mean of the classes | Wang, "
        "Kläser, Schmid and Liu, IJCV 2013 |",
        "| improved dense trajectories, Fisher vectors | 91.2 | each of 25 groups left out in turn, mean of the "
        "classes | Wang and Schmid, ICCV 2013 |"]
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["published"][0] == {
        "method": "dense trajectories, bags of words", "accuracy": 0.845,
        "protocol": "each of 25 groups left out in turn, mean of the classes",
        "source": "Wang, Kläser, Schmid and Liu, IJCV 2013"}
    assert [(row["accuracy"], row["source"]) for row in table(tmp_path / "published.csv")] == [
        ("0.845", "Wang, Kläser, Schmid and Liu, IJCV 2013"), ("0.912", "Wang and Schmid, ICCV 2013")]
    recomputed.check(recomputed.read(tmp_path, {}))  # no file of weights among others
