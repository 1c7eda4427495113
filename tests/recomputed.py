"""Every figure of a comparison computed anew from its saved scores, without the package, and held against its files.

Nothing but plain Python is used, and NumPy for the draws of the bootstrap. What cannot follow from scores, times and
sizes, is taken from ``comparison.json`` and must be the same in all files.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser

LEVEL, DRAWS, SEED = 0.95, 2000, 0
FIGURES = ("accuracy", "mean_of_splits", "mean_class_accuracy", "mean_average_precision")


# --- what follows from scores --------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Method:
    """The tests of a method, split after split."""

    name: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    """Of each test, as all that follows."""
    clips: tuple[tuple[str, ...], ...]
    units: tuple[str, ...]
    labels: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]

    @cached_property
    def predicted(self) -> list[str]:
        return [self.classes[scores.index(max(scores))] for scores in self.scores]

    @cached_property
    def right(self) -> list[bool]:
        return [label == taken for label, taken in zip(self.labels, self.predicted, strict=True)]

    @property
    def accuracy(self) -> Fraction:
        return Fraction(sum(self.right), len(self.right))

    @property
    def by_split(self) -> dict[str, Fraction]:
        """In the order in which they stand."""
        return self._shares(self.splits)

    @property
    def by_class(self) -> dict[str, Fraction]:
        return self._shares(self.labels)

    def _shares(self, kinds: Sequence[str]) -> dict[str, Fraction]:
        tests, hits = Counter(kinds), Counter(kind for kind, hit in zip(kinds, self.right, strict=True) if hit)
        return {kind: Fraction(hits[kind], tests[kind]) for kind in dict.fromkeys(kinds)}

    @property
    def confusion(self) -> list[list[int]]:
        counts = Counter(zip(self.labels, self.predicted, strict=True))
        return [[counts[label, other] for other in self.classes] for label in self.classes]

    @property
    def average_precision(self) -> float:
        """The mean over splits and the classes that they test."""
        found = []
        for split in dict.fromkeys(self.splits):
            tests = [n for n, name in enumerate(self.splits) if name == split]
            for k, label in enumerate(self.classes):
                wanted = {n for n in tests if self.labels[n] == label}
                if not wanted:
                    continue
                taken = hits = area = 0.0
                ranked = sorted(tests, key=lambda n: -self.scores[n][k])
                for _, equal in groupby(ranked, key=lambda n: self.scores[n][k]):
                    more = list(equal)
                    gained = len(wanted & set(more))
                    taken, hits = taken + len(more), hits + gained
                    area += gained / len(wanted) * hits / taken
                found.append(area)
        return math.fsum(found) / len(found)

    @cached_property
    def interval(self) -> list[float]:
        """Of the accuracies that drawn units have, all tests of a unit together."""
        units = sorted(set(self.units))
        tests, hits = Counter(self.units), Counter(u for u, hit in zip(self.units, self.right, strict=True) if hit)
        rng = np.random.default_rng(SEED)
        drawn = []
        for _ in range(DRAWS):
            chosen = [units[k] for k in rng.integers(len(units), size=len(units))]
            drawn.append(sum(hits[u] for u in chosen) / sum(tests[u] for u in chosen))
        drawn.sort()
        ends = []
        for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
            place = share * (DRAWS - 1)
            below = math.floor(place)
            ends.append(drawn[below] + (place - below) * (drawn[min(below + 1, DRAWS - 1)] - drawn[below]))
        return ends

    @property
    def figures(self) -> dict[str, float]:
        shares = self.by_split, self.by_class
        means = [float(sum(each.values()) / len(each)) for each in shares]
        return dict(zip(FIGURES, (float(self.accuracy), *means, self.average_precision), strict=True))


def mcnemar(a: Method, b: Method) -> dict[str, Any]:
    """McNemar's test of two methods, as comparison.json has it."""
    only_a = sum(x and not y for x, y in zip(a.right, b.right, strict=True))
    only_b = sum(y and not x for x, y in zip(a.right, b.right, strict=True))
    both, apart = only_a + only_b, abs(only_a - only_b)
    tail = sum(math.comb(both, k) for k in range(min(only_a, only_b) + 1))
    return {"a": a.name, "b": b.name, "only_a": only_a, "only_b": only_b,
            "statistic": pytest.approx(max(apart - 1, 0) ** 2 / both if both else 0.0),
            "p": pytest.approx(min(1.0, float(Fraction(2 * tail, 2 ** both))))}


