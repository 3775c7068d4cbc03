"""Files of the dataset's formats, which writers know by the ending, put into place as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["unfinished"]


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Where to write a file whose ending says its format; it takes its place once it is complete.

    Args:
        target: the file, or folder, in the end; its folder is made, a file that is there is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=target.parent) as folder:
        draft = Path(folder) / target.name
        yield draft
        os.replace(draft, target)
