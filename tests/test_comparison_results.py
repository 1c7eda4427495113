"""comparison_results: every figure recomputed from the saved scores, the table to paste, published figures."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from idt.comparison import Comparison, Row
from idt.comparison_results import save
from idt.datasets import Dataset, Item, Split, splits
from idt.errors import OutputError, ParameterError
from idt.methods import ExternalMethod, FeatureMethod, Fusion
from idt.published import published

NAMES = ["iDT | FV", "net", "both"]
FILES = ["comparison.json", "comparison.md", "methods.csv", "report.html", "scores.csv"]


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
        rows.append(Row(method, scores, seconds[n], sizes[n], ((0.5, 0.5),) * 3 if n == 2 else ()))
    return Comparison(dataset, parts, tuple(rows))


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    assert [path.name for path in save(found, folder, reference="net")] == [
        "comparison.json", "comparison.md", "methods.csv", "scores.csv", "report.html"]
    return folder


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_figure_follows_from_the_saved_scores(found, folder):
    rows, content = table(folder / "scores.csv"), json.loads((folder / "comparison.json").read_text())
    assert len(rows) == 3 * 36
    assert list(rows[0]) == ["method", "split", "path", "start", "end", "label", "predicted", "score_a", "score_b",
                             "score_c"]
    right = {}
    for method in content["methods"]:
        own = [row for row in rows if row["method"] == method["name"]]
        scores = np.array([[float(row[f"score_{label}"]) for label in "abc"] for row in own])
        taken = ["abc"[k] for k in scores.argmax(axis=1)]
        labels = [row["label"] for row in own]
        assert labels == [row["path"][0] for row in own]
        assert taken == [row["predicted"] for row in own]
        hits = right[method["name"]] = np.array([a == b for a, b in zip(taken, labels, strict=True)])
        assert method["accuracy"] == hits.mean()
        parts = [[n for n, row in enumerate(own) if row["split"] == f"fold {k}"] for k in (1, 2, 3)]
        assert method["splits"] == [hits[part].mean() for part in parts]
        assert method["mean_of_splits"] == np.mean(method["splits"])
        assert method["confusion"] == [[sum(a == x and b == y for a, b in zip(labels, taken, strict=True))
                                        for y in "abc"] for x in "abc"]
        assert method["classes"] == [method["confusion"][k][k] / 12 for k in range(3)]
        assert method["mean_class_accuracy"] == pytest.approx(np.mean(method["classes"]))
        precisions = [average_precision_score([labels[n] == label for n in part], scores[part, "abc".index(label)])
                      for part in parts for label in "abc"]
        assert method["mean_average_precision"] == pytest.approx(np.mean(precisions))
        groups = np.array([int(row["path"][2:-4]) // 6 for row in own])
        rng = np.random.default_rng(0)
        drawn = [np.concatenate([hits[groups == g] for g in rng.integers(6, size=6)]).mean() for _ in range(2000)]
        assert method["interval"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    assert len(content["mcnemar"]) == 3
    for test in content["mcnemar"]:
        a, b = right[test["a"]], right[test["b"]]
        assert (test["only_a"], test["only_b"]) == ((a & ~b).sum(), (b & ~a).sum())
        assert test["p"] == pytest.approx(binomtest(test["only_a"], test["only_a"] + test["only_b"]).pvalue)


def test_json_tells_what_was_compared(found, folder):
    content = json.loads((folder / "comparison.json").read_text())
    assert [content[name] for name in ("kind", "format", "tests", "level", "units", "reference", "published")] == [
        "comparison", 1, 36, 0.95, "groups", "net", []]
    assert content["dataset"] == {"name": "made", "layout": "folders", "clips": 36, "classes": ["a", "b", "c"]}
    assert content["division"] == {"scheme": "k-fold", "folds": 3, "seed": 0}
    assert content["splits"][0] == {"name": "fold 1", "train": 24, "test": 12, "shared_groups": []}
    features, net, both = content["methods"]
    assert features["extraction"] == found.rows[0].method.extraction.to_dict()
    assert features["encoding"] == found.rows[0].method.encoding.to_dict()
    assert (net["kind"], net["features"], net["cost"], net["described"]) == (
        "external", "in/net.csv", 10.0, "features in net.csv; cost = 10")
    assert (both["of"], both["fusion"], both["weights"]) == (NAMES[:2], "weighted", [[0.5, 0.5]] * 3)
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
        "made: 36 tests on 3 splits (k-fold). Accuracies in per cent; interval: 95 %, bootstrap over groups. p: "
        "McNemar's test against net (exact, two-sided). Time in seconds of one processor core, extraction included; "
        "disk: features in MB.")]


def test_a_single_method_has_no_p(found, tmp_path):
    save(replace(found, rows=found.rows[1:2]), tmp_path)
    text = (tmp_path / "comparison.md").read_text()
    assert text.startswith("| method | accuracy | interval | mean class accuracy | mAP | time, s | disk, MB |\n")
    assert "McNemar" not in text


def test_the_same_comparison_gives_the_same_files(found, folder, tmp_path):
    (tmp_path / "comparison.json").write_text("of an earlier one")
    save(found, tmp_path, reference="net")
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_report_begins_with_the_reference_and_the_best_other(found, folder):
    best = max((NAMES[0], NAMES[2]), key=found.accuracy)
    assert f'"pair":[1,{NAMES.index(best)}]' in (folder / "report.html").read_text()


def test_where_there_is_json_all_files_belong_to_it(found, tmp_path):
    save(found, tmp_path)
    (tmp_path / "methods.csv").unlink()
    (tmp_path / "methods.csv").mkdir()
    with pytest.raises(OutputError, match=r"methods\.csv cannot be written: it is a folder"):
        save(found, tmp_path)
    assert not (tmp_path / "comparison.json").exists()


def test_what_cannot_be_saved(found, tmp_path):
    with pytest.raises(ParameterError, match=r"^'nett' is no method of the comparison; did you mean net\? The "):
        save(found, tmp_path, reference="nett")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written: .*file is not a folder\.$"):
        save(found, tmp_path / "file")


@pytest.mark.parametrize(("name", "layout", "classes", "expected"), [
    ("HMDB51", "folders", 51, [46.6, 57.2]), ("x", "hmdb51", 51, [46.6, 57.2]),
    ("UCF-50", "folders", 50, [84.5, 91.2]),
    ("UCF-101", "ucf101", 101, [85.9, 88.0, 90.4, 94.2]), ("UCF-101", "ucf101", 11, []), ("UCF101", "folders", 50, []),
    ("weizmann", "weizmann", 10, [])])
def test_figures_are_published_of_known_datasets_alone(name, layout, classes, expected):
    dataset = Dataset((), tuple(map(str, range(classes))), name, layout, ".")
    assert [round(100 * one.accuracy, 1) for one in published(dataset)] == expected
    assert all(one.source and one.method for one in published(dataset))


def test_published_figures_are_marked(tmp_path):
    items = tuple(Item(f"{n}.avi", f"c{n}") for n in range(50))
    dataset = Dataset(items, tuple(f"c{n}" for n in range(50)), "UCF50", "folders", ".")
    part = Split("split", (), tuple(range(50)), division={"scheme": "official"})
    row = Row(ExternalMethod(name="m", scores=Path("m.csv")), (np.eye(50),), {}, {})
    save(Comparison(dataset, (part,), (row,)), tmp_path)
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    assert lines[0].startswith("| method | accuracy | interval | mean of splits | mean class accuracy |")
    assert lines[3:] == ["", (
        "UCF50: 50 tests on 1 split (official). Accuracies in per cent; interval: 95 %, bootstrap over videos. Time in "
        "seconds of one processor core, extraction included; disk: features in MB."), "",
        "Published figures, which were not computed here:", "",
        "| method | accuracy | source |", "| --- | ---: | --- |",
        "| dense trajectories, bags of words | 84.5 | Wang, Kläser, Schmid and Liu, IJCV 2013 |",
        "| improved dense trajectories, Fisher vectors | 91.2 | Wang and Schmid, ICCV 2013 |"]
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["published"][0] == {"method": "dense trajectories, bags of words", "accuracy": 0.845,
                                       "source": "Wang, Kläser, Schmid and Liu, IJCV 2013"}