@dataclass(frozen=True)
class Comparison:
    """The files of a comparison and what follows from the scores among them."""

    folder: Path
    methods: dict[str, Method]
    content: dict[str, Any]
    """Of comparison.json."""

    @property
    def first(self) -> Method:
        return next(iter(self.methods.values()))

    @property
    def described(self) -> list[dict[str, Any]]:
        described: list[dict[str, Any]] = self.content["methods"]
        return described


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read(folder: Path, groups: Mapping[str, str]) -> Comparison:
    """Read the files of a comparison of clips whose groups are known by their path below the dataset."""
    content = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    classes = tuple(content["dataset"]["classes"])
    rows = rows_of(folder / "scores.csv")
    assert list(rows[0]) == ["method", "split", "path", "start", "end", "label", "predicted",
                             *(f"score_{label}" for label in classes)]
    within = content["bootstrap"]["units"] == "groups within classes"
    methods = {}
    for name, lines in groupby(rows, key=lambda row: row["method"]):
        assert name not in methods
        own = list(lines)
        units = [groups.get(row["path"], row["path"]) for row in own]
        methods[name] = Method(
            name, classes, tuple(row["split"] for row in own),
            tuple((row["path"], row["start"], row["end"]) for row in own),
            tuple(f"{row['label']}/{unit}" if within else unit for row, unit in zip(own, units, strict=True)),
            tuple(row["label"] for row in own),
            tuple(tuple(float(row[f"score_{label}"]) for label in classes) for row in own))
        assert methods[name].predicted == [row["predicted"] for row in own]
    return Comparison(folder, methods, content)


def check(found: Comparison) -> None:
    """Hold all files against the scores."""
    check_json(found)
    check_fusions(found)
    check_tables(found)
    check_markdown(found)
    check_page_data(found)


# --- files ---------------------------------------------------------------------------------------------------------

def check_json(found: Comparison) -> None:
    content, first = found.content, found.first
    assert [method["name"] for method in found.described] == list(found.methods)
    assert content["tests"] == len(first.labels)
    assert [(split["name"], split["test"]) for split in content["splits"]] == list(Counter(first.splits).items())
    assert content["bootstrap"] == {"level": LEVEL, "samples": DRAWS, "seed": SEED, "drawn": len(set(first.units)),
                                    "units": content["bootstrap"]["units"]}
    assert content["pair"] == first_pair(found)
    for told, method in zip(found.described, found.methods.values(), strict=True):
        # The same tests in the same order.
        assert (method.splits, method.clips, method.labels) == (first.splits, first.clips, first.labels)
        assert {name: told[name] for name in FIGURES} == pytest.approx(method.figures, abs=1e-12)
        assert told["interval"] == pytest.approx(method.interval)
        assert told["splits"] == pytest.approx([float(share) for share in method.by_split.values()])
        assert told["classes"] == [None if label not in method.by_class else pytest.approx(
            float(method.by_class[label])) for label in method.classes]
        assert told["confusion"] == method.confusion
        assert told["time"] == (pytest.approx(sum(told["seconds"].values())) if "extract" in told["seconds"] else None)
    assert content["mcnemar"] == [mcnemar(a, b) for a, b in combinations(found.methods.values(), 2)]


def check_fusions(found: Comparison) -> None:
    """Hold the scores of fusions against those that they are made of; all must be finite."""
    for told in found.described:
        if told["kind"] != "fusion" or told["fusion"] == "concatenation":
            continue
        fused = found.methods[told["name"]]
        parts = [found.methods[name] for name in told["of"]]
        if told["fusion"] == "weighted":
            for number, split in enumerate(fused.by_split):
                tests = [n for n, name in enumerate(fused.splits) if name == split]
                whole, *tables = (np.array([method.scores[n] for n in tests]).ravel() for method in (fused, *parts))
                # Each weight over a spread that only the training side tells.
                factors, *_ = np.linalg.lstsq(np.stack(tables, axis=1), whole)
                assert whole == pytest.approx(sum(map(np.multiply, factors, tables)), abs=1e-9 * np.abs(whole).max())
                weights = told["weights"][number]
                assert sum(weights) == pytest.approx(1)
                assert [10 * weight for weight in weights] == pytest.approx([round(10 * weight) for weight in weights])
                assert [factor > 1e-9 for factor in factors] == [weight > 0 for weight in weights]
            continue
        assert told["weights"] == []
        for n, scores in enumerate(fused.scores):
            tables = [part.scores[n] for part in parts]
            if told["fusion"] == "rank":
                tables = [ranks(table, len(parts)) for table in tables]
            expected = [math.fsum(values) / len(parts) for values in zip(*tables, strict=True)]
            assert scores == pytest.approx(expected)


