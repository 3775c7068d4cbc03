"""Writing files so that a reader, or a resumed run, never meets half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draft_of", "save_atomically", "save_figure_atomically", "write_atomically", "write_bytes_atomically"]


def save_atomically(value: Any, path: Path) -> None:
    """``torch.save`` to ``path``, visible only once it is complete."""
    with draft_of(path) as draft:
        torch.save(value, draft)


def save_figure_atomically(figure: Figure, path: Path, dpi: int = 130) -> None:
    """Write a figure as PNG to ``path``, visible only once it is complete."""
    with draft_of(path) as draft:
        figure.savefig(draft, dpi=dpi, format="png")


def write_atomically(text: str, path: Path) -> None:
    """Write ``text`` to ``path``, visible only once it is complete."""
    with draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_bytes_atomically(content: bytes, path: Path) -> None:
    """Write bytes to ``path``, visible only once they are complete."""
    with draft_of(path) as draft:
        draft.write_bytes(content)


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of a file at the end, unless that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    yield draft
    os.replace(draft, path)
