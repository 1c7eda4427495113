"""The report: what its page holds, and what a browser makes of it."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import av
import browser as browsers
import cv2
import numpy as np
import pytest
from clips import write_clip

import idt.report
from idt.comparison import Comparison, Row
from idt.datasets import Dataset, Item, Split, splits
from idt.errors import OutputError, ParameterError
from idt.features import Features
from idt.methods import ExternalMethod
from idt.params import Params
from idt.published import Published
from idt.report import save_report

LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
PREDICTED = {
    "first": [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 0, 2],
    "second": [0, 0, 0, 0, 1, 1, 2, 0, 2, 2, 2, 2],
    "third, with a name that is a good deal longer than the others are": [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 0, 1],
}
FIRST, SECOND, THIRD = PREDICTED
FRAMES, LENGTH = 12, 4


def compared(folder, predicted, *, classes=("bend", "jump", "run"), official=False):
    """A comparison of methods that take the twelve clips of four groups for these classes."""
    names = [f"{classes[label]}/{n}.avi".replace("</script>", "") for n, label in enumerate(LABELS)]
    items = [Item(str(folder / name), classes[label], f"g{n % 4}", ("test" if n % 2 else "train",) if official else ())
             for n, (name, label) in enumerate(zip(names, LABELS, strict=True))]
    dataset = Dataset(tuple(items), tuple(classes), folder.name, "csv", str(folder), ("split1",) if official else ())
    parts = splits(dataset, "official" if official else "leave-one-group-out")
    rows = []
    for name, found in predicted.items():
        scores = [np.eye(len(classes))[[found[n] for n in split.test]] for split in parts]
        rows.append(Row(ExternalMethod(name=name, scores=Path("t.csv")), tuple(scores),
                        {"extract": 60.0, "classify": 0.25}, {"features": 2_500_000}))
    return Comparison(dataset, tuple(parts), tuple(rows))


def features(end=8, *, count=FRAMES, span=None, **params):
    """Features of a clip of 48x36 pixels: one track to the right, with its end on a frame."""
    made_with = Params(length=LENGTH, temporal_cells=1, **params)
    points = np.array([[[10 + 4 * n, 10] for n in range(LENGTH + 1)]], np.float32)
    first, last = span or (0, count - 1)
    return Features(
        frame=np.array([end], np.int32), time=np.array([end / 25]), mean=np.zeros((1, 2), np.float32),
        std=np.zeros((1, 2), np.float32), length=np.zeros(1, np.float32), scale=np.ones(1, np.float32),
        position=np.zeros((1, 3), np.float32), points=points, homographies=np.tile(np.eye(3), (count, 1, 1)),
        meta={"params": made_with.to_dict(), "video": {"width": 48, "height": 36, "decoded_frames": count},
              "span": {"first": first, "last": last, "frames": last - first + 1}})


def write_clips(found):
    for n, item in enumerate(found.dataset.items):
        write_clip(Path(item.path), np.full((FRAMES, 36, 48), 20 * n, np.uint8))
    return [features() for _ in found.dataset.items]


class Page(HTMLParser):
    """The content of a page's elements that have an id, and all addresses it refers to."""

    def __init__(self, path):
        super().__init__()
        self.found, self.addresses, self.tags, self._id = {}, [], [], None
        self.feed(path.read_text(encoding="utf-8"))
        self.data, self.videos = json.loads(self.found["data"]), json.loads(self.found["videos"])

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._id = dict(attrs).get("id", tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "poster")]

    def handle_data(self, data):
        self.found[self._id] = self.found.get(self._id, "") + data


def decoded(address):
    """The frames of a video that an address holds."""
    head, _, content = address.partition(",")
    assert head == "data:video/mp4;base64"
    with av.open(io.BytesIO(base64.b64decode(content, validate=True))) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


# --- what the page holds -------------------------------------------------------------------------------------------

