"""The report: what its page holds, and what a browser makes of it."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import av
import browser as browsers
import cv2
import numpy as np
import pytest
from clips import write_clip

import idt.comparison.report
import idt.comparison.result_files
from idt.comparison.methods import ExternalMethod, FeatureMethod, Fusion
from idt.comparison.published import Published
from idt.comparison.report import page as page_of
from idt.comparison.result_files import figures_of
from idt.comparison.run import Comparison, Row
from idt.errors import OutputError
from idt.features.record import Features
from idt.params import Params
from idt.recognition.datasets import Dataset, Item, splits

LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
PREDICTED = {
    "first": [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 0, 2],
    "second": [0, 0, 0, 0, 1, 1, 2, 0, 2, 2, 2, 2],
    "third, with a name that is a good deal longer than the others are": [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 0, 1],
}
FIRST, SECOND, THIRD = PREDICTED
FRAMES, LENGTH = 12, 4
IMPROVED = Params(length=LENGTH, temporal_cells=1)
DENSE = Params(length=LENGTH, temporal_cells=1, camera=False)
TRACKED = {name: FeatureMethod(name=name, extraction=IMPROVED) for name in PREDICTED}


def compared(folder, predicted, *, classes=("bend", "jump", "run"), official=False, methods=None):
    """A comparison of methods, tables of scores by default, that take twelve clips of four groups for these classes."""
    names = [f"{classes[label]}/{n}.avi".replace("</script>", "") for n, label in enumerate(LABELS)]
    items = [Item(str(folder / name), classes[label], f"g{n % 4}", ("test" if n % 2 else "train",) if official else ())
             for n, (name, label) in enumerate(zip(names, LABELS, strict=True))]
    dataset = Dataset(tuple(items), tuple(classes), folder.name, "csv", str(folder), ("split1",) if official else ())
    parts = splits(dataset, "official" if official else "leave-one-group-out")
    rows = []
    for name, found in predicted.items():
        scores = [np.eye(len(classes))[[found[n] for n in split.test]] for split in parts]
        method = methods[name] if methods else ExternalMethod(name=name, scores=Path("t.csv"))
        rows.append(Row(method, tuple(scores),
                        {"extract": 60.0, "classify": 0.25}, {"features": 2_500_000}))
    return Comparison(dataset, tuple(parts), tuple(rows))


def features(end=8, *, count=FRAMES, span=None, made_with=IMPROVED):
    """Features of a clip of 48x36 pixels: one track to the right, with its end on a frame; a dense one is lower."""
    points = np.array([[[10 + 4 * n, 10 if made_with.camera else 20] for n in range(LENGTH + 1)]], np.float32)
    first, last = span or (0, count - 1)
    return Features(
        frame=np.array([end], np.int32), time=np.array([end / 25]), mean=np.zeros((1, 2), np.float32),
        std=np.zeros((1, 2), np.float32), length=np.zeros(1, np.float32), scale=np.ones(1, np.float32),
        position=np.zeros((1, 3), np.float32), points=points, homographies=np.tile(np.eye(3), (count, 1, 1)),
        meta={"params": made_with.to_dict(), "video": {"width": 48, "height": 36, "decoded_frames": count},
              "span": {"first": first, "last": last, "frames": last - first + 1}})


def write_clips(found, *kinds):
    """Write the clips; return their features by each kind of extraction."""
    for n, item in enumerate(found.dataset.items):
        write_clip(Path(item.path), np.full((FRAMES, 36, 48), 20 * n, np.uint8))
    return {params: [features(made_with=params) for _ in found.dataset.items] for params in kinds or (IMPROVED,)}


def save_report(found, path, *, features=None, reference=None):
    path.write_text(page_of(figures_of(found, reference), replace(found, features=features or {})), encoding="utf-8")


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
    assert data["comparison"] == json.loads(json.dumps(figures_of(found)))
    tests = [n for split in found.splits for n in split.test]
    assert data["tests"] == {"clip": tests, "split": [n for n in range(4) for _ in range(3)],
                             "label": [LABELS[n] for n in tests],
                             "predicted": [[predicted[n] for n in tests] for predicted in PREDICTED.values()]}
    assert data["clips"]["4"] == {"path": "jump/4.avi", "start": None, "end": None}
    assert (data["drawn"], data["uses"]) == ([], [[], [], []])
    assert data["about"] == "12 test clips of 3 classes, 4 leave-one-group-out splits"
    assert ["Splits", "leave-one-group-out: training on 9 clips, testing on 3"] in data["facts"]
    assert ["Intervals", "2000 draws, seed 0"] in data["facts"]


def test_each_method_uses_the_trajectories_of_its_own_and_a_fusion_those_of_its_parts(tmp_path):
    methods = {FIRST: FeatureMethod(name=FIRST, extraction=DENSE), SECOND: TRACKED[SECOND],
               THIRD: Fusion(name=THIRD, of=(FIRST, SECOND))}
    found = compared(tmp_path / "clips", PREDICTED, methods=methods)
    save_report(found, tmp_path / "report.html", features=write_clips(found, DENSE, IMPROVED))
    page = Page(tmp_path / "report.html")
    assert page.data["uses"] == [[1], [0], [0, 1]]
    assert page.data["drawn"] == [{"told": "improved", "steady": True}, {"told": "dense", "steady": False}]
    assert [sorted(held) for held in page.videos] == [["10", "11", "3", "7"]] * 2
    for held, row in zip(page.videos, (10, 20), strict=True):  # enlarged ten times
        tracks = decoded(held["10"])[6].astype(int)
        red = (tracks[:, 180:260, 2] - tracks[:, 180:260, 0] > 50).any(axis=1)
        assert np.flatnonzero(red).mean() == pytest.approx(10 * row + 5, abs=5)


def test_what_tells_kinds_of_trajectories_apart_is_named(tmp_path):
    other = Params(length=LENGTH, temporal_cells=1, flow="dis", camera=False)
    methods = {FIRST: TRACKED[FIRST], SECOND: FeatureMethod(name=SECOND, extraction=other), THIRD: TRACKED[THIRD]}
    found = compared(tmp_path / "clips", PREDICTED, methods=methods)
    save_report(found, tmp_path / "report.html", features=write_clips(found, IMPROVED, other))
    assert [one["told"] for one in Page(tmp_path / "report.html").data["drawn"]] == [
        "improved, flow = farneback", "dense, flow = dis"]


def test_where_no_method_has_trajectories_the_clips_are_shown_as_they_are(tmp_path, caplog):
    found = compared(tmp_path / "clips", PREDICTED)
    write_clips(found)
    items = list(found.dataset.items)
    items[3] = replace(items[3], start_s=0.13, end_s=0.28)  # frames 3 to 7 at 25 a second
    items[7] = replace(items[7], start_s=30.0)
    found = replace(found, dataset=replace(found.dataset, items=tuple(items)))
    save_report(found, tmp_path / "report.html")
    (held,) = Page(tmp_path / "report.html").videos
    assert list(held) == ["10", "3", "11"]
    pictures = decoded(held["10"])
    assert (len(pictures), pictures[0].shape) == (FRAMES, (36, 48, 3))  # small ones are not enlarged
    assert pictures[0].reshape(-1, 3).mean(axis=0).tolist() == pytest.approx([200] * 3, abs=4)
    assert len(decoded(held["3"])) == 5
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("The report is without 1 video of clips. The first: ")
    assert message.endswith("7.avi: the video ends before the segment begins.")


def test_large_and_long_clips_as_they_are_become_small(tmp_path, monkeypatch):
    monkeypatch.setattr(idt.comparison.report, "_SIDE", 18)
    monkeypatch.setattr(idt.comparison.report, "_FRAMES", 5)
    found = compared(tmp_path / "clips", PREDICTED)
    write_clips(found)
    save_report(found, tmp_path / "report.html")
    pictures = decoded(Page(tmp_path / "report.html").videos[0]["10"])
    assert (len(pictures), pictures[0].shape) == (5, (18, 24, 3))


def test_the_page_needs_nothing_else_and_is_the_same_each_time(tmp_path):
    found = compared(tmp_path / "clips", PREDICTED, methods=TRACKED)
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
    assert page.data["comparison"]["dataset"]["classes"] == list(classes)
    assert page.data["comparison"]["methods"][0]["name"] == "</SCRIPT><img src=x>"
    assert page.found["title"].strip() == "Methods compared on <b>&\\udcff@DATA@"
    assert page.data["comparison"]["pair"] is None
    assert page.videos == [{}]


def test_videos_of_the_clips_in_dispute_the_chosen_pair_first(tmp_path):
    found = compared(tmp_path / "clips", PREDICTED, methods=TRACKED)
    videos = write_clips(found)
    save_report(found, tmp_path / "report.html", features=videos)
    (held,) = Page(tmp_path / "report.html").videos
    assert list(held) == ["10", "3", "7", "11"]  # by groups, as they are tested
    for n, address in held.items():
        pictures = decoded(address)
        assert len(pictures) == FRAMES
        assert pictures[0].shape == (360, 480, 3)
        assert pictures[0][180, 240].tolist() == pytest.approx([14 * int(n)] * 3, abs=8)  # 20 n at 0.7
        b, g, r = pictures[6][105:110, 180:260].reshape(-1, 3).max(axis=0).tolist()
        assert r > max(b, g) + 50  # the track
    content = figures_of(found)
    assert content["pair"] == [FIRST, SECOND]
    for pair, first in (((THIRD, FIRST), "11"), ((SECOND, THIRD), "10")):
        text = page_of({**content, "pair": list(pair)}, replace(found, features=videos))
        (tmp_path / "other.html").write_text(text, encoding="utf-8")
        (held,) = Page(tmp_path / "other.html").videos
        assert next(iter(held)) == first


@pytest.mark.parametrize(("limit", "value", "counts"), [("_VIDEOS", 3, [2, 1]), ("_BYTES", 1, [0, 0])])
def test_videos_are_limited_and_the_pair_needs_both_kinds(tmp_path, monkeypatch, limit, value, counts):
    methods = {**TRACKED, SECOND: FeatureMethod(name=SECOND, extraction=DENSE)}
    found = compared(tmp_path / "clips", PREDICTED, methods=methods)
    monkeypatch.setattr(idt.comparison.report, limit, value)
    save_report(found, tmp_path / "report.html", features=write_clips(found, IMPROVED, DENSE))
    assert [len(held) for held in Page(tmp_path / "report.html").videos] == counts


def test_the_page_is_as_large_as_it_may_be_at_most(tmp_path, monkeypatch):
    found = compared(tmp_path / "clips", PREDICTED, methods=TRACKED)
    videos = write_clips(found)
    save_report(found, tmp_path / "report.html", features=videos)
    whole = Page(tmp_path / "report.html").videos[0]
    size = (tmp_path / "report.html").stat().st_size
    monkeypatch.setattr(idt.comparison.report, "_BYTES", size - len(whole[list(whole)[-1]]) // 2)
    save_report(found, tmp_path / "report.html", features=videos)
    assert list(Page(tmp_path / "report.html").videos[0].items()) == list(whole.items())[:-1]
    assert (tmp_path / "report.html").stat().st_size < idt.comparison.report._BYTES


def test_of_a_long_clip_the_part_in_which_most_tracks_end(tmp_path, monkeypatch):
    monkeypatch.setattr(idt.comparison.report, "_FRAMES", 5)
    methods = {**TRACKED, SECOND: FeatureMethod(name=SECOND, extraction=DENSE)}
    found = compared(tmp_path / "clips", PREDICTED, methods=methods)
    videos = write_clips(found, IMPROVED, DENSE)
    videos[DENSE] = [features(11, made_with=DENSE) for _ in videos[DENSE]]
    save_report(found, tmp_path / "report.html", features=videos)
    improved, dense = Page(tmp_path / "report.html").videos
    pictures = decoded(improved["3"])  # frames 4 to 8
    assert len(pictures) == 5
    red = [np.flatnonzero((picture[102:108, :, 2].astype(int) - picture[102:108, :, 0] > 50).any(axis=0)).max()
           for picture in pictures]
    assert red == pytest.approx([105, 145, 185, 225, 265], abs=6)  # its head
    pictures = decoded(dense["3"])  # the same, in which its track is alive from frame 7 on
    assert len(pictures) == 5
    assert [bool((picture[202:208, :, 2].astype(int) - picture[202:208, :, 0] > 50).any()) for picture in pictures] == [
        False, False, False, True, True]


def test_of_trajectories_that_end_earlier_the_frames_that_they_come_from(tmp_path):
    short = replace(DENSE, end=9)
    methods = {**TRACKED, SECOND: FeatureMethod(name=SECOND, extraction=short)}
    found = compared(tmp_path / "clips", PREDICTED, methods=methods)
    videos = write_clips(found)
    videos[short] = [features(count=10, made_with=short) for _ in videos[IMPROVED]]
    save_report(found, tmp_path / "report.html", features=videos)
    assert [len(decoded(held["3"])) for held in Page(tmp_path / "report.html").videos] == [FRAMES, 10]


def test_of_a_segment_its_frames_alone(tmp_path):
    found = compared(tmp_path / "clips", PREDICTED, methods=TRACKED)
    videos = write_clips(found)
    videos[IMPROVED][3] = features(span=(3, 9))
    save_report(found, tmp_path / "report.html", features=videos)
    assert len(decoded(Page(tmp_path / "report.html").videos[0]["3"])) == 7


def test_a_video_that_cannot_be_drawn_is_left_out(tmp_path, caplog):
    found = compared(tmp_path / "clips", PREDICTED, methods=TRACKED)
    videos = write_clips(found)
    Path(found.dataset.items[3].path).unlink()
    videos[IMPROVED][7] = Features(**{**vars(videos[IMPROVED][7]), "points": None, "meta": {}})
    save_report(found, tmp_path / "report.html", features=videos)
    assert set(Page(tmp_path / "report.html").videos[0]) == {"10", "11"}
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"The report is without 2 videos of clips. The first: {tmp_path}/clips/bend/3.avi: ")
    assert message.count("bend/3.avi") == 1


def test_a_full_temporary_folder_leaves_the_videos_out(tmp_path, caplog, monkeypatch):
    def full(source, features, path, **options):
        raise OutputError(f"{path} cannot be written: No space left on device.")

    monkeypatch.setattr(idt.comparison.report, "overlay", full)
    found = compared(tmp_path / "clips", PREDICTED, methods=TRACKED)
    save_report(found, tmp_path / "report.html", features=write_clips(found))
    assert Page(tmp_path / "report.html").videos == [{}]
    (message,) = [record.getMessage() for record in caplog.records]
    caplog.clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    save_report(found, tmp_path / "report.html", features=write_clips(found))
    assert Page(tmp_path / "report.html").videos == [{}]
    assert [record.getMessage() for record in caplog.records] == [
        "The report is without some videos of clips: There is no folder for temporary files that can be written: set "
        "TMPDIR to one."]
    assert re.match(rf"The report is without 4 videos of clips\. The first: {tmp_path}/clips/run/10\.avi: .*"
                    "clip.mp4 cannot be written: No space left on device", message)


# --- in a browser --------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browsers.opened(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The comparison, and its page."""
    folder = tmp_path_factory.mktemp("report")
    found = compared(folder / "clips", PREDICTED, methods=TRACKED)
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
        f"first{TRACKED[FIRST].described}", "66.7", f"{100 * intervals[0][0]:.1f} to {100 * intervals[0][1]:.1f}",
        "66.7", f"{100 * found.average_precision(FIRST):.1f}", "60.3 s", "2.5 MB"]
    assert texts(chromium, "#costs tbody tr:first-child > *") == ["first", "60.0", "0.3", "2.5 MB"]
    shares = [n / 16 for n in range(17)] + [0.0, 0.9995, 1 / 3, 1.0]  # halves, which Python rounds to even digits
    assert chromium.run(f"{shares}.map(percent)") == [f"{100 * share:.1f}" for share in shares]
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
    for _ in range(21):
        chromium.press("Tab")
        stop = chromium.run("(e => e.id || e.ariaLabel || e.textContent || e.tagName)(document.activeElement)")
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
                     "Mean class accuracy, %", "mAP, %", "Time", "Disk", "matrix-row", "matrix-order",
                     "4 of 4 clips of bend got the right label.", "a", "b", "which", "playing",
                     "Enlarge run/10.avi", "Enlarge bend/3.avi"]


