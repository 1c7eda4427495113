"""idt.params: limits, messages, files, fingerprint and the generated page."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest

from idt._util.fields import default_text, flag_name, limits_text
from idt._util.text import nearest
from idt.errors import IdtError, ParameterError
from idt.params import Params, parameters_page

FIELDS = {f.name: f for f in dataclasses.fields(Params)}
NUMBERS = [f for f in FIELDS.values() if "low" in f.metadata]


def test_defaults_are_those_of_the_original_program():
    p = Params()
    assert (p.length, p.stride, p.patch, p.spatial_cells, p.temporal_cells, p.scales) == (15, 5, 32, 2, 3, 8)
    assert (p.quality, p.epsilon, p.hof_threshold, p.max_std, p.max_step, p.max_step_share) == (
        0.001, 0.05, 0.4, 50, 20, 0.7)
    assert p.min_std == math.sqrt(3)


@pytest.mark.parametrize("f", NUMBERS, ids=lambda f: f.name)
def test_each_number_accepts_its_limits_and_refuses_what_is_beyond(f):
    other = {"temporal_cells": {"length": 1000}, "spatial_cells": {"patch": 1024}, "start": {"end": 2**31 - 1}}
    # A field that another one is checked against may only reach its own limit together with it.
    small = {"length": {"temporal_cells": 1}, "patch": {"spatial_cells": 1}}
    low, high, above = (f.metadata[k] for k in ("low", "high", "above"))
    for value in (low, high):
        if value is not None:
            changed = Params(**{f.name: value}, **other.get(f.name, {}), **small.get(f.name, {}))
            assert getattr(changed, f.name) == value
    beyond = [low - 1 if low is not None else above, high + 1]
    for value in beyond:
        with pytest.raises(ParameterError, match=rf"^{f.name} is .*: it must be {limits_text(f, Params)}\.$"):
            Params(**{f.name: value})


@pytest.mark.parametrize(("values", "message"), [
    ({"stride": 0}, "stride is 0: it must be from 1 to 1000."),
    ({"stride": "5"}, "stride is '5': it must be an integer from 1 to 1000."),
    ({"stride": 5.5}, "stride is 5.5: it must be an integer from 1 to 1000."),
    ({"stride": True}, "stride is True: it must be an integer from 1 to 1000."),
    ({"stride": None}, "stride is None: it must be an integer from 1 to 1000."),
    ({"quality": math.nan}, "quality is nan: it must be a number from 0 to 1."),
    ({"epsilon": 0}, "epsilon is 0: it must be above 0, at most 1000000."),
    ({"max_std": math.inf}, "max_std is inf: it must be above 0, at most 1000000."),
    ({"camera": 1}, "camera is 1: allowed are true, false."),
    ({"flow": "tvl9"}, "flow is 'tvl9': allowed are farneback, tvl1, dis, deepflow; did you mean tvl1?"),
    ({"flow": "lucas"}, "flow is 'lucas': allowed are farneback, tvl1, dis, deepflow."),
    ({"flow": "FARNEBACK"}, "flow is 'FARNEBACK': allowed are farneback, tvl1, dis, deepflow; did you mean farneback?"),
    ({"flow": ["dis"]}, "flow is ['dis']: allowed are farneback, tvl1, dis, deepflow; did you mean dis?"),
    ({"people": None}, "people is None: allowed are none, hog; did you mean none?"),
    ({"descriptors": ["HOG"]}, "descriptors has 'HOG': allowed are trajectory, hog, hof, mbhx, mbhy; did you mean "
                               "hog?"),
    ({"descriptors": ()}, "descriptors is (): give one or more of trajectory, hog, hof, mbhx, mbhy, each once."),
    ({"descriptors": ["hog", "hog"]}, "descriptors is ('hog', 'hog'): give one or more of trajectory, hog, hof, mbhx, "
                                      "mbhy, each once."),
    ({"matches": "surf"}, "matches has 'surf': allowed are flow, orb, akaze, sift."),
    ({"matches": 5}, "matches has 5: allowed are flow, orb, akaze, sift."),
    ({"start": 9, "end": 8}, "end is 8: it must not lie before start (9)."),
    ({"temporal_cells": 16}, "temporal_cells is 16: at most length (15) are possible."),
    ({"patch": 4, "spatial_cells": 5}, "spatial_cells is 5: at most patch (4) are possible."),
])
def test_a_bad_value_is_named_with_field_and_limits(values, message):
    with pytest.raises(ParameterError) as error:
        Params(**values)
    assert str(error.value) == message
    assert isinstance(error.value, IdtError)
    assert isinstance(error.value, ValueError)


def test_values_take_the_type_of_the_field():
    p = Params(stride=5.0, quality=1, descriptors=["mbhy", "hog"], matches="orb")
    assert (type(p.stride), type(p.quality)) == (int, float)
    assert p.descriptors == ("hog", "mbhy")
    assert p.matches == ("orb",)


def test_dict_and_back():
    p = Params(stride=8, end=100, descriptors=("hog",))
    assert p.to_dict()["descriptors"] == ["hog"]
    assert Params.from_dict(p.to_dict()) == p


def test_an_unknown_name_lists_the_near_one_and_all():
    with pytest.raises(ParameterError, match=r"^strid is not a parameter; did you mean stride\? The parameters are: "
                                             r"length, stride, .*dtype\.$"):
        Params.from_dict({"strid": 4})
    with pytest.raises(ParameterError, match=r"^zzz is not a parameter\. The parameters are: "):
        Params.from_dict({"zzz": 4})


def test_fingerprints_differ_exactly_when_a_field_differs():
    assert Params().fingerprint() == Params(quality=0.001, descriptors=reversed_default()).fingerprint()
    changed = {"flow": "dis", "camera": False, "matches": ("orb",), "people": "hog", "dtype": "float32",
               "descriptors": ("hog",)}
    changed |= {f.name: (f.default or 20) + (0.5 if isinstance(f.default, float) and f.default >= 1 else
                                             0.25 if isinstance(f.default, float) else 1) for f in NUMBERS}
    assert changed.keys() == FIELDS.keys()
    prints = {Params(**{name: value}).fingerprint() for name, value in changed.items()}
    assert len(prints | {Params().fingerprint()}) == len(FIELDS) + 1
    assert all(len(p) == 16 and int(p, 16) >= 0 for p in prints)


def test_the_nearest_is_found_whatever_the_capitals():
    assert nearest("STRAẞE", ["Strasse", "straight"]) == "; did you mean Strasse?"
    assert nearest("idt, fisher", ["dense", "iDT, Fisher"]) == "; did you mean iDT, Fisher?"
    assert nearest("x", ["dense", "iDT, Fisher"]) == "."


def reversed_default() -> tuple[str, ...]:
    return tuple(reversed(Params().descriptors))


def test_toml_file_and_overrides(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('stride = 8\ndescriptors = ["hog", "hof"]\nend = 30\n')
    assert Params.from_toml(path) == Params(stride=8, descriptors=("hog", "hof"), end=30)
    assert Params.from_toml(path, stride=4).stride == 4
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as some editors begin
    assert Params.from_toml(path).stride == 8


@pytest.mark.parametrize(("content", "message"), [
    (b"stride = 0\n", r"p\.toml: stride is 0: it must be from 1 to 1000\.$"),
    (b"strid = 4\n", r"p\.toml: strid is not a parameter; did you mean stride\?"),
    (b"stride 4\n", r"p\.toml: the parameter file is not TOML \(.*line 1.*\); it holds lines such as: stride = 5$"),
    (b"stride = 4 # \xff\n", r"p\.toml: the parameter file is not TOML"),
])
def test_a_bad_toml_file_is_named(tmp_path, content, message):
    (tmp_path / "p.toml").write_bytes(content)
    with pytest.raises(ParameterError, match=message):
        Params.from_toml(tmp_path / "p.toml")


def test_a_missing_toml_file_is_named(tmp_path):
    with pytest.raises(ParameterError, match=r"none\.toml: the parameter file cannot be read \(No such file"):
        Params.from_toml(tmp_path / "none.toml")


def test_every_field_has_text_unit_source_and_limits_for_the_table():
    for f in FIELDS.values():
        assert {"text", "unit", "source"} <= f.metadata.keys()
        assert f.metadata["text"]
        assert f.metadata["source"]
    assert limits_text(FIELDS["stride"], Params) == "from 1 to 1000"
    assert limits_text(FIELDS["camera"], Params) == "true, false"
    assert limits_text(FIELDS["matches"], Params) == "one or more of flow, orb, akaze, sift"
    assert flag_name(FIELDS["max_step"]) == "--max-step"
    assert [default_text(FIELDS[n]) for n in ("end", "camera", "descriptors", "min_std", "stride", "flow")] == [
        "none", "true", "trajectory, hog, hof, mbhx, mbhy", "1.73205", "5", "farneback"]


def test_the_page_in_docs_is_made_from_the_fields():
    page = Path(__file__).parents[1] / "docs" / "parameters.md"
    assert page.read_text(encoding="utf-8") == parameters_page(), (
        "run: python -m idt.params > docs/parameters.md")
    rows = [line for line in parameters_page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(FIELDS)


def test_the_module_prints_the_page(tmp_path):
    out = subprocess.run([sys.executable, "-m", "idt.params"], cwd=tmp_path, capture_output=True, check=True)
    assert out.stdout.decode("utf-8").replace("\r\n", "\n") == parameters_page()