def test_every_figure_is_that_of_the_comparison(tmp_path):
    found = compared(tmp_path / "clips", PREDICTED)
    save_report(found, tmp_path / "report.html")
    data = Page(tmp_path / "report.html").data
    assert data["classes"] == ["bend", "jump", "run"]
    assert [row["name"] for row in data["rows"]] == found.names
    tests = [n for split in found.splits for n in split.test]
    assert data["tests"] == {"clip": tests, "split": [n for n in range(4) for _ in range(3)],
                             "label": [LABELS[n] for n in tests]}
    for row, (name, predicted) in zip(data["rows"], PREDICTED.items(), strict=True):
        right = [predicted[n] == LABELS[n] for n in range(12)]
        assert row["predicted"] == [predicted[n] for n in tests]
        assert row["accuracy"] == sum(right) / 12
        assert row["class_accuracy"] == pytest.approx([sum(right[k:k + 4]) / 4 for k in (0, 4, 8)])
        assert row["mean_class_accuracy"] == pytest.approx(sum(right) / 12)
        assert tuple(row["interval"]) == found.interval(name)
        assert row["described"] == "scores in t.csv"
        assert row["mean_average_precision"] == found.average_precision(name)
        assert row["time"] == 60.25
        assert row["seconds"] == {"extract": 60.0, "classify": 0.25}
        assert row["bytes"] == {"features": 2_500_000}
    assert [(each["rows"], each["only"]) for each in data["mcnemar"]] == [
        ([0, 1], [0, 2]), ([0, 2], [1, 0]), ([1, 2], [3, 0])]
    assert [each["p"] for each in data["mcnemar"]] == [0.5, 1.0, 0.25]
    assert data["clips"]["4"] == {"path": "jump/4.avi", "start": None, "end": None}
    assert (data["pair"], data["best"]) == ([0, 1], 1)
    assert data["about"] == "12 test clips of 3 classes, 4 leave-one-group-out splits"
    assert "over the 4 groups" in data["interval"]["told"]
    assert ["Splits", "leave-one-group-out: training on 9 clips, testing on 3"] in data["facts"]


def test_a_class_that_no_split_tests_has_no_accuracy(tmp_path):
    found = compared(tmp_path, PREDICTED)
    found = Comparison(found.dataset, (Split("s", tuple(range(8, 12)), tuple(range(8))),),
                       tuple(Row(row.method, (np.eye(3)[LABELS[:8]],), {}, {}) for row in found.rows))
    save_report(found, tmp_path / "report.html")
    data = Page(tmp_path / "report.html").data
    assert data["rows"][0]["class_accuracy"] == [1, 1, None]
    assert data["rows"][0]["mean_class_accuracy"] == 1
    assert data["about"] == "8 test clips of 3 classes, 1 given split"


def test_the_page_needs_nothing_else_and_is_the_same_each_time(tmp_path):
    found = compared(tmp_path / "clips", PREDICTED)
    videos = write_clips(found)
    save_report(found, tmp_path / "a.html", features=videos)
    save_report(found, tmp_path / "b.html", features=videos)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    page = Page(tmp_path / "a.html")
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