def ranks(scores: Sequence[float], parts: int) -> list[float]:
    """How many scores are lower, equal ones counting half, and by what equal classes are told apart."""
    mean = math.fsum(scores) / len(scores)
    length = math.dist(scores, [mean] * len(scores)) or 1.0
    counts = [sum((other < score) + (other == score) / 2 for other in scores) - 0.5 for score in scores]
    return [count + (score - mean) / (5 * length * parts) for count, score in zip(counts, scores, strict=True)]


def check_tables(found: Comparison) -> None:
    """Hold the CSV files against the scores; one without a row must not be there."""
    methods, content = found.methods.values(), found.content
    check_costs(found, rows_of(found.folder / "methods.csv"))
    counts = [(method, label, row) for method in methods
              for label, row in zip(method.classes, method.confusion, strict=True)]
    expected: dict[str, list[list[Any]]] = {
        "splits.csv": [["method", "split", "train", "test", "right", "accuracy"]] + [
            [method.name, split["name"], split["train"], split["test"], share * split["test"], float(share)]
            for method in methods
            for split, share in zip(content["splits"], method.by_split.values(), strict=True)],
        "classes.csv": [["method", "class", "clips", "right", "accuracy"]] + [
            [method.name, label, sum(row), row[method.classes.index(label)],
             float(method.by_class[label]) if any(row) else ""] for method, label, row in counts],
        "confusion.csv": [["method", "class", "taken_for", "clips"]] + [
            [method.name, label, other, n] for method, label, row in counts
            for other, n in zip(method.classes, row, strict=True) if n],
        "weights.csv": [["method", "split", "of", "weight"]] + [
            [told["name"], split["name"], name, weight] for told in found.described if told["weights"]
            for split, weights in zip(content["splits"], told["weights"], strict=True)
            for name, weight in zip(told["of"], weights, strict=True)],
        "mcnemar.csv": [["a", "b", "only_a", "only_b", "statistic", "p"]] + [
            [test[key] for key in ("a", "b", "only_a", "only_b")] + [test["statistic"].expected, test["p"].expected]
            for test in (mcnemar(a, b) for a, b in combinations(methods, 2))],
        "published.csv": [["method", "accuracy", "protocol", "source"]] + [
            [one[key] for key in ("method", "accuracy", "protocol", "source")] for one in content["published"]]}
    for name, rows in expected.items():
        if len(rows) == 1:
            assert not (found.folder / name).exists()
            continue
        with open(found.folder / name, encoding="utf-8", newline="") as file:
            cells = list(csv.reader(file))
        assert len(cells) == len(rows)
        for line, row in zip(cells, rows, strict=True):
            assert [cell if isinstance(value, str) else float(cell) for cell, value in zip(line, row, strict=True)] == [
                value if isinstance(value, str) else pytest.approx(float(value)) for value in row]


def check_costs(found: Comparison, rows: list[dict[str, str]]) -> None:
    """Hold the figures of each method, with what it took, against the scores."""
    assert [row["method"] for row in rows] == list(found.methods)
    for row, told, method in zip(rows, found.described, found.methods.values(), strict=True):
        assert {name: float(row[name]) for name in FIGURES} == pytest.approx(method.figures, abs=1e-12)
        assert [float(row["low"]), float(row["high"])] == pytest.approx(method.interval)
        assert [row[name] for name in ("kind", "described")] == [told[name] for name in ("kind", "described")]
        costs = told["seconds"] | told["bytes"] | {"time": told["time"]}
        for name in ("extract", "learn", "encode", "classify", "time", "features", "vectors"):
            assert row[name] == ("" if costs.get(name) is None else str(costs[name]))


