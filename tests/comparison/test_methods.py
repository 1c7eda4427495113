"""methods: what is compared, in words and with its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from idt.comparison.methods import ExternalMethod, FeatureMethod, Fusion, preset, preset_names, read_methods
from idt.errors import ParameterError
from idt.params import Params
from idt.recognition.vectors import EncodingParams


def test_a_line_describes_each():
    assert FeatureMethod(name="a").described == ("improved trajectories; trajectory, HOG, HOF, MBH; "
                                                 "Fisher vectors (K = 256)")
    plain = FeatureMethod(name="b", extraction=Params(camera=False, flow="dis", stride=8),
                          encoding=EncodingParams(channels=("hog", "mbhx"), encoder="bow", words=4000, pca=1.0,
                                                  pyramid=("1x1x1", "1x3x1")))
    assert plain.described == ("dense trajectories on DIS flow; HOG, MBHx; bags of words (K = 4000); stride = 8; "
                               "pca = 1; pyramid = 1x1x1, 1x3x1")
    assert ExternalMethod(name="c", scores=Path("in/s.csv")).described == "scores in s.csv"
    assert ExternalMethod(name="d", features=Path("c3d.npz"), cost=1).described == "features in c3d.npz; cost = 1"
    assert Fusion(name="e", of=("a", "b", "c")).described == "mean of the scores of a, b and c"
    assert Fusion(name="f", of=("a", "d"), how="concatenation", balanced=True).described == (
        "linear SVM on the vectors together of a and d; balanced = true")


@pytest.mark.parametrize(("make", "message"), [
    (lambda: FeatureMethod(name=" "), r"^name is ' ': a method needs a name\.$"),
    (lambda: FeatureMethod(name="a "), r"^name is 'a ': it must be one line without blanks around it\.$"),
    (lambda: FeatureMethod(name="a\nb"), r"^name is 'a\\nb': it must be one line"),
    (lambda: FeatureMethod(name="a", extraction=Params(descriptors=("hog",)), encoding=EncodingParams(
        channels=("hog", "hof"))), r"^a: descriptors is hog, but channels has hof: extract it, too, or leave it out"),
    (lambda: ExternalMethod(name="a"), r"^a: give the table of either its scores or its features\.$"),
    (lambda: ExternalMethod(name="a", scores=Path("s"), features=Path("f")), r"^a: give the table of either"),
    (lambda: ExternalMethod(name="a", features=Path("f"), cost=0), r"^a: cost is 0: it must be above 0"),
    (lambda: Fusion(name="a", of=("b",)), r"^a: of is 'b': it must name two methods or more, each once\.$"),
    (lambda: Fusion(name="a", of=("b", "b")), r"^a: of is 'b', 'b': it must name two methods or more, each once\.$"),
    (lambda: Fusion(name="a", of=()), r"^a: of is empty: it must name two"),
    (lambda: Fusion(name="a", of=("b", "c"), how="max"), r"^a: fusion is 'max': allowed are mean, rank, weighted, "),
])
def test_what_is_no_method(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def written(folder, text):
    path = folder / "m.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_methods_are_read_from_a_file(tmp_path):
    found = read_methods(written(tmp_path, """
        [[method]]
        name = "iDT"
        camera = true
        encoder = "vlad"
        words = 64
        channels = ["mbhx", "hog"]
        [[method]]
        name = "two-stream"
        scores = "in/two_stream.csv"
        [[method]]
        name = "C3D"
        features = "/c3d.npz"
        cost = 1
        [[method]]
        name = "all"
        of = ["iDT", "two-stream"]
        [[method]]
        name = "C3D + iDT"
        of = ["C3D", "iDT"]
        fusion = "concatenation"
        balanced = true
        """))
    assert found == (
        FeatureMethod(name="iDT", encoding=EncodingParams(encoder="vlad", words=64, channels=("hog", "mbhx"))),
        ExternalMethod(name="two-stream", scores=tmp_path / "in/two_stream.csv"),
        ExternalMethod(name="C3D", features=Path("/c3d.npz"), cost=1),
        Fusion(name="all", of=("iDT", "two-stream"), how="mean"),
        Fusion(name="C3D + iDT", of=("C3D", "iDT"), how="concatenation", balanced=True))


HEAD = '[[method]]\nname = "a"\n[[method]]\nname = "b"\n'


@pytest.mark.parametrize(("text", "message"), [
    ("method", r"m\.toml: the file of methods is not TOML \(.*\); it holds lines such as: \[\[method\]\], name = "),
    ("", r"there is no \[\[method\]\], which begins each method\.$"),
    ("method = 3", r"there is no \[\[method\]\]"),
    ("[method]\nname = 'a'", r"there is no \[\[method\]\]"),
    ("[[methods]]\nname = 'a'", r"methods is not known; did you mean method\? Each method is a \[\[method\]\]"),
    ("[[method]]\nwords = 3", r"the 1\. \[\[method\]\] has no name\.$"),
    ("[[method]]\nname = 3", r"name is 3: a method needs a name\.$"),
    ("[[method]]\nname = 'x'\nchanels = ['hog']", r"x: chanels is not a parameter; did you mean channels\?$"),
    ("[[method]]\nname = 'x'\nstrides = 5", r"x: strides is not a parameter; did you mean stride\?"),
    ("[[method]]\nname = 'x'\nencoder = 'fischer'", r"x: encoder is 'fischer': allowed are .*; did you mean fisher\?$"),
    ("[[method]]\nname = 'x'\nflow = 'TVL1'", r"x: flow is 'TVL1': allowed are .*; did you mean tvl1\?$"),
    ("[[method]]\nname = 'x'\nStride = 5", r"x: Stride is not a parameter; did you mean stride\?"),
    (HEAD + "[[method]]\nname = 'x'\nof = ['a', 'B']", r"names 'B', which is no method before it; did you mean b\?"),
    (HEAD + "[[method]]\nname = 'x'\nof = ['a', 'b']\nfusion = 'Mean'", r"fusion is 'Mean': .*; did you mean mean\?$"),
    ("[[method]]\nname = 'x'\ndescriptors = ['hog']", r"m\.toml: x: descriptors is hog, but channels has trajectory"),
    ("[[method]]\nname = 'x'\nscores = 's.csv'\nwords = 3", r"x: words is not a parameter\. Here are allowed: "),
    ("[[method]]\nname = 'x'\nscores = 's.csv'\ncost = 3", r"x: cost has no effect on scores\.$"),
    ("[[method]]\nname = 'x'\nscores = 3", r"x: scores is 3: it must be the path of a table\.$"),
    (HEAD + "[[method]]\nname = 'x'\nof = ['a', 'c']", r"x: of names 'c', which is no method before it\.$"),
    ("[[method]]\nname = 'x'\nof = ['y', 'x']", r"x: of names 'y', which is no method before it\.$"),
    (HEAD.replace('"a"', '"iDT FV"') + "[[method]]\nname = 'x'\nof = ['iDT VF', 'b']", r"it; did you mean iDT FV\?$"),
    (HEAD + "[[method]]\nname = 'x'\nof = 'ab'", r"x: of is 'ab': it must be a list of names\.$"),
    (HEAD + "[[method]]\nname = 'x'\nfusion = 'mean'", r"x: of is empty: it must name two methods"),
    (HEAD + "[[method]]\nname = 'x'\nof = ['a', 'b']\nhow = 'rank'", r"x: how is not a parameter\. Here are allowed: "),
    (HEAD + "[[method]]\nname = 'x'\nof = ['a', 'b']\ncost = 3", r"x: cost has no effect but on the fusion concatena"),
    (HEAD + HEAD, r"Two methods have the name 'a': give each its own\.$"),
    ("[[method]]\nname = 's'\nscores = 's.csv'\n" + HEAD + "[[method]]\nname = 'x'\nof = ['a', 's']\nfusion = "
     "'concatenation'", r"x: s has scores only, but concatenation is of vectors: choose another fusion, or give "),
])
def test_what_is_wrong_in_a_file_is_told_with_its_name(tmp_path, text, message):
    with pytest.raises(ParameterError, match=message) as error:
        read_methods(written(tmp_path, text))
    assert str(error.value).startswith(f"{tmp_path}/m.toml: ")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ParameterError, match=r"m\.toml: the file of methods cannot be read \(No such file "):
        read_methods(tmp_path / "m.toml")


def test_weights_are_found_of_six_at_most():
    names = tuple("abcdefg")
    assert Fusion(name="x", of=names[:6], how="weighted").of == names[:6]
    assert Fusion(name="x", of=names).of == names
    with pytest.raises(ParameterError, match=r"^x: of names 7 methods: weights can be found of 6 at most\.$"):
        Fusion(name="x", of=names, how="weighted")


def test_presets():
    assert preset_names() == ["baselines", "weizmann"]
    for name in preset_names():
        methods = preset(name)
        assert {method.extraction.camera for method in methods if isinstance(method, FeatureMethod)} == {True, False}
    standard = {method.name: method for method in preset("baselines")}["iDT, Fisher vectors"]
    assert (standard.extraction, standard.encoding) == (Params(), EncodingParams())
    with pytest.raises(ParameterError, match=r"^'wiezmann' is no preset; did you mean weizmann\? The presets are"):
        preset("wiezmann")