def test_names_cannot_become_part_of_the_page(tmp_path):
    folder = tmp_path / "<b>&\udcff@DATA@"
    classes = ("</script><script>alert(1)</script>", "<!--<script>", "@VIDEOS@")
    found = compared(folder, {"</SCRIPT><img src=x>": LABELS}, classes=classes)
    save_report(found, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert page.tags.count("script") == 3
    assert "img" not in page.tags
    assert page.data["classes"] == list(classes)
    assert page.data["rows"][0]["name"] == "</SCRIPT><img src=x>"
    assert page.found["title"].strip() == "Methods compared on <b>&\\udcff@DATA@"
    assert page.data["pair"] is None


def test_videos_of_the_clips_in_dispute_the_chosen_pair_first(tmp_path):
    found = compared(tmp_path / "clips", PREDICTED)
    videos = write_clips(found)
    save_report(found, tmp_path / "report.html", features=videos)
    held = Page(tmp_path / "report.html").videos
    assert set(held) == {"3", "7", "10", "11"}
    assert list(held) == ["10", "3", "7", "11"]  # by groups, as they are tested
    for n, address in held.items():
        pictures = decoded(address)
        assert len(pictures) == FRAMES
        assert pictures[0].shape == (360, 480, 3)
        assert pictures[0][180, 240].tolist() == pytest.approx([14 * int(n)] * 3, abs=8)  # 20 n at 0.7
        b, g, r = pictures[6][105:110, 180:260].reshape(-1, 3).max(axis=0).tolist()
        assert r > max(b, g) + 50  # the track
    save_report(found, tmp_path / "report.html", features=videos, rows=(SECOND, THIRD))
    page = Page(tmp_path / "report.html")
    assert page.data["pair"] == [1, 2]
    assert list(page.videos) == ["10", "3", "7", "11"]
    save_report(found, tmp_path / "report.html", features=videos, rows=(THIRD, FIRST))
    assert next(iter(Page(tmp_path / "report.html").videos)) == "11"


@pytest.mark.parametrize(("limit", "value", "count"), [("_VIDEOS", 2, 2), ("_BYTES", 1, 0)])
def test_videos_are_limited(tmp_path, monkeypatch, limit, value, count):
    found = compared(tmp_path / "clips", PREDICTED)
    monkeypatch.setattr(idt.report, limit, value)
    save_report(found, tmp_path / "report.html", features=write_clips(found))
    assert len(Page(tmp_path / "report.html").videos) == count


def test_of_a_long_clip_the_part_in_which_most_tracks_end(tmp_path, monkeypatch):
    monkeypatch.setattr(idt.report, "_FRAMES", 5)
    found = compared(tmp_path / "clips", PREDICTED)
    videos = write_clips(found)
    save_report(found, tmp_path / "report.html", features=videos)
    pictures = decoded(Page(tmp_path / "report.html").videos["3"])  # frames 4 to 8
    assert len(pictures) == 5
    red = [np.flatnonzero((picture[102:108, :, 2].astype(int) - picture[102:108, :, 0] > 50).any(axis=0)).max()
           for picture in pictures]
    assert red == pytest.approx([105, 145, 185, 225, 265], abs=6)  # its head


def test_of_a_segment_its_frames_alone(tmp_path):
    found = compared(tmp_path / "clips", PREDICTED)
    videos = write_clips(found)
    videos[3] = features(span=(3, 9))
    save_report(found, tmp_path / "report.html", features=videos)
    assert len(decoded(Page(tmp_path / "report.html").videos["3"])) == 7


def test_a_video_that_cannot_be_drawn_is_left_out(tmp_path, caplog):
    found = compared(tmp_path / "clips", PREDICTED)
    videos = write_clips(found)
    Path(found.dataset.items[3].path).unlink()
    videos[7] = Features(**{**vars(videos[7]), "points": None, "meta": {}})
    save_report(found, tmp_path / "report.html", features=videos)
    assert set(Page(tmp_path / "report.html").videos) == {"10", "11"}
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"The report is without the videos of 2 clips. The first: {tmp_path}/clips/bend/3.avi: ")


def test_arguments_that_do_not_fit(tmp_path):
    found = compared(tmp_path, PREDICTED)
    target = tmp_path / "report.html"
    with pytest.raises(ParameterError, match="There are features of 2 videos for the 12 clips"):
        save_report(found, target, features=[features(), features()])
    with pytest.raises(ParameterError, match="'secnd' is no method of the comparison; did you mean second"):
        save_report(found, target, rows=("first", "secnd"))
    with pytest.raises(ParameterError, match=r"^rows is 'first', 'first': it must name two methods\.$"):
        save_report(found, target, rows=("first", "first"))
    assert not target.exists()
    target.mkdir()
    with pytest.raises(OutputError, match=r"report\.html cannot be written: it is a folder"):
        save_report(found, target)