def near(text: str, value: float) -> bool:
    """Whether a number that is shown is the value, rounded to the places it has."""
    shown = Decimal(text.replace(",", "").replace("\N{MINUS SIGN}", "-").lstrip("±+"))
    return abs(shown - Decimal(value)) <= Decimal(10) ** int(shown.as_tuple().exponent) / 2 + Decimal("1e-9")


def percent(text: str, share: float | Fraction) -> bool:
    return bool(re.search(r"\d\.\d$", text)) and near(text, float(100 * share))


def check_markdown(found: Comparison) -> None:
    text = (found.folder / "comparison.md").read_text(encoding="utf-8")
    table, note, methods, *_ = text.split("\n\n")
    head, _, *lines = ([re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                       for line in table.splitlines())
    titles = {"accuracy": "accuracy", "mean class accuracy": "mean_class_accuracy", "mAP": "mean_average_precision"}
    scheme = found.content["scheme"]
    if scheme == "official":
        titles["mean of splits"] = "mean_of_splits"
    assert set(head) == {"method", "interval", *titles, *(["p"] if len(lines) > 1 else []), "time, s", "disk, MB"}
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row["method"] for row in rows] == list(found.methods)
    reference = found.methods[found.content["reference"]]
    for row, told, method in zip(rows, found.described, found.methods.values(), strict=True):
        assert all(percent(row[title], method.figures[name]) for title, name in titles.items())
        ends = row["interval"].split("–")
        assert all(map(percent, ends, method.interval))
        assert len(ends) == 2
        if len(rows) > 1:
            assert row["p"] == "-" if method is reference else row["p"] == f"{expected_p(method, reference):.2g}"
        size = told["bytes"].get("features")
        for title, value in (("time, s", told["time"]), ("disk, MB", None if size is None else size / 1e6)):
            assert row[title] == "-" if value is None else near(row[title], value)
    splits = len(found.first.by_split)
    assert f", {len(found.first.labels)} tests on {splits} {'split' if splits == 1 else 'splits'} ({scheme})." in note
    units = f"{len(set(found.first.units))} {found.content['bootstrap']['units']}"
    assert f" interval: 95 %, bootstrap over {units} (2000 draws)." in note
    assert ("without width" in note) == any(low == high for low, high in (
        method.interval for method in found.methods.values()))
    assert ("McNemar's test against" in note) == (len(rows) > 1)
    assert [re.sub(r"\\(.)", r"\1", line) for line in methods.splitlines()] == [
        f"- {told['name']}: {told['described']}" for told in found.described]


def check_page_data(found: Comparison) -> None:
    """Hold what a script in the page draws from against the scores."""
    text = (found.folder / "report.html").read_text(encoding="utf-8")
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert match is not None
    data, first = json.loads(match[1]), found.first
    assert data["comparison"] == found.content
    tests = data["tests"]
    clips = [data["clips"][str(n)] for n in tests["clip"]]
    assert [(clip["path"], *("" if clip[end] is None else str(clip[end]) for end in ("start", "end")))
            for clip in clips] == list(first.clips)
    assert [found.content["splits"][n]["name"] for n in tests["split"]] == list(first.splits)
    assert [first.classes[n] for n in tests["label"]] == list(first.labels)
    assert [[first.classes[n] for n in taken] for taken in tests["predicted"]] == [
        method.predicted for method in found.methods.values()]


def expected_p(a: Method, b: Method) -> float:
    p: float = mcnemar(a, b)["p"].expected
    return p


# --- the page in a browser -----------------------------------------------------------------------------------------

def cells(browser: Browser, selector: str) -> list[list[str]]:
    """The texts of the children of each element."""
    found: list[list[str]] = browser.run(f"[...document.querySelectorAll({json.dumps(selector)})].map("
                                         "row => [...row.children].map(cell => cell.innerText))")
    return found


def text(browser: Browser, name: str) -> str:
    shown: str = browser.run(f"document.getElementById({name!r}).innerText")
    return shown.replace("\N{NO-BREAK SPACE}", " ")


def select(browser: Browser, name: str, value: object) -> None:
    browser.run(f"document.getElementById({name!r}).value = {value!r}; "
                f"document.getElementById({name!r}).dispatchEvent(new Event('change'))")


