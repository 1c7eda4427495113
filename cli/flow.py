"""idt flow: videos to optical flow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter

from idt._util.text import counted
from idt.cli.estimates import table
from idt.cli.options import Common, Many, Output, Threads, flags, shared, usable_cores, values_of
from idt.cli.progress import Reporter
from idt.flow.tvl1 import TVL1Params
from idt.video_flow.params import FlowParams

if TYPE_CHECKING:
    from idt.runner.jobs import Workers

    GivenFlow: TypeAlias = Any
    GivenTVL1: TypeAlias = Any
else:
    GivenFlow = flags("GivenFlow", FlowParams, Group("Flow and files", sort_key=8))
    GivenTVL1 = flags("GivenTVL1", TVL1Params, Group(
        "TV-L1", help="Only for --method tvl1; each changes one number of the preset.", sort_key=9))

_NO_FLAGS, _NO_TVL1, _MANY, _COMMON = GivenFlow(), GivenTVL1(), Many(), Common()


def flow(
    inputs: Annotated[list[str], Parameter(name="INPUT", negative=())], /, *,
    output: Output,
    device: Annotated[str, Parameter(metavar="NAME", negative=())] = "cpu",
    many: Annotated[Many, Parameter(name="*")] = _MANY,
    threads: Threads = None,
    params: Annotated[Path | None, Parameter(metavar="FILE.toml", negative=(), show_default=False)] = None,
    force: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    verify: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    estimate: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    given: Annotated[GivenFlow, Parameter(name="*")] = _NO_FLAGS,
    tvl1: Annotated[GivenTVL1, Parameter(name="*")] = _NO_TVL1,
    common: Annotated[Common, Parameter(name="*")] = _COMMON,
) -> int:
    """Write the optical flow of videos: for each a folder of images, or one file of arrays.

    n frames give n - 1 flows. Videos are done side by side, the largest first. What is done already is skipped; a video
    that fails, or on which the program dies, is reported and passed over, and leaves nothing half-written.

    Parameters
    ----------
    inputs
        Video files; folders (one that directly holds images is one video, any other is searched for videos); "globs";
        a CSV with a column path; @list.txt, a file with one of these a line.
    output
        Folder of the results: walk/a.avi below a folder argument gives the folder walk/a.avi/, or walk/a.avi.npz.
    device
        cpu, cuda (the first GPU), cuda:1, cuda:0,1 (several), or auto: the GPUs that can be used, if there are any. Of
        several, each of the processes has one.
    params
        Parameters, as lines such as: step = 2; those of TV-L1 in a section [tvl1]. Flags override it.
    force
        Also write what is done already.
    verify
        Take a video for unchanged only when its content is, not by size and time stamp, and its flow for done only when
        all of it can be read.
    estimate
        Write nothing; solve a few pairs of some of the videos and print how long all will take and how large it will
        be.
    """
    from idt.batch import flow_videos
    from idt.batch.estimate import estimate_flow
    from idt.flow.devices import processes_on
    from idt.runner.inputs import sources_of

    settings = flow_params(given, tvl1, params)
    sources = sources_of(inputs)
    workers, threads = shared(many, threads, len(sources), jobs=processes_on(device, settings.method, usable_cores()))
    if estimate:
        with FlowReporter(common, None, settings, device) as reporter:
            reporter.must_compile()
            found = estimate_flow(workers.part(sources), output, settings, device=device, threads=threads,
                                  jobs=workers.jobs or 1)
        print(table(found, jobs=workers.jobs or 1, threads=threads, device=device))
        return 0
    with FlowReporter(common, workers, settings, device) as reporter:
        summary = flow_videos(sources, output, settings, device=device, threads=threads, workers=workers, force=force,
                              verify=verify, progress=reporter.progress, report=reporter.report)
    reporter.summary(summary, output)
    return 1 if summary.failed else 0


def flow_params(given: Any, tvl1: Any, file: Path | None) -> FlowParams:
    """Return the parameters of a command line: those of the file, overridden by the flags that were given."""
    values = values_of(given)
    if numbers := values_of(tvl1):
        values["tvl1"] = numbers
    return FlowParams.from_dict(values) if file is None else FlowParams.from_toml(file, **values)


class FlowReporter(Reporter):
    """What is said of flow."""

    unit = "pairs"

    def __init__(self, common: Common, workers: Workers | None, params: FlowParams, device: str) -> None:
        super().__init__(common, workers)
        self._params = params
        self._device = device

    def result(self, meta: dict[str, Any], done: int) -> str:
        """Return what was made of how many frames."""
        p = self._params
        stacked = meta["counts"].get(p.kinds[0], 0)
        what = counted(meta["pairs"], "flow") if p.stack is None else f"{counted(stacked, 'stack')} of {p.stack} flows"
        notes = [meta["reason"]] if meta["reason"] else []
        notes += ["forward and backward"] if p.direction == "both" and meta["pairs"] else []
        if p.warped and meta["stabilised"] < meta["pairs"]:
            notes.append(f"no homography was found for {counted(meta['pairs'] - meta['stabilised'], 'pair')}")
        values = sum(meta["counts"].get(kind, 0) for kind in meta["clipped"]) * meta["height"] * meta["width"] * 2
        share = sum(meta["clipped"].values()) / values if values else 0
        notes += [f"{share:.1%} beyond the bound and clipped"] if share >= 0.001 else []
        return f"{what}{' (' + '; '.join(notes) + ')' if notes else ''}, {counted(meta['frames'], 'frame')}"

    def kernels_cached(self) -> bool:
        """Tell whether nothing needs to be compiled."""
        from idt.video_flow.pairs import kernels_cached

        return kernels_cached(self._params, self._device)