# --- in a browser --------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browsers.opened(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The comparison, and its page."""
    folder = tmp_path_factory.mktemp("report")
    found = compared(folder / "clips", PREDICTED)
    save_report(found, folder / "report.html", features=write_clips(found))
    return found, folder / "report.html"


def texts(browser, selector):
    """The text of all elements that a selector finds; a space that does not break is a space."""
    return browser.run(f"[...document.querySelectorAll({json.dumps(selector)})].map("
                       "each => each.textContent.replaceAll('\\u00a0', ' '))")


def select(browser, name, value):
    browser.run(f"document.getElementById({name!r}).value = {value!r}; "
                f"document.getElementById({name!r}).dispatchEvent(new Event('change'))")


def sort_by(browser, title):
    browser.run("document.querySelectorAll('#figures button')"
                f"[{texts(browser, '#figures button').index(title)}].click()")


@pytest.mark.browser
def test_it_opens_without_a_complaint_and_asks_for_nothing(chromium, report):
    found, page = report
    chromium.open(page)
    assert chromium.run("document.title") == "Methods compared on clips"
    bars = chromium.run("[...document.querySelectorAll('#bars rect')].map(bar => "
                        "bar.getBBox().width / bar.parentElement.clientWidth)")
    assert bars == pytest.approx([found.accuracy(name) for name in found.names], abs=0.01)
    whiskers = chromium.run("[...document.querySelectorAll('#bars rect + .whisker')].map(line => "
                            "[line.getBBox().x, line.getBBox().width].map(x => x / line.parentElement.clientWidth))")
    intervals = [found.interval(name) for name in found.names]
    assert np.ravel(whiskers).tolist() == pytest.approx(np.ravel([(a, b - a) for a, b in intervals]).tolist(), abs=0.01)
    assert texts(chromium, "#figures tbody tr:first-child > *") == [
        "firstscores in t.csv", "66.7", f"{100 * intervals[0][0]:.1f} to {100 * intervals[0][1]:.1f}", "66.7",
        f"{100 * found.average_precision(FIRST):.1f}", "60.3 s", "2.5 MB"]
    assert texts(chromium, "#costs tbody tr:first-child > *") == ["first", "60.0", "0.3", "2.5 MB"]
    chromium.until("[...document.querySelectorAll('video')].length")
    assert chromium.complaints == []
    assert chromium.requests == [page.as_uri()]