@pytest.mark.browser
def test_a_clip_is_enlarged_with_the_keyboard(chromium, report):
    _, page = report
    chromium.open(page)
    assert chromium.run("[...document.querySelectorAll('#cards video')].some(video => video.controls)") is False
    chromium.run("document.querySelectorAll('#cards button')[1].focus()")
    chromium.press("Enter")
    assert chromium.run("document.getElementById('large').open")
    assert texts(chromium, "#large h3, #large-told .quiet, #large .said") == [
        "bend", "bend/3.avi", "jump ✗ wrong", "bend ✓ right"]
    chromium.until("document.querySelector('#large video').currentTime > 0")
    assert chromium.run("(v => [v.controls, v.muted, v.ariaLabel])(document.querySelector('#large video'))") == [
        True, True, "bend/3.avi"]
    chromium.press("Escape")
    assert not chromium.run("document.getElementById('large').open")
    assert chromium.run("document.activeElement.ariaLabel") == "Enlarge bend/3.avi"
    chromium.until("!document.querySelector('#large video')")
    chromium.press("Enter", "Enter")  # the button that closes it has the focus
    assert not chromium.run("document.getElementById('large').open")
    for where, closed in (("large-told", False), ("large", True)):  # a click inside, and one beside
        chromium.run("document.querySelector('#cards button').click()")
        chromium.run(f"document.getElementById('{where}').click()")
        assert chromium.run("document.getElementById('large').open") is not closed
        chromium.run("document.getElementById('large').close()")
    assert chromium.complaints == []


