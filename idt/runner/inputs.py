"""What there is to do: the videos or features files that paths, globs and lists stand for, and where each goes."""

from __future__ import annotations

import csv
import glob
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from idt.errors import FormatError, IdtError, ParameterError, VideoError
from idt.runner.jobs import Job
from idt.video import IMAGE_SUFFIXES, identity

Paths: TypeAlias = str | os.PathLike[str]

VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"})


class Found(NamedTuple):
    """A video or features file that inputs stand for; wherever inputs are given, it stands for itself.

    Attributes
    ----------
    source : str
        Video file, folder of images, glob of images or features file.
    name : Path
        Its path below a folder of outputs, without a suffix for these.
    error : IdtError or None
        Why the input that `source` names stands for nothing.
    """

    source: str
    name: Path
    error: IdtError | None = None


Inputs: TypeAlias = Paths | Iterable[Paths | Found]


def work_list(inputs: Inputs, output: Paths, *, suffix: str = ".npz", boxes: Paths | None = None,
              homographies: Paths | None = None) -> list[Job]:
    """Return the videos that `inputs` stand for and the file that each is to give.

    Parameters
    ----------
    inputs : path, or iterable of paths and `Found`
        Each a video file; a folder that directly holds images and no video, which is one video; any other folder, which
        is searched for video files, at any depth, or if there are none for folders of images; a glob of these, or of
        the images of one video; a CSV (``.csv``) with a column ``path``, of a dataset; or ``@list.txt``, a file with
        one of these a line. A file that does not exist is left for the work to fail on.
    output : path
        The folder of the outputs. A video found in a folder keeps its path below that folder, one that a CSV names that
        below the folder of the CSV (or its whole path, if it lies elsewhere), any other its name; the full name is
        followed by `suffix`: ``walk/a.avi`` gives ``walk/a.avi.npz``.
    suffix : str
    boxes : path, optional
        Box file of the one video, or a folder that has one for each: ``walk/a.avi.txt`` or else ``walk/a.txt``.
    homographies : path, optional
        File of homographies of the one video, or a folder that has one for each: ``walk/a.avi.npz`` or else
        ``walk/a.npz``.

    Returns
    -------
    list of Job
        An input that stands for no video (an empty folder, one that cannot be read, a glob that nothing matches) is a
        job with an `error`.

    Raises
    ------
    VideoError
        No input stands for a video.
    ParameterError
        Two videos would give the same file, a list cannot be read or is empty, or a box file or a file of homographies
        is missing or would be replaced.
    """
    _check_folder(output, f"the videos, such as clip.avi{suffix}")
    found = sources_of(inputs)
    videos = sum(one.error is None for one in found)
    jobs = [Job(one.source, Path(output) / f"{one.name}{suffix}", error=one.error) if one.error is not None else
            Job(one.source, Path(output) / f"{one.name}{suffix}",
                _side_input(boxes, "boxes", one.name, ".txt", videos),
                _side_input(homographies, "homographies", one.name, ".npz", videos)) for one in found]
    _check_distinct(jobs)
    _check_kept(jobs, [path for job in jobs for path in (job.boxes, job.homographies) if path is not None])
    return jobs


def encode_list(inputs: Inputs, output: Paths) -> list[Job]:
    """Return the features files that `inputs` stand for, see `features_files`, and the file of vectors of each.

    Features found in a folder keep their path below that folder, any others their name; ``.npz`` is added to a name
    that does not end so.

    An input that stands for no file is a job with an `error`.

    Raises
    ------
    FormatError
        No input stands for a features file.
    ParameterError
        Two files would give the same vectors, or vectors would replace the features that they are made of; or a list
        cannot be read or is empty.
    """
    _check_folder(output, "the features")
    jobs = [Job(source, Path(output) / (name if name.suffix == ".npz" else f"{name}.npz"), error=error)
            for source, name, error in sources_of(inputs, features=True)]
    _check_distinct(jobs)
    _check_kept(jobs, [job.source for job in jobs])
    return jobs