@pytest.mark.browser
def test_confusion_of_the_chosen_method(chromium, report):
    found, page = report
    chromium.open(page)
    for n, name in enumerate(found.names):
        select(chromium, "matrix-row", str(n))
        shown = texts(chromium, "#matrix tbody td")
        assert np.reshape([int(text or 0) for text in shown], (3, 3)).tolist() == found.confusion(name).tolist()
    select(chromium, "matrix-row", "0")
    assert texts(chromium, "#mistakes li") == ["jump taken for run: 2", "bend taken for jump: 1",
                                               "run taken for bend: 1"]
    orders = {"listed": ["bend", "jump", "run"], "name": ["bend", "jump", "run"], "worst": ["jump", "bend", "run"],
              "best": ["bend", "run", "jump"]}
    for order, classes in orders.items():
        select(chromium, "matrix-order", order)
        assert texts(chromium, "#matrix tbody th") == texts(chromium, "#matrix thead th") == classes
    x, y = chromium.run("(() => { const cell = document.querySelector('#matrix tbody').rows[2].cells[3]; "
                        "cell.scrollIntoView(); const box = cell.getBoundingClientRect(); "
                        "return [box.x + 5, box.y + 5]; })()")
    chromium("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert texts(chromium, "#cell") == ["2 of 4 clips of jump got the right label."]


@pytest.mark.browser
def test_the_keyboard_suffices(chromium, report):
    _, page = report
    chromium.open(page)
    stops = []
    while "VIDEO" not in stops[-1:]:
        chromium.press("Tab")
        stop = chromium.run("(e => e.id || e.textContent || e.tagName)(document.activeElement)")
        stops.append(stop.replace("\u00a0", " "))
        if stops[-1] == "Accuracy, %":
            chromium.press("Enter")
        if "bend" in str(chromium.run("document.activeElement.dataset.told ?? ''")):
            chromium.press("ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight")
            assert texts(chromium, "#cell") == ["1 of 4 clips of jump was taken for run."]
            chromium.press("Home", "ArrowUp", "ArrowUp")
            assert texts(chromium, "#cell") == ["4 of 4 clips of bend got the right label."]
            assert chromium.run("document.activeElement.cellIndex") == 1
    assert texts(chromium, "#bars .name .name") == [SECOND, FIRST, THIRD]
    assert stops == ["Accuracy", "Confusion", "Differences", "Clips", "Run", "Method", "Accuracy, %", "95 % interval",
                     "Mean class accuracy, %", "mAP, %", "Time", "Disk", "matrix-row", "matrix-order", "4", "a", "b",
                     "which", "playing", "VIDEO"]


@pytest.mark.browser
def test_the_table_sorts(chromium, report):
    _, page = report
    chromium.open(page)
    names = {"Method": [[FIRST, SECOND, THIRD], [THIRD, SECOND, FIRST]],
             "Accuracy, %": [[SECOND, FIRST, THIRD], [THIRD, FIRST, SECOND]]}
    for title, orders in names.items():
        for order, direction in zip(orders, ["ascending", "descending"][::1 if title == "Method" else -1], strict=True):
            sort_by(chromium, title)
            assert texts(chromium, "#figures tbody .name") == order
            assert texts(chromium, "#bars li:not(.axis) .name .name") == order
            assert chromium.run("[...document.querySelectorAll('#figures [aria-sort]')].map(each => "
                                "each.ariaSort)") == [direction]
            assert texts(chromium, "#figures [aria-sort]") == [title]


@pytest.mark.browser
def test_the_choice_of_methods_changes_differences_and_clips(chromium, report):
    found, page = report
    chromium.open(page)
    for a, b in itertools.permutations(range(3), 2):
        select(chromium, "a", str(a))
        select(chromium, "b", str(b))
        one, other = found.names[a], found.names[b]
        test = found.mcnemar(one, other)
        (told,) = texts(chromium, "#verdict")
        numbers = [f"{n} clip{'' if n == 1 else 's'}" for n in (test.only_a, test.only_b)]
        assert told == (f"{one} alone is right on {numbers[0]}, {other} alone on {numbers[1]} (McNemar’s exact test: "
                        f"p = {test.p:.3g}).")
        gains = dict(zip(found.dataset.classes, 100 * (found.class_accuracy(other) - found.class_accuracy(one)),
                         strict=True))
        expected = {name: f"{gain:+.1f}".replace("-", "\u2212") for name, gain in gains.items() if gain}
        assert dict(zip(texts(chromium, "#classes li:not(.axis) .name"), texts(chromium, "#classes li .value"),
                        strict=True)) == expected
        same = [name for name, gain in gains.items() if not gain]
        assert texts(chromium, "#same") == [f"The same accuracy: {', '.join(same)}." if same else ""]
        tests = [n for split in found.splits for n in split.test]
        apart = [n for n in tests if PREDICTED[one][n] != PREDICTED[other][n]]
        paths = [f"{found.dataset.classes[LABELS[n]]}/{n}.avi" for n in apart]
        assert texts(chromium, "#cards .told .quiet") == paths
        said = [f"{found.dataset.classes[p]} {'✓ right' if p == LABELS[n] else '✗ wrong'}"
                for n in apart for p in (PREDICTED[one][n], PREDICTED[other][n])]
        assert texts(chromium, "#cards .said") == said
    select(chromium, "b", "0")
    assert texts(chromium, "#which option") == ["all (1)", f"only {THIRD} is right (0)", f"only {FIRST} is right (1)",
                                                "both are wrong (0)"]
    select(chromium, "which", "neither")
    assert texts(chromium, "#cards li") == []
    select(chromium, "a", "0")
    assert texts(chromium, "#verdict") == ["Both are the same method: choose another one."]
    assert chromium.complaints == []


@pytest.mark.browser
def test_videos_play_until_they_are_paused(chromium, report):
    _, page = report
    chromium.open(page)
    chromium.run("document.getElementById('cards').scrollIntoView()")
    chromium.until("document.querySelector('video').currentTime > 0")
    assert chromium.run("(v => [v.videoWidth, v.videoHeight, v.muted, v.paused])(document.querySelector('video'))") == [
        480, 360, True, False]
    chromium.run("document.getElementById('playing').click()")
    chromium.until("[...document.querySelectorAll('video')].every(video => video.paused)")
    assert texts(chromium, "#playing") == ["Play the videos"]
    chromium.run("document.getElementById('playing').click()")
    chromium.until("!document.querySelector('video').paused")
    chromium.run("scrollTo(0, 0)")
    chromium.until("document.querySelector('video').paused")
    chromium.open(page, still=True)  # somebody who wants no motion
    chromium.run("document.getElementById('cards').scrollIntoView()")
    chromium.until("document.querySelector('video').readyState >= 2")
    assert chromium.run("document.querySelector('video').paused")
    assert texts(chromium, "#playing") == ["Play the videos"]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_window_light_and_dark(chromium, report, width):
    _, page = report
    corners = []
    for dark in (False, True):
        chromium.open(page, width=width, dark=dark)
        assert chromium.run("document.documentElement.scrollWidth") == width
        assert chromium.run("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)")
        picture = cv2.imdecode(np.frombuffer(chromium.picture(), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[1] == width
        name = chromium.run("document.querySelector('#figures tbody th').offsetWidth")
        assert name == (358 if width == 390 else pytest.approx(0.36 * 1072, abs=60))
        corners.append(int(picture[2, 2].mean()))
    assert corners[0] == 255
    assert corners[1] < 40


@pytest.mark.browser
def test_of_many_differences_the_largest_and_of_many_clips_the_first(chromium, tmp_path):
    classes = tuple(f"class {n}" for n in range(30))
    labels = np.arange(120) % 30
    wrong = np.where(np.arange(120) // 30 < 1 + (labels >= 8), (labels + 1) % 30, labels)  # one of four, then two
    dataset = Dataset(tuple(Item(f"{n}.avi", classes[label], f"g{n // 30}") for n, label in enumerate(labels)), classes,
                      "many", "csv", ".")
    parts = splits(dataset, "leave-one-group-out")
    rows = [Row(ExternalMethod(name=name, scores=Path("t.csv")), tuple(np.split(np.eye(30)[found], 4)), {}, {})
            for name, found in (("right", labels), ("wrong", wrong))]
    save_report(Comparison(dataset, tuple(parts), tuple(rows)), tmp_path / "report.html")
    chromium.open(tmp_path / "report.html")
    assert texts(chromium, "#classes .value") == ["\u221250.0"] * 20
    assert texts(chromium, "#rest") == ["Show all 30 classes that differ"]
    chromium.run("document.getElementById('rest').click()")
    assert texts(chromium, "#classes .value") == ["\u221225.0"] * 8 + ["\u221250.0"] * 22
    assert chromium.run("document.getElementById('rest').hidden")
    seen = []
    for left in ("Show 12 more of 40", "Show 12 more of 28", "Show 12 more of 16", "Show 4 more of 4"):
        seen.append(len(texts(chromium, "#cards li")))
        assert texts(chromium, "#more") == [left]
        chromium.run("document.getElementById('more').click()")
    assert [*seen, len(texts(chromium, "#cards li"))] == [12, 24, 36, 48, 52]
    assert chromium.run("document.getElementById('more').hidden")
    assert chromium.run("[...document.querySelectorAll('#cards li')].indexOf(document.activeElement)") == 48


@pytest.mark.browser
def test_published_figures_stand_beside_and_what_is_not_known_is_left_open(chromium, tmp_path, monkeypatch):
    found = compared(tmp_path / "clips", PREDICTED)
    untimed = Row(found.rows[0].method, found.rows[0].scores, {"learn": 3.0}, {})
    quick = Row(found.rows[1].method, found.rows[1].scores, {"extract": 0.0, "classify": 0.01}, {"features": 2_500_000})
    found = Comparison(found.dataset, found.splits, (untimed, quick, found.rows[2]))
    monkeypatch.setattr(idt.report, "published", lambda dataset: (Published("paper", 0.85, "Somebody, IJCV 2013"),))
    save_report(found, tmp_path / "report.html")
    chromium.open(tmp_path / "report.html")
    cells = texts(chromium, "#figures tbody td")
    assert cells[4:6] == ["–", "–"]
    assert cells[10:12] == ["< 0.1 s", "2.5 MB"]
    assert cells[16:18] == ["60.3 s", "2.5 MB"]
    assert cells[18:] == ["85.0", "–", "–", "–", "–", "–"]
    assert texts(chromium, "#figures tbody tr:last-child th") == ["paper publishedSomebody, IJCV 2013"]
    assert chromium.run("[...document.querySelectorAll('#bars rect')].map(bar => bar.classList.length)") == [1, 1, 1, 2]
    for title, last in (("Accuracy, %", [FIRST, THIRD]), ("Time", [FIRST, "paper"]), ("Disk", [FIRST, "paper"])):
        sort_by(chromium, title)
        assert texts(chromium, "#figures tbody .name")[-2:] == last
    assert texts(chromium, "#matrix-row option") == found.names
    assert not chromium.run("document.getElementById('published').hidden")
    assert chromium.complaints == []


@pytest.mark.browser
def test_clips_that_can_be_seen_come_first(chromium, tmp_path):
    found = compared(tmp_path / "clips", PREDICTED)
    videos = write_clips(found)
    Path(found.dataset.items[10].path).unlink()
    save_report(found, tmp_path / "report.html", features=videos)
    chromium.open(tmp_path / "report.html")
    assert texts(chromium, "#cards .told .quiet") == ["bend/3.avi", "jump/7.avi", "run/10.avi"]
    assert chromium.run("[...document.querySelectorAll('#cards li')].map(each => each.firstChild.tagName)") == [
        "VIDEO", "VIDEO", "DIV"]
    assert texts(chromium, "#cards .none") == ["No video of this clip in this file"]


@pytest.mark.browser
def test_one_method_alone_and_many_classes(chromium, tmp_path):
    classes = ("bend", "jump", "run", *(f"class {n}" for n in range(30)))
    found = compared(tmp_path / "clips", {"only": LABELS}, classes=classes)
    save_report(found, tmp_path / "report.html")
    chromium.open(tmp_path / "report.html", width=390)
    assert chromium.run("['differences', 'clips'].map(id => document.getElementById(id).hidden)") == [True, True]
    assert len(texts(chromium, "#matrix tbody td")) == 33 * 33
    assert chromium.run("document.documentElement.scrollWidth") == 390
    assert chromium.complaints == []


@pytest.mark.browser
def test_official_splits_have_their_mean(chromium, tmp_path):
    found = compared(tmp_path / "clips", PREDICTED, official=True)
    save_report(found, tmp_path / "report.html")
    chromium.open(tmp_path / "report.html")
    assert "Mean of splits, %" in texts(chromium, "#figures thead th")
    assert texts(chromium, "#figures tbody tr:first-child td")[2] == f"{100 * found.split_accuracy(FIRST).mean():.1f}"
    assert texts(chromium, "#cards li > *:not(.told)") == []
    assert chromium.run("document.getElementById('playing').hidden")
