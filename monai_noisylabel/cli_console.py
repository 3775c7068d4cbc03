"""What the console commands share: where they print, and how they show progress."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["DatasetDir", "SpatialDims", "console", "progress_bar"]

PIPE_WIDTH = 200

DatasetDir = Annotated[Path | None, typer.Option("--dataset_dir", "--dataset-dir", help="The dataset.")]
SpatialDims = Annotated[int | None, typer.Option("--spatial_dims", "--spatial-dims", min=2, max=3)]


def console() -> Console:
    """Console as wide as the terminal; wide enough for whole file names where there is none."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def progress_bar(what: str, errors: Console) -> Progress:
    """Bar with the number of things done, for use as a context."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=errors, transient=True)