@pytest.mark.browser
def test_videos_are_those_of_the_two_methods_that_are_chosen(chromium, tmp_path):
    methods = {FIRST: TRACKED[FIRST], SECOND: FeatureMethod(name=SECOND, extraction=DENSE),
               THIRD: ExternalMethod(name=THIRD, scores=Path("t.csv")), "twin": Fusion(name="twin", of=(FIRST, THIRD)),
               "net": ExternalMethod(name="net", scores=Path("t.csv"))}
    found = compared(tmp_path / "clips", {**PREDICTED, "twin": PREDICTED[SECOND], "net": LABELS}, methods=methods)
    save_report(found, tmp_path / "report.html", features=write_clips(found, IMPROVED, DENSE))
    chromium.open(tmp_path / "report.html")
    both = "Trajectories are coloured by their motion, improved ones by that without the camera’s: "
    improved, dense = (f"The {kind} trajectories are coloured by their motion{without}: " for kind, without in (
        ("improved", " without the camera’s"), ("dense", "")))
    for a, b, kinds, told, dots, note in [
            (0, 1, [0, 1], ["improved", "dense"], [FIRST, SECOND], both),
            (1, 0, [1, 0], ["dense", "improved"], [SECOND, FIRST], both),
            (1, 2, [1], [], [], dense), (0, 2, [0], [], [], improved), (2, 4, [0], [], [], improved),
            (2, 3, [0], [], [], improved)]:
        select(chromium, "a", str(a))
        select(chromium, "b", str(b))
        assert chromium.run("[...document.querySelectorAll('#cards li:first-child video')].map(video => "
                            "Number(video.dataset.kind))") == kinds, (a, b)
        assert texts(chromium, "#cards li:first-child .kind") == told
        assert chromium.run("[...document.querySelectorAll('#cards li:first-child .kind .dot')].map(dot => "
                            "dot.ariaLabel)") == dots
        assert texts(chromium, "#clips-note") == [
            f"{note}hue is the direction, strength the speed, as the wheel in the corner shows."]
    chromium.run("document.getElementById('cards').scrollIntoView()")
    select(chromium, "a", "0")
    select(chromium, "b", "1")
    held = Page(tmp_path / "report.html").videos
    chromium.until("[...document.querySelectorAll('#cards li:first-child video')].every(video => video.src)")
    assert chromium.run("[...document.querySelectorAll('#cards li:first-child video')].map(video => video.src)") == [
        held[0]["10"], held[1]["10"]]
    assert chromium.complaints == []