def sources_of(inputs: Inputs, *, features: bool = False) -> list[Found]:
    """Return the videos that `inputs` stand for, see `work_list`, or the features files, see `features_files`.

    What is returned can be given as inputs in turn; so a list that can be read but once (``@/dev/stdin``) is. An input
    that stands for nothing has its `Found.error`, unless there is nothing but such: then the first of these is raised.
    """
    entries = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    found: list[Found] = []
    for entry in entries:
        if isinstance(entry, Found):
            found.append(entry)
            continue
        lines = _lines(os.fspath(entry))
        if not lines:
            raise ParameterError(f"{os.fspath(entry)} names no {'features file' if features else 'video'}.")
        found += [one for line in lines for one in (_features if features else _videos)(line)]
    errors = [one.error for one in found if one.error is not None]
    if errors and len(errors) == len(found):
        raise errors[0]
    return found


def features_files(inputs: Inputs) -> list[str]:
    """Return the features files that `inputs` stand for.

    Parameters
    ----------
    inputs : path, or iterable of paths and `Found`
        Each a features file; a folder, which is searched for ``.npz`` files at any depth, but for codebooks
        (``.codebook.npz``) and models (``.model.npz``); a glob of these; or ``@list.txt``, a file with one of these a
        line. A file that does not exist is left for the work to fail on.

    Raises
    ------
    FormatError
        A folder or glob stands for no file.
    ParameterError
        A file is given twice, or a list cannot be read or is empty.
    """
    files = []
    given = set()
    for file, _, error in sources_of(inputs, features=True):
        if error is not None:
            raise error
        if (path := os.path.abspath(file)) in given:
            raise ParameterError(f"{file} is given twice.")
        given.add(path)
        files.append(file)
    return files


def size_of(source: Paths) -> int:
    """Return the bytes of a file, or of all images of a folder or glob; 0 of what cannot be read."""
    try:
        return int(identity(source, content=False)["size"])
    except VideoError:
        return 0


def _check_folder(output: Paths, named_after: str) -> None:
    """Raise `ParameterError` when the output is surely meant to be a file."""
    if Path(output).suffix in (".npz", ".txt", ".h5") and not Path(output).is_dir():
        raise ParameterError(f"output is {output}: give a folder; what goes into it is named after {named_after}.")


def _check_kept(jobs: list[Job], inputs: list[Path] | list[str]) -> None:
    """Raise `ParameterError` when a job would write over an input."""
    read = {os.path.realpath(path): path for path in inputs}
    for job in jobs:
        if job.error is None and (path := read.get(os.path.realpath(job.output))) is not None:
            raise ParameterError(f"{path} would be replaced by what is made of {job.source}: choose another output "
                                 "folder.")


def _check_distinct(jobs: list[Job]) -> None:
    """Raise `ParameterError` when a job would write to where another does."""
    jobs = [job for job in jobs if job.error is None]
    sources: dict[Path, str] = {}
    for job in jobs:
        source = job.source
        if job.output in sources:
            other = sources[job.output]
            raise ParameterError(
                f"{source} is given twice." if os.path.abspath(other) == os.path.abspath(source) else
                f"{other} and {source} would both be written to {job.output}: give the folder that holds both, so that "
                "the paths below it are kept, or write them to different folders.")
        sources[job.output] = source
    for job in jobs:
        for above in job.output.parents:
            if above in sources:
                raise ParameterError(f"{sources[above]} would be written to {above}, and {job.source} into it: write "
                                     "them to different folders.")


def _lines(entry: str) -> list[str]:
    """Return the lines of a list, or the entry itself when it is none."""
    if not entry.startswith("@"):
        return [entry]
    return [line for _, line in read_list(Path(entry[1:]), ParameterError)]


