"""idt info: what a file or the machine is."""

from __future__ import annotations

import ctypes
import importlib.metadata
import math
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from idt._util.text import counted
from idt.cli.options import Common, usable_cores
from idt.cli.progress import in_bytes
from idt.errors import FormatError, ParameterError
from idt.params import Params

if TYPE_CHECKING:
    from idt.encoding.model import Channel, Codebook
    from idt.features.record import Features

Lines: TypeAlias = list[tuple[str, object]]

_LIBRARIES = ("numpy", "numba", "scipy", "scikit-learn", "opencv-contrib-python-headless", "av", "h5py", "pyarrow")


def info(
    file: Annotated[Path | None, Parameter(negative=(), show_default=False)] = None, /, *,
    compile: Annotated[bool, Parameter(name="--compile", negative=(), show_default=False)] = False,
    common: Annotated[Common, Parameter(name="*")] = Common(),
) -> None:
    """Show what a file of this program or a video is; without a file, what the program runs on.

    A video is decoded to its end, because what its header says of the number of frames is often wrong.

    Parameters
    ----------
    file
        Features file (.npz, or the original text), flow (a folder with meta.json, .npz or .h5), codebook, model, file
        of vectors, video file or folder of images.
    compile
        Compile all kernels now, instead of when they are first used; for images of containers.
    """
    if file is None:
        if compile:
            from idt.recognition import classifier
            from idt.trajectories import extraction
            from idt.video_flow import pairs

            for module in (extraction, pairs, classifier):
                module.compile_kernels()
        lines = _machine()
    elif compile:
        raise ParameterError(f"compile goes without a file, but {file} is given.")
    elif (encoded := _encoded(file)) is not None:
        lines = encoded
    elif (of_flow := _flow(file)) is not None:
        lines = of_flow
    elif _holds_features(file):
        from idt.features.record import Features

        lines = _features(file, Features.load(file))
    else:
        lines = _video(file)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        # The name of a video may have bytes that are no text, which stdout would refuse.
        print(f"{name:{width}}  {value}".encode(errors="backslashreplace").decode())


def _machine() -> Lines:
    from idt import __version__

    lines: Lines = [("densetraj", f"{__version__} in {Path(__file__).parents[1] / 'idt'}"),
                    ("Python", f"{platform.python_version()} in {sys.prefix}"), ("system", platform.platform()),
                    ("processor", _processor()), ("usable cores", usable_cores()), ("CUDA", _cuda())]
    for name in _LIBRARIES:
        try:
            lines.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            lines.append((name, "not installed"))
    return [*lines, *_kernels()]