@pytest.mark.browser
def test_clips_of_tables_alone_are_shown_as_they_are(chromium, tmp_path):
    found = compared(tmp_path / "clips", PREDICTED)
    write_clips(found)
    save_report(found, tmp_path / "report.html")
    chromium.open(tmp_path / "report.html", width=390)
    chromium.run("document.getElementById('cards').scrollIntoView()")
    chromium.until("document.querySelector('video').currentTime > 0")
    assert texts(chromium, "#clips-note") == [""]
    assert len(texts(chromium, "#cards button video")) == 3
    assert chromium.run("document.documentElement.scrollWidth") == 390
    assert chromium.complaints == []


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
    select(chromium, "b", "0")
    assert texts(chromium, "#same") == ["30 classes have the same accuracy."]
    select(chromium, "b", "1")
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
    paper = Published("paper", 0.85, "one split of three", "Somebody, IJCV 2013")
    monkeypatch.setattr(idt.comparison.result_files, "published", lambda dataset: (paper,))
    monkeypatch.setattr(idt.comparison.result_files, "not_comparable", lambda dataset, splits: "Not comparable: made.")
    save_report(found, tmp_path / "report.html")
    chromium.open(tmp_path / "report.html")
    cells = texts(chromium, "#figures tbody td")
    assert cells[4:6] == ["–", "–"]
    assert cells[10:12] == ["< 0.1 s", "2.5 MB"]
    assert cells[16:18] == ["60.3 s", "2.5 MB"]
    assert cells[18:] == ["85.0", "–", "–", "–", "–", "–"]
    assert texts(chromium, "#figures tbody tr:last-child th") == [
        "paper publishedSomebody, IJCV 2013; one split of three"]
    assert chromium.run("[...document.querySelectorAll('#bars rect')].map(bar => bar.classList.length)") == [1, 1, 1, 2]
    for title, last in (("Accuracy, %", [FIRST, THIRD]), ("Time", [FIRST, "paper"]), ("Disk", [FIRST, "paper"])):
        sort_by(chromium, title)
        assert texts(chromium, "#figures tbody .name")[-2:] == last
    assert texts(chromium, "#matrix-row option") == found.names
    assert not chromium.run("document.getElementById('published').hidden")
    assert texts(chromium, "#published")[0].endswith("was computed here. Not comparable: made.")
    assert chromium.complaints == []


