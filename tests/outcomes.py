"""What becomes of each video of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from idt.runner.jobs import Outcome


def outcomes(function: Callable[..., Any], *arguments: Any, **options: Any) -> list[Outcome]:
    """Call a function of `idt.batch` or `idt.runner.scheduler` and return the outcomes in the order of the jobs."""
    found: list[Outcome] = []
    function(*arguments, report=found.append, **options)
    return sorted(found, key=lambda outcome: outcome.number)
