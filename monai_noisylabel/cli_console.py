"""What the console commands share: where they print, and how they show progress."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["DatasetDir", "LabelFormat", "SpatialDims", "console", "print_failures", "progress_bar", "unusable"]

PIPE_WIDTH = 200
USAGE = 2
"""Exit code where a command can do nothing at all."""

DatasetDir = Annotated[Path | None, typer.Option("--dataset_dir", "--dataset-dir", help="The dataset.")]
LabelFormat = Annotated[
    str, typer.Option("--format", help="nifti (PNG for pictures), or dicom_seg where images are DICOM series.")
]
SpatialDims = Annotated[int | None, typer.Option("--spatial_dims", "--spatial-dims", min=2, max=3)]


def console() -> Console:
    """Console as wide as the terminal; wide enough for whole file names where there is none."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def progress_bar(what: str, errors: Console) -> Progress:
    """Bar with the number of things done, for use as a context."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=errors, transient=True)


def print_failures(failed: Mapping[str, str], errors: Console) -> None:
    """Name each case that failed, and why."""
    for case, problem in failed.items():
        errors.print(f"[bold red]{escape(case)}:[/] {escape(problem)}", soft_wrap=True, highlight=False)


def unusable(error: Exception, errors: Console) -> typer.Exit:
    """Say why a command can do nothing; the exit to raise."""
    errors.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
    return typer.Exit(USAGE)