@pytest.mark.browser
def test_clips_that_can_be_seen_come_first(chromium, tmp_path):
    found = compared(tmp_path / "clips", PREDICTED, methods=TRACKED)
    videos = write_clips(found)
    Path(found.dataset.items[10].path).unlink()
    save_report(found, tmp_path / "report.html", features=videos)
    chromium.open(tmp_path / "report.html")
    assert texts(chromium, "#cards .told .quiet") == ["bend/3.avi", "jump/7.avi", "run/10.avi"]
    assert chromium.run("[...document.querySelectorAll('#cards li')].map(each => each.firstChild.tagName)") == [
        "BUTTON", "BUTTON", "DIV"]
    assert texts(chromium, "#cards .none") == ["No video of this clip in this file"]


@pytest.mark.browser
def test_one_method_alone_and_many_classes(chromium, tmp_path):
    classes = ("bend", "jump", "run", *(f"class {n}" for n in range(30)))
    found = compared(tmp_path / "clips", {"only": LABELS}, classes=classes)
    save_report(found, tmp_path / "report.html")
    chromium.open(tmp_path / "report.html", width=390)
    assert chromium.run("['differences', 'clips'].map(id => document.getElementById(id).hidden)") == [True, True]
    assert len(texts(chromium, "#matrix tbody td")) == 33 * 33
    assert texts(chromium, "#accuracy-note")[0].endswith(" the bootstrap draws what was seen.")  # 100.0 to 100.0
    assert chromium.run("document.documentElement.scrollWidth") == 390
    assert chromium.complaints == []