def check_page(found: Comparison, browser: Browser) -> None:
    """Open the report and hold all that it shows against the scores."""
    browser.open((found.folder / "report.html").resolve(), still=True)
    check_accuracies(found, browser)
    for number, method in enumerate(found.methods.values()):
        select(browser, "matrix-row", number)
        check_matrix(method, browser)
    if len(found.methods) > 1:
        shown = browser.run("['a', 'b'].map(id => Number(document.getElementById(id).value))")
        assert [list(found.methods)[number] for number in shown] == first_pair(found)
    pairs = list(combinations(enumerate(found.methods.values()), 2))
    for (a, first), (b, second) in [*pairs, *(pair[::-1] for pair in pairs[:1])]:
        select(browser, "a", a)
        select(browser, "b", b)
        check_difference(first, second, browser)
        check_clips(first, second, browser)
    assert browser.complaints == []


def first_pair(found: Comparison) -> list[str] | None:
    """The reference and the best of the others, of those that differ from it if one does."""
    if len(found.methods) == 1:
        return None
    reference = found.methods[found.content["reference"]]
    others = [method for method in found.methods.values() if method is not reference]
    others = [method for method in others if method.predicted != reference.predicted] or others
    return [reference.name, max(others, key=lambda method: method.accuracy).name]


def check_accuracies(found: Comparison, browser: Browser) -> None:
    published = found.content["published"]
    splits, scheme = len(found.first.by_split), found.content["scheme"]
    assert text(browser, "about") == (
        f"{len(set(found.first.clips))} test clips of {len(found.first.classes)} classes, {splits} {scheme} "
        f"{'split' if splits == 1 else 'splits'}")
    units = f"{len(set(found.first.units))} {found.content['bootstrap']['units']}"
    assert f"bootstrap over the {units}:" in text(browser, "accuracy-note")
    head = [title.replace("\N{NO-BREAK SPACE}", " ") for (title,) in cells(browser, "#figures thead th")]
    titles = {"Accuracy, %": "accuracy", "Mean class accuracy, %": "mean_class_accuracy",
              "mAP, %": "mean_average_precision"}
    if scheme == "official":
        titles["Mean of splits, %"] = "mean_of_splits"
    assert set(head) == {"Method", "95 % interval", *titles, "Time", "Disk"}
    bars, lines = cells(browser, "#bars li:not(.axis)"), cells(browser, "#figures tbody tr")
    whiskers = browser.run("[...document.querySelectorAll('#bars li:not(.axis) svg')].map(svg => "
                           "svg.getAttribute('aria-label'))")
    assert len(bars) == len(lines) == len(whiskers) == len(found.methods) + len(published)
    for told, method, bar, whisker, line in zip(found.described, found.methods.values(), bars, whiskers, lines,
                                               strict=False):
        row = dict(zip(head, line, strict=True))
        assert bar[0] == method.name
        assert row["Method"].splitlines()[0] == method.name
        assert told["described"] in row["Method"]
        assert percent(bar[-1], method.accuracy)
        assert all(percent(row[title], method.figures[name]) for title, name in titles.items())
        ends = method.interval
        for shown in (row["95 % interval"], whisker.partition(", interval ")[2].removesuffix(" %")):
            low, high = shown.split(" to ")
            assert percent(low, ends[0])
            assert percent(high, ends[1])
        assert as_shown(row["Time"], told["time"], {"s": 1, "min": 60, "h": 3600})
        assert as_shown(row["Disk"], told["bytes"].get("features"), SIZES)
    for one, bar, line in zip(published, bars[len(found.methods):], lines[len(found.methods):], strict=True):
        row = dict(zip(head, line, strict=True))
        for shown in (bar[0], row["Method"]):
            assert one["method"] in shown
            assert "published" in shown
        assert percent(bar[-1], one["accuracy"])
        assert percent(row["Accuracy, %"], one["accuracy"])


SIZES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def as_shown(shown: str, value: float | None, units: dict[str, float]) -> bool:
    """Whether an amount with its unit is the value."""
    if value is None:
        return shown == "–"
    if shown.startswith("< "):
        return value < 0.1
    number, unit = shown.split()
    return near(number, value / units[unit])


