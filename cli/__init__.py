"""The command ``idt``: one file per command, each a thin call into the library."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from idt.cli.streams import mend_streams

if TYPE_CHECKING:
    from cyclopts import App

    from idt.cli.options import Common


_WAY_OUT = 5.0  # s


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the name of the program; default: those of the process.

    Returns
    -------
    int
        0: done; 1: a video failed or a file cannot be used; 2: wrong usage; 130: interrupted; 141: nobody reads the
        output any more.
    """
    if argv is None:
        mend_streams()
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell ignores it for what runs behind
            signal.signal(signal.SIGINT, _interrupted)
    debug = False
    try:
        from idt.cli.options import Common

        command, bound, _ = _app().parse_args(sys.argv[1:] if argv is None else argv, exit_on_error=False,
                                              print_error=False)
        common = bound.arguments.get("common", Common())
        debug = common.debug
        with _warnings(common):
            code = command(*bound.args, **bound.kwargs)
        sys.stdout.flush()
        return code or 0
    except (KeyboardInterrupt, Exception) as error:
        if argv is None and isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if debug:
            traceback.print_exc()
        code, line = _verdict(error)
        if line:
            print(f"idt: {line}", file=sys.stderr)
        return code


_interrupt = 0.0  # when the last one was taken


def _interrupted(*_: object) -> None:
    """End at Ctrl-C; another one within the next seconds would only interrupt the cleanup."""
    global _interrupt
    if time.monotonic() - _interrupt > _WAY_OUT:
        _interrupt = time.monotonic()
        raise KeyboardInterrupt


def _verdict(error: BaseException) -> tuple[int, str | None]:
    """Return the exit code and the line that an error deserves."""
    from cyclopts import CycloptsError

    from idt.errors import IdtError, ParameterError

    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, (ParameterError, CycloptsError)):
        return 2, " ".join(str(error).split())
    if isinstance(error, IdtError):
        return 1, str(error)
    if isinstance(error, OSError):
        # The library turns those of files into its own errors. What stdout still holds can go nowhere; without this the
        # interpreter would complain when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 141, None
        return 1, f"{error.filename or 'stdout'} cannot be written: {error.strerror}."
    return 1, f"unexpected {type(error).__name__}: {error} (--debug shows where)"


def _app() -> App:
    from cyclopts import App

    from idt import __version__
    from idt.cli.demo import demo
    from idt.cli.diff import diff
    from idt.cli.encode import encode
    from idt.cli.export import export
    from idt.cli.extract import extract
    from idt.cli.info import info
    from idt.cli.options import refuse_fractions
    from idt.cli.predict import predict
    from idt.cli.status import status
    from idt.cli.view import view

    app = App(name="idt", version=__version__, result_action="return_value", suppress_keyboard_interrupt=False,
              config=refuse_fractions,
              help="Classical video features: improved dense trajectories with HOG, HOF and MBH descriptors.\n\n"
                   "Start with: idt demo")
    for command in (demo, extract, view, export, diff, info, encode, predict, status):
        app.command(command)
    # Loaded when called: it brings the flow methods along, which take their time.
    app.command("idt.cli.flow:flow", help="Write the optical flow of videos: for each a folder of images, or one file "
                                          "of arrays.")
    app.command("idt.cli.fit:fit", help="Learn a codebook from features: how descriptors become vectors, PCA included.")
    app.command("idt.cli.train:train", help="Learn a model that labels videos from a labelled dataset: a codebook and "
                                            "a classifier.")
    app.command("idt.cli.evaluate:evaluate", help="Tell how well labels are found: accuracies, learnt and tested on "
                                                  "each split of a labelled dataset.")
    app.command("idt.cli.compare:compare", help="Hold methods against each other on a labelled dataset: trajectories, "
                                                "tables of other programs, fusions.")
    return app


@contextlib.contextmanager
def _warnings(common: Common) -> Iterator[None]:
    """Show what the library logs as lines on stderr, and what it and others warn of: of each place the first."""
    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(f"idt: warning: {record.getMessage()}", file=sys.stderr)

    logger, handler = logging.getLogger("idt"), Lines(logging.ERROR if common.quiet else logging.WARNING)
    places: set[tuple[type[Warning], str, int]] = set()

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int,
             file: TextIO | None = None, line: str | None = None) -> None:
        if (category, filename, lineno) not in places:
            logger.warning("%s", message)
        places.add((category, filename, lineno))

    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)
