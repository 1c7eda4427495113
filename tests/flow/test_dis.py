"""flow.dis: OpenCV's solvers, DIS and DeepFlow, at full resolution, reduced to every scale."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

import synthetic
from idt.errors import ParameterError
from idt.flow import compute, method_for
from idt.flow.dis import DIS, DeepFlow
from idt.flow.pyramid import reduce_flow, scale_factors, scale_sizes
from waiting import PATIENCE_S

SOLVERS = {DIS: lambda: cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
           DeepFlow: cv2.optflow.createOptFlow_DeepFlow}

every_method = pytest.mark.parametrize("method", SOLVERS)


def solved(a, b, method=DIS):
    height, width = a.shape
    solver = method(width, height, factors=scale_factors(width, height))
    return solver.solve(solver.prepare(a), solver.prepare(b))


@every_method
@pytest.mark.parametrize("size", [(32, 33), (67, 93), (32, 200), (121, 160)])
def test_every_scale_is_the_reduced_full_resolution(size, method):
    a, b = synthetic.turn(2, 1.03, frames=2, height=size[0], width=size[1]).frames
    flows = solved(a, b, method)
    full = SOLVERS[method]().calc(a, b, None)
    factors = scale_factors(*size[::-1])
    sizes = scale_sizes(*size[::-1], factors)
    assert [flow.shape for flow in flows] == [(*s, 2) for s in sizes]
    np.testing.assert_array_equal(flows[0], full)
    for flow, (height, width), factor in zip(flows, sizes, factors, strict=True):
        assert flow.dtype == np.float32
        np.testing.assert_array_equal(flow, reduce_flow(full, height, width, factor))


@pytest.mark.parametrize(("method", "clip", "limit"), [
    (DIS, synthetic.pan((1.5, -0.75), frames=2), 0.15), (DIS, synthetic.pan((-6.25, 4.5), frames=2), 0.2),
    (DIS, synthetic.turn(2, 1.03, frames=2), 0.15), (DeepFlow, synthetic.pan((1.5, -0.75), frames=2), 0.1),
    (DeepFlow, synthetic.pan((-3.25, 2), frames=2), 0.1), (DeepFlow, synthetic.turn(2, 1.03, frames=2), 0.1)])
def test_known_motion(method, clip, limit):
    """Median end-point error away from the sides, in px of each scale."""
    for flow, factor in zip(solved(*clip.frames, method), scale_factors(96, 72), strict=True):
        height, width = flow.shape[:2]
        truth = reduce_flow(clip.flow[1], height, width, factor)
        margin = round(12 / factor)
        error = np.linalg.norm(flow - truth, axis=2)[margin:-margin, margin:-margin]
        assert np.median(error) < limit / factor


@every_method
def test_equal_frames_do_not_move(method):
    frame = synthetic.still(frames=1).frames[0]
    assert np.abs(np.concatenate([flow.ravel() for flow in solved(frame, frame, method)])).max() < 1e-3


@every_method
def test_a_solver_does_not_remember(method):
    frames = synthetic.pan((2.0, 1.0), frames=3).frames
    solver = method(96, 72, factors=scale_factors(96, 72))
    first = solver.solve(frames[0], frames[1])[0].copy()
    solver.solve(frames[1], frames[2])
    np.testing.assert_array_equal(solver.solve(frames[0], frames[1])[0], first)


@every_method
def test_threads_may_solve_at_once(method):
    frames = synthetic.turn(1.0, frames=4).frames
    solver = method(96, 72, factors=scale_factors(96, 72))
    pairs = [(a, b) for a in frames for b in frames]
    one_by_one = [solver.solve(*pair)[0] for pair in pairs]
    with ThreadPoolExecutor(3) as pool:
        np.testing.assert_array_equal(list(pool.map(lambda pair: solver.solve(*pair)[0], pairs)), one_by_one)


@pytest.mark.parametrize("missing", ["DeepFlow", "optflow"])
def test_an_opencv_without_deepflow(missing, monkeypatch):
    """Only opencv-contrib has it; the others lack the whole module."""
    if missing == "optflow":
        monkeypatch.delattr(cv2, "optflow", raising=False)
    else:
        monkeypatch.delattr(cv2.optflow, "createOptFlow_DeepFlow", raising=False)
    frames = synthetic.still(frames=2).frames
    assert method_for("deepflow") is DeepFlow
    with pytest.raises(ParameterError) as error:
        compute(*frames, method="deepflow")
    assert str(error.value) == (f"method is 'deepflow', which this OpenCV ({cv2.__version__}) does not have: install "
                                "opencv-contrib-python-headless in its place, or use tvl1.")


@pytest.mark.parametrize("shape", [(2, 2), (2, 40), (40, 2), (3, 5), (16, 16), (15, 64)])
def test_deepflow_of_small_images(shape):
    result = child(f"""
        import numpy as np
        from idt.flow import compute
        flow = compute(*np.random.default_rng(0).integers(0, 256, (2, *{shape}), np.uint8), method="deepflow")
        assert flow.shape == (*{shape}, 2)
        assert flow.dtype == np.float32
        assert np.isfinite(flow).all()
    """)
    assert (result.returncode, result.stderr) == (0, "")


# In children, because OpenCV itself refuses neither of these and writes out of bounds


def child(program):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True,
                          timeout=PATIENCE_S)


@pytest.mark.parametrize("shape", [(8, 8), (9, 50), (15, 64)])
def test_images_that_are_too_small_are_refused(shape):
    result = child(f"""
        import numpy as np
        from idt.flow import compute
        compute(*np.random.default_rng(0).integers(0, 256, (2, *{shape}), np.uint8), method="dis")
    """)
    assert result.returncode == 1
    assert "idt.errors.ParameterError" in result.stderr
    assert f"{shape[1]}x{shape[0]}" in result.stderr or str(shape) in result.stderr


def test_the_two_stages_of_the_extraction_may_solve_at_once():
    result = child(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        import synthetic
        from idt import Params, extract
        clip = synthetic.moving_square(camera=synthetic.translation(-1.25, 0.5), frames=16, height=96, width=128)
        params = Params(length=5, flow="dis", min_motion=0)
        one, two, again = (extract(clip.frames, params, threads=n) for n in (1, 2, 2))
        assert len(one) > 10
        for name, values in one.arrays().items():
            for other in (two, again):
                assert values.tobytes() == getattr(other, name).tobytes(), name
    """)
    assert result.returncode == 0, result.stderr
