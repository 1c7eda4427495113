"""methods: what is compared, in words and with its errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from idt.errors import ParameterError
from idt.methods import ExternalMethod, FeatureMethod, Fusion
from idt.params import Params
from idt.vectors import EncodingParams


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
