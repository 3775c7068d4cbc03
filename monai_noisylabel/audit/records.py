"""What an audit has done already, on disk, by which an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_noisylabel.data.label_export import file_name_of
from monai_noisylabel.handlers.atomic import write_atomically

__all__ = ["Records", "digest", "file_state", "open_folder"]

IDENTITY = "audit.json"
OWN = (
    *(IDENTITY, "audit.csv", "audit.html", "cases.csv"),
    *("records", "errors", "proposals", "overlays", "probabilities", "folds"),
)


class Records:
    """JSON files in a folder, each valid for the key it was written with.

    Args:
        folder: the folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, key: str) -> Any:
        """The record of a name; None if there is none, it has another key, or it cannot be read."""
        try:
            content = json.loads(self._path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError):
            return None
        return content["record"] if isinstance(content, dict) and content.get("key") == key else None

    def write(self, name: str, key: str, record: Any) -> None:
        """Write the record of a name, visible only once it is complete."""
        write_atomically(json.dumps({"key": key, "record": record}), self._path(name))

    def _path(self, name: str) -> Path:
        return self.folder / f"{file_name_of(name)}.json"


def digest(*parts: Any) -> str:
    """SHA-256 of plain values.

    Example:
        >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}), digest(1) == digest("1")
        (True, False)
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_state(path: str | os.PathLike[str]) -> list[Any]:
    """Name, size and time of change of a file, by which a change is noticed without reading it."""
    status = os.stat(path)
    return [str(path), status.st_size, status.st_mtime_ns]


def open_folder(out: Path, identity: Mapping[str, Any], overwrite: bool, read_only: Iterable[Path]) -> None:
    """Make a folder that of one audit.

    Args:
        out: the folder.
        identity: what makes two audits the same.
        overwrite: whether files of another audit there may be removed. Nothing else is.
        read_only: folders that must not lie in ``out``, nor ``out`` in them.

    Raises:
        FileExistsError: if the folder holds another audit that may not be replaced, or anything else.
        ValueError: if the folders lie in each other.
    """
    for folder in read_only:
        here, there = out.resolve(), folder.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise ValueError(f"{out} and {folder}, which must stay untouched, lie in each other; write elsewhere.")
    path = out / IDENTITY
    text = json.dumps(identity, indent=2, sort_keys=True) + "\n"
    if out.exists() and any(out.iterdir()):
        if not path.is_file():
            raise FileExistsError(f"{out} holds something else than an audit; give another folder.")
        if path.read_text(encoding="utf-8") != text:
            if not overwrite:
                raise FileExistsError(
                    f"{out} holds an audit with other settings, see its {IDENTITY}; give another folder, or overwrite."
                )
            _remove([out / name for name in OWN])
    write_atomically(text, path)


def _remove(paths: Iterable[Path]) -> None:
    """Remove files, and folders with all that is in them; links are removed, not followed."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            _remove(path.iterdir())
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
