"""File facts kept between runs, so that a check reads each unchanged file once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from monai_noisylabel.data.file_facts import FileFacts
from monai_noisylabel.data.phantom import cache_folder

__all__ = ["FactsCache"]

VERSION = 2  # raise when FileFacts or the way they are found change
logger = logging.getLogger(__name__)


class FactsCache:
    """Facts of the files of one dataset folder, valid while path, size and modification time stay the same.

    They lie in one JSON file in the user's cache folder (environment variable ``NOISYLABEL_CACHE``, else
    ``~/.cache/monai_noisylabel``), never in the dataset folder. A cache that cannot be read or written only
    costs time.

    Args:
        root: dataset folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        name = hashlib.blake2b(os.path.realpath(root).encode(), digest_size=10).hexdigest()
        self.path = cache_folder() / "checked" / f"{name}.json"
        self._entries: dict[str, tuple[list[int], dict[str, object]]] = {}
        self._changed = False
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["version"] == VERSION:
                self._entries = {key: (state, facts) for key, (state, facts) in stored["files"].items()}

    def get(self, file: str, role: str) -> FileFacts | None:
        """Facts of a file, None when they are unknown or the file has changed.

        Args:
            file: path relative to the dataset folder.
            role: in which role, and with which settings, the file was read.
        """
        entry = self._entries.get(f"{role}|{file}")
        if entry is None or entry[0] != _state(self.root / file):
            return None
        try:
            return _restored(entry[1])
        except (TypeError, ValueError, AttributeError):
            return None

    def put(self, file: str, role: str, facts: FileFacts, state: list[int]) -> None:
        """Remember facts of a file that was read; ``state`` is its :meth:`state` before the read."""
        if facts.error is None:  # a failed read may be the fault of a disk or network that is back next time
            self._entries[f"{role}|{file}"] = (state, asdict(facts))
            self._changed = True

    def state(self, file: str) -> list[int]:
        """What tells whether a file has changed."""
        return _state(self.root / file)

    def save(self) -> None:
        """Write what is new, in one atomic step."""
        if not self._changed:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".checked", dir=self.path.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump({"version": VERSION, "root": str(self.root), "files": self._entries}, stream)
            os.replace(temporary, self.path)
        except OSError as error:
            logger.warning(
                "The results of the dataset check cannot be kept in %s (%s): files will be read again next "
                "time. Set NOISYLABEL_CACHE to a folder that can be written.",
                self.path.parent,
                error,
            )


def _state(path: Path) -> list[int]:
    """Size and modification time of a file; for a folder, of all files in it and their number."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [file.stat() for file in files]
    except OSError:
        return []
    return [
        len(stats),
        sum(stat.st_size for stat in stats),
        max((stat.st_mtime_ns for stat in stats), default=0),
    ]


def _restored(entry: dict[str, object]) -> FileFacts:
    fields = dict(entry)
    for name in ("shape", "values"):
        value = fields[name]
        fields[name] = tuple(value) if isinstance(value, list) else value
    if isinstance(slices := fields["slices"], dict):
        fields["slices"] = {int(value): [(start, stop) for start, stop in runs] for value, runs in slices.items()}
    return FileFacts(**fields)  # type: ignore[arg-type]