def read_list(path: Path, error: type[IdtError]) -> list[tuple[int, str]]:
    """Return the lines of a text that are not empty, each with its number; `error` is raised of what is none."""
    lines = _text(path, None, error).split("\n")
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def read_csv(path: Path, required: Sequence[str], error: type[IdtError], hint: str
             ) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the names of the columns of a CSV, in lower case, and its rows that are not empty, each with its line.

    `error` is raised of what is no CSV, or has none of a `required` column, of which `hint` says more.
    """
    reader = csv.reader(io.StringIO(_text(path, "", error), newline=""), skipinitialspace=True, strict=True)
    try:
        rows = [(reader.line_num, [field.strip() for field in row]) for row in reader]
    except csv.Error as reason:
        raise error(f"{path}, line {reader.line_num}: not CSV ({reason}).") from reason
    rows = [(line, row) for line, row in rows if any(row)]
    header = [name.lower() for name in rows[0][1]] if rows else []
    if missing := [name for name in required if name not in header]:
        raise error(f"{path}: the first line names no column {' and no column '.join(missing)}: {hint}.")
    if len(set(header)) < len(header):
        raise error(f"{path}: the first line names a column twice: {','.join(header)}.")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise error(f"{path}, line {line}: {len(row)} fields, but the first line names {len(header)} columns.")
    return header, [(line, dict(zip(header, row, strict=True))) for line, row in rows[1:]]


def _text(path: Path, newline: str | None, error: type[IdtError]) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            return file.read()
    except OSError as reason:
        raise error(f"{path}: the list cannot be read ({reason.strerror}).") from reason
    except UnicodeDecodeError as reason:
        raise error(f"{path}: the list is not UTF-8 text ({reason}).") from reason


def path_below(video: Paths, folders: Sequence[Paths]) -> Path:
    """Return the path of a video below the first of the folders that it lies in, or else its whole path, relative."""
    path = Path(os.path.abspath(video))
    return path.relative_to(next(filter(path.is_relative_to, map(os.path.abspath, folders)), path.anchor))


def _in_csv(path: Path) -> list[Found]:
    """Return the videos that a CSV names; one that several rows name, such as segments of it, once."""
    _, rows = read_csv(path, ["path"], ParameterError, "give a CSV whose first line names path among its columns, or a "
                                                       "list of videos as @list.txt")
    found: dict[str, Found] = {}
    for line, row in rows:
        if not row["path"]:
            raise ParameterError(f"{path}, line {line}: the path is empty.")
        video = path.parent / row["path"]
        found.setdefault(os.path.abspath(video), Found(os.fspath(video), path_below(video, [path.parent])))
    if not found:
        raise ParameterError(f"{path} names no video.")
    return list(found.values())


def _videos(entry: str) -> list[Found]:
    """Return the videos that a path or glob stands for."""
    path = Path(entry)
    if os.path.isdir(entry):
        return _videos_in(path)
    if glob.has_magic(entry) and not os.path.lexists(entry):
        found, unreadable = _matching(entry, VideoError)
        if not found:
            return unreadable
        # Beside videos, pictures are thumbnails and the like, as they are in a folder.
        others = [f for f in found if Path(f).suffix.lower() not in IMAGE_SUFFIXES or os.path.isdir(f)]
        if not others and not glob.has_magic(os.fspath(path.parent)):
            return [Found(entry, Path(path.resolve().parent.name))]
        return [video for f in others or found for video in _videos(f)] + unreadable
    if path.suffix.lower() == ".csv":
        return _in_csv(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return [_nothing(entry, VideoError(f"{entry} is a single image: give the folder that holds the images of a "
                                           "video."))]
    return [Found(entry, Path(path.name))]


def _features(entry: str) -> list[Found]:
    """Return the features files that a path or glob stands for."""
    path = Path(entry)
    if os.path.isdir(entry):
        unreadable: list[Found] = []
        found = sorted(where / name for where, names in _walk(path, unreadable, FormatError) for name in names
                       if name.endswith(".npz") and not name.endswith((".codebook.npz", ".model.npz")))
        return _below(path, found, unreadable, FormatError(
            f"{path}: there is no features file (.npz) in this folder or below."))
    if glob.has_magic(entry) and not os.path.lexists(entry):
        matches, unreadable = _matching(entry, FormatError)
        return [file for f in matches for file in _features(f)] + unreadable
    return [Found(entry, Path(path.name))]


def _videos_in(folder: Path) -> list[Found]:
    videos, pictures = [], []
    unreadable: list[Found] = []
    for where, names in _walk(folder, unreadable, VideoError):
        suffixes = {name: Path(name).suffix.lower() for name in names}
        videos += [where / name for name, suffix in suffixes.items() if suffix in VIDEO_SUFFIXES]
        if IMAGE_SUFFIXES & set(suffixes.values()):
            pictures.append(where)
            if pictures == [folder] and not videos:
                return [Found(os.fspath(folder), Path(folder.resolve().name))]
    # Pictures beside videos are thumbnails and the like; where there is no video at all, they are the videos.
    return _below(folder, sorted(videos or pictures), unreadable, VideoError(
        f"{folder}: there is no video in this folder or below, and no folder of images."))


def _below(folder: Path, found: list[Path], unreadable: list[Found], none: IdtError) -> list[Found]:
    """Return what was found in a folder; `none` is the error where that is nothing at all."""
    return [Found(os.fspath(path), path.relative_to(folder)) for path in found] + unreadable or [
        _nothing(os.fspath(folder), none)]


def _nothing(source: str, error: IdtError) -> Found:
    """Return an input that stands for nothing; nothing is written to its name."""
    return Found(source, path_below(source, [os.curdir]), error)


def _matching(pattern: str, error: type[IdtError]) -> tuple[list[str], list[Found]]:
    """Return what a glob matches, in order, and the folders that cannot be read, or that nothing matches."""
    unreadable: list[Found] = []
    found = sorted(set(_expanded(pattern, unreadable, error)))
    if not found and not unreadable:
        unreadable.append(_nothing(pattern, error(f"{pattern}: nothing matches.")))
    return found, unreadable


def _expanded(pattern: str, unreadable: list[Found], error: type[IdtError]) -> Iterator[str]:
    """Yield what a glob matches. As anywhere, ``**`` passes over links to folders, which may lead in circles."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    depth = parts.index("**")
    rest = parts[depth + 1:] or ("*",)
    for start in glob.iglob(os.path.join(*parts[:depth])) if depth else [os.curdir]:
        for where, _ in _walk(Path(start), unreadable, error) if os.path.isdir(start) else ():
            yield from _expanded(os.path.join(*map(glob.escape, where.parts), *rest), unreadable, error)


def _walk(folder: Path, unreadable: list[Found], error: type[IdtError]) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder, then all below it, each with the names of its files; hidden names are left out.

    Links to folders are not followed. Folders that cannot be read are added to `unreadable`.
    """
    def failed(reason: OSError) -> None:
        where = os.path.normpath(reason.filename)
        unreadable.append(_nothing(where, error(f"{where}: the folder cannot be read ({reason.strerror}).")))

    for where, folders, names in os.walk(folder, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield Path(where), [name for name in names if not name.startswith(".")]


def _side_input(given: Paths | None, what: str, name: Path, suffix: str, videos: int) -> Path | None:
    """Return the side input of the video `name`: the given file, or the one for it in the given folder."""
    if given is None:
        return None
    path = Path(given)
    if not path.is_dir():
        if videos > 1:
            raise ParameterError(f"{what} is {path}, which is not a folder, but there are {videos} videos: give a "
                                 f"folder with a file for each, such as {name}{suffix}.")
        return path
    names = [f"{name}{suffix}", os.fspath(name.with_suffix(suffix))]
    for candidate in names:
        if (path / candidate).is_file():
            return path / candidate
    raise ParameterError(f"{what} is the folder {path}, in which {' or '.join(dict.fromkeys(names))} is missing.")