def check_matrix(method: Method, browser: Browser) -> None:
    counts = method.confusion
    assert cells(browser, "#matrix tbody tr") == [
        [label, *(str(n or "") for n in row)] for label, row in zip(method.classes, counts, strict=True)]
    told = browser.run("[...document.querySelectorAll('#matrix tbody td')].map(cell => cell.dataset.told)")
    for (n, total, label, other), sentence in zip(
            ((n, sum(row), label, other) for label, row in zip(method.classes, counts, strict=True)
             for n, other in zip(row, method.classes, strict=True)), told, strict=True):
        assert sentence.startswith(f"{n or ('0' if label == other else 'None')} of {total} clip")
        assert f" of {label} " in sentence
        assert sentence.endswith("got the right label." if label == other else f"taken for {other}.")
    name, share = re.fullmatch(r"(.+): (\S+) % of the clips got the right label\.", text(browser, "cell")).groups()
    assert name == method.name
    assert percent(share, method.accuracy)
    mistakes = {f"{label} taken for {other}: {n}": n for label, row in zip(method.classes, counts, strict=True)
                for other, n in zip(method.classes, row, strict=True) if n and label != other}
    shown = browser.run("[...document.querySelectorAll('#mistakes li')].map(line => line.textContent)")
    assert set(shown) <= set(mistakes)
    assert [mistakes[line] for line in shown] == sorted(mistakes.values(), reverse=True)[:10]


def check_difference(first: Method, second: Method, browser: Browser) -> None:
    test = mcnemar(first, second)
    p = test["p"].expected
    sentence = re.fullmatch(r"(.+) alone is right on (\d+) clips?, (.+) alone on (\d+) clips? "
                            r"\(McNemar’s exact test: p ([<=]) (\S+)\)\.", text(browser, "verdict"))
    assert sentence is not None, text(browser, "verdict")
    assert sentence.groups()[:4] == (first.name, str(test["only_a"]), second.name, str(test["only_b"]))
    assert sentence[6] == "0.001" if p < 0.001 else near(sentence[6], p)
    assert sentence[5] == ("<" if p < 0.001 else "=")
    browser.run("document.getElementById('rest').click()")
    lines = cells(browser, "#classes li:not(.axis)")
    places = browser.run("[...document.querySelectorAll('#classes li:not(.axis)')].map(line => ['.of-a', '.of-b'].map("
                         "dot => parseFloat(line.querySelector(dot).getAttribute('cx'))))")
    gains = {label: second.by_class[label] - share for label, share in first.by_class.items()}
    assert {line[0] for line in lines} == {label for label, gain in gains.items() if gain}
    assert [gains[line[0]] for line in lines] == sorted(filter(None, gains.values()), reverse=True)
    for (label, *_, gain), ends in zip(lines, places, strict=True):
        assert gain[0] == ("+" if gains[label] > 0 else "\N{MINUS SIGN}")
        assert percent(gain, gains[label])
        assert ends == pytest.approx([float(100 * method.by_class[label]) for method in (first, second)])
    same = [label for label in first.classes if gains.get(label) == 0]
    assert text(browser, "same") == (f"The same accuracy: {', '.join(same)}." if same else "")


def check_clips(first: Method, second: Method, browser: Browser) -> None:
    """Hold the clips that are shown against those on which two methods disagree."""
    apart: list[tuple[str, str, str, str]] = []
    kinds: Counter[str] = Counter()
    for clip, label, *taken, x, y in zip(first.clips, first.labels, first.predicted, second.predicted, first.right,
                                         second.right, strict=True):
        if taken[0] != taken[1]:
            apart.append((clip[0], label, *taken))
            kinds["a" if x else "b" if y else "neither"] += 1
    assert cells(browser, "#which")[0] == [
        f"all ({len(apart)})", f"only {first.name} is right ({kinds['a']})",
        f"only {second.name} is right ({kinds['b']})", f"both are wrong ({kinds['neither']})"]
    browser.run("(() => { const more = document.getElementById('more'); while (!more.hidden) more.click(); })()")
    shown = browser.run("""[...document.querySelectorAll('#cards > li')].map(card => [
        card.querySelector('.told .quiet').textContent, card.querySelector('.told strong').textContent,
        ...[...card.querySelectorAll('.said')].map(said => said.textContent)])""")
    expected = [(path, label, *(f"{taken} {'✓ right' if taken == label else '✗ wrong'}" for taken in both))
                for path, label, *both in apart]
    assert sorted(map(tuple, shown)) == sorted(expected)