def _kernels() -> Lines:
    """Return whether the kernels are compiled, and where numba keeps them and how much that is."""
    from numba.core.dispatcher import Dispatcher

    from idt.trajectories import extraction
    from idt.video_flow.pairs import kernels_cached
    from idt.video_flow.params import FlowParams

    cached = extraction.kernels_cached() and kernels_cached(FlowParams())
    kernels = [value for name, module in list(sys.modules.items()) if name.startswith("idt.")
               for value in vars(module).values() if isinstance(value, Dispatcher)]
    lines: Lines = [("kernels", "compiled" if cached else "not compiled yet: the first run does it, or idt info "
                                                         "--compile")]
    for place in sorted({str(kernel.stats.cache_path) for kernel in kernels if kernel.stats.cache_path}):
        files = list(Path(place).glob("*.nb[ci]"))
        size = sum(path.stat().st_size for path in files)
        lines.append(("kernel cache", f"{place}, {counted(len(files), 'file')}, {in_bytes(size)}"))
    return lines


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _cuda() -> str:
    """Return what the CUDA driver says, without any CUDA library of Python."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return "no driver"
    count, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
    names = []
    if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
        for n in range(count.value):
            if (driver.cuDeviceGet(ctypes.byref(device), n), driver.cuDeviceGetName(name, len(name), device)) == (0, 0):
                names.append(name.value.decode(errors="replace"))
    return ", ".join(names) or "a driver, but no usable device"


def _holds_features(path: Path) -> bool:
    """Tell by its first bytes or its name whether a file holds features, as text or not; all else may be a video."""
    head = _head(path)
    return (head == b"PK\x03\x04" or head[:2] == b"\x1f\x8b" or head[:1].isdigit()
            or path.suffix in (".npz", ".txt", ".gz"))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError:
        return b""


def _encoded(path: Path) -> Lines | None:
    """Return what a codebook, a model or a file of vectors is, None when it is something else."""
    if _head(path) != b"PK\x03\x04":
        return None
    from idt._util.npz import kind_of
    from idt.recognition.classifier import load_model
    from idt.recognition.codebook_learning import load_codebook

    kind = kind_of(path)
    if kind == "codebook":
        return [("codebook", f"{path}, {in_bytes(path.stat().st_size)}"), *_codebook(load_codebook(path))]
    if kind == "model":
        model = load_model(path)
        return [("model", f"{path}, {in_bytes(path.stat().st_size)}"),
                ("labels", f"{len(model.labels)}: {', '.join(model.labels)}"), *_codebook(model.codebook)]
    return _vectors(path) if kind == "vectors" else None


def _codebook(codebook: Codebook) -> Lines:
    from idt.recognition.vectors import EncodingParams

    meta = codebook.meta
    lines: Lines = []
    if isinstance(meta.get("videos"), int) and isinstance(meta.get("descriptors"), int):
        drawn = counted(meta["descriptors"], "descriptor")
        lines.append(("learnt from", f"{counted(meta['videos'], 'video')}, {drawn} of each channel"))
    for name, key, owner in (("encoding", "params", EncodingParams), ("extraction", "extraction", Params)):
        if isinstance(meta.get(key), dict):
            lines.append((name, changed(meta[key], owner().to_dict())))
    return lines + [(name, channel_text(channel)) for name, channel in codebook.channels.items()]


def channel_text(channel: Channel) -> str:
    """Return what a codebook makes of the descriptors of a channel."""
    encoder = channel.encoder
    kind = type(encoder).__name__
    words = len(encoder.codebook_.weights_ if kind == "FisherVector" else encoder.codebook_.centres_)
    made = {"FisherVector": f"Fisher vectors of {counted(words, 'Gaussian')}",
            "VLAD": f"VLAD of {counted(words, 'word')}", "BagOfWords": f"bags of {counted(words, 'word')}"}[kind]
    pca = "" if channel.pca is None else f", {len(channel.pca.components_)} after PCA"
    cells = "" if channel.pyramid is None else f" in {counted(channel.pyramid.size, 'cell')}"
    return f"{counted(channel.width, 'number')}{pca}; {made}{cells}, {counted(channel.size, 'value')}"


def _vectors(path: Path) -> Lines:
    from idt.recognition.vectors import Vectors

    vectors = Vectors.load(path)
    meta = vectors.meta
    lines: Lines = [("vectors", f"{path}, {in_bytes(path.stat().st_size)}")]
    if meta.get("video"):
        lines.append(("video", meta["video"].get("name")))
    length = "the whole video" if meta.get("window") is None else \
        f"{counted(meta['window'], 'frame')} each, one every {counted(meta['stride'], 'frame')}"
    empty = int((vectors.count == 0).sum())
    lines.append(("windows", f"{len(vectors)}, {length}{f'; {empty} without trajectories' if empty else ''}"))
    lines.append(("trajectories", f"{meta.get('rows')}{': ' + meta['reason'] if meta.get('reason') else ''}"))
    if meta.get("package"):
        lines.append(("made by", f"densetraj {meta['package']}, codebook {str(meta.get('codebook'))[:16]}"))
    return lines + [(name, f"{array.dtype} {array.shape}") for name, array in vectors.channels.items()]


def _flow(path: Path) -> Lines | None:
    """Return what a folder or file that idt flow made is, None when it is something else."""
    from idt.flow.files import open_flows

    head = _head(path)
    if head not in (b"PK\x03\x04", b"\x89HDF") and not (path / "meta.json").is_file():
        return None
    try:
        with open_flows(path) as flows:
            meta = flows.meta
    except FormatError:
        if head == b"PK\x03\x04":  # perhaps features, whose reader says the same of what is neither
            return None
        raise
    files = list(path.iterdir()) if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    lines: Lines = [("flow", f"{path}, {in_bytes(size)}{f', {len(files)} files' if path.is_dir() else ''}"),
                    ("size", f"{meta['width']}x{meta['height']}")]
    if meta.get("video"):
        lines.append(("video", _source(meta["video"])))
        reason = f": {meta['reason']}" if meta["reason"] else ""
        lines.append(("processed", f"{counted(meta['frames'], 'frame')}, {counted(meta['pairs'], 'pair')}{reason}"))
        if meta["stabilised"] is not None:
            lines.append(("camera", f"taken out of {counted(meta['stabilised'], 'pair')}"))
    for kind, number in meta["counts"].items():
        clipped = meta["clipped"].get(kind, 0) / (2 * number * meta["height"] * meta["width"])
        lines.append((kind, f"{number}{f', {clipped:.2%} of the values clipped' if clipped else ''}"))
    if meta.get("params"):
        lines.append(("made by", f"densetraj {meta['package']}, algorithm {meta['algorithm']}"))
        lines.append(("parameters", _changed_flow(meta["params"])))
    return lines


def _changed_flow(params: dict[str, Any]) -> str:
    from idt.video_flow.params import FlowParams

    standard = FlowParams(preset=params["preset"]).to_dict()
    numbers = params.get("tvl1") or {}
    return changed({**params, **numbers, "tvl1": None}, {**standard, **standard["tvl1"], "tvl1": None,
                                                          "preset": FlowParams.preset})


def changed(params: dict[str, Any], standard: dict[str, Any]) -> str:
    """Return the parameters that are not the standard ones."""
    changes = [f"{name} {','.join(map(str, value)) if isinstance(value, list) else value}"
               for name, value in params.items() if standard.get(name) != value]
    return ", ".join(changes) or "standard"


def _source(video: dict[str, Any], size: str = "") -> str:
    rate = f", {video['fps']:.2f} frames/s" if video["fps"] else ""
    return f"{video['name']}{size}{rate}, {_frames(video['decoded_frames'], video['damaged_frames'])}"


def _features(path: Path, features: Features) -> Lines:
    meta = features.meta
    lines: Lines = [("features", f"{path}, {in_bytes(path.stat().st_size)}")]
    video, span = meta.get("video"), meta.get("span")
    if video:
        lines.append(("video", _source(video, f", {video['width']}x{video['height']}" if video["width"] else "")))
    if span and span["frames"]:
        lines.append(("processed", f"frames {span['first']} to {span['last']}"))
    lines.append(("trajectories", f"{len(features)}{': ' + meta['reason'] if meta.get('reason') else ''}"))
    if meta.get("kept"):
        lines.append(("sample", f"of {counted(meta['kept']['of'], 'trajectory', 'trajectories')}, --keep "
                                f"{meta['kept']['rows']}"))
    if meta.get("package"):
        lines.append(("made by", f"densetraj {meta['package']}, algorithm {meta['algorithm']}"))
    if meta.get("origin") == "text":
        lines.append(("parameters", "not in a text file; taken for the standard ones"))
    elif meta.get("params"):
        lines.append(("parameters", changed(meta["params"], Params().to_dict())))
    lines += [(name, f"{array.dtype} {array.shape}") for name, array in features.arrays().items()]
    return lines


def _video(path: Path) -> Lines:
    from idt.video import frames, identity

    time_s = math.nan
    with frames(path, threads=usable_cores()) as reader:
        for frame in reader:
            time_s = frame.time_s
    stated = f" (its header says {reader.total})" if reader.total not in (None, reader.decoded) else ""
    lines: Lines = [("video", f"{path}, {in_bytes(identity(path, content=False)['size'])}"),
                    ("size", f"{reader.width}x{reader.height}"),
                    ("frames", f"{_frames(reader.decoded, reader.damaged)}{stated}"),
                    ("frame rate", f"{reader.fps:.3f} frames/s" if reader.fps else "not stated")]
    if not math.isnan(time_s):
        lines.append(("last frame", f"at {time_s:.3f} s"))
    return lines


def _frames(decoded: int, damaged: int) -> str:
    return counted(decoded, "frame") + (f", {damaged} of them damaged" if damaged else "")