@pytest.mark.browser
def test_a_clip_that_several_splits_test_is_told_with_the_split(chromium, tmp_path):
    once = compared(tmp_path / "clips", {name: PREDICTED[name] for name in (FIRST, SECOND)})
    every = tuple(range(12))
    parts = tuple(replace(once.splits[0], name=f"split {k}", test=every) for k in (1, 2))
    right = np.eye(3)[LABELS]
    rows = [replace(row, scores=(np.eye(3)[PREDICTED[row.method.name]], right)) for row in once.rows]
    save_report(replace(once, splits=parts, rows=tuple(rows)), tmp_path / "report.html")
    chromium.open(tmp_path / "report.html")
    assert texts(chromium, "#about") == ["12 test clips of 3 classes, 2 leave-one-group-out splits, 24 tests of them"]
    assert texts(chromium, "#verdict")[0].startswith("first alone is right on 0 tests, second alone on 2 tests (")
    assert texts(chromium, "#cell") == ["second: 91.7 % of the tests got the right label."]
    assert chromium.run("document.querySelector('#matrix td.diagonal').dataset.told") == \
        "8 of 8 tests of bend got the right label."
    assert texts(chromium, "#accuracy-note")[0].startswith("Share of the tests that get their label. ")
    assert "without width" not in texts(chromium, "#accuracy-note")[0]
    places = texts(chromium, "#cards .told .quiet")
    assert sorted(places) == [f"{name}, split 1" for name in ("bend/3.avi", "jump/7.avi", "run/10.avi")]
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
