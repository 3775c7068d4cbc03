"""Writing files so that a reader, or a resumed run, never meets half of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

__all__ = ["save_atomically", "write_atomically", "write_bytes_atomically"]


def save_atomically(value: Any, path: Path) -> None:
    """``torch.save`` to ``path``, visible only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(value, draft)
    os.replace(draft, path)


def write_atomically(text: str, path: Path) -> None:
    """Write ``text`` to ``path``, visible only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def write_bytes_atomically(content: bytes, path: Path) -> None:
    """Write bytes to ``path``, visible only once they are complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    os.replace(draft, path)
