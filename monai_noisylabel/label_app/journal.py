"""Who decided what and when: a file that is only ever added to."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Entry", "Journal"]


@dataclass(frozen=True)
class Entry:
    """One thing that happened to one case.

    Args:
        time: UTC, as ``2025-03-01T09:30:00+00:00``.
        user: who did it, as the server knows them.
        case: case id.
        decision: what was decided.
        files: SHA-256 of the label files that came of it, by their path below the folder of reviewed labels.
        note: what the user wrote with it.
    """

    time: str
    user: str
    case: str
    decision: str
    files: dict[str, str]
    note: str = ""


class Journal:
    """Entries in a file of JSON lines, each on the disk before :meth:`append` returns.

    A line that a crash has cut off is passed over, and the next entry begins a line of its own.

    Args:
        path: the file; it need not exist.

    Example:
        >>> import tempfile
        >>> journal = Journal(Path(tempfile.mkdtemp()) / "journal.jsonl")
        >>> entry = journal.append("ann", "case_1", "edited", {})
        >>> journal.entries() == [entry], entry.case
        (True, 'case_1')
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, user: str, case: str, decision: str, files: dict[str, str], note: str = "") -> Entry:
        """Add an entry of this moment and return it."""
        entry = Entry(datetime.now(UTC).isoformat(timespec="seconds"), user, case, decision, files, note)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
        if self._cut_off():
            line = "\n" + line
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return entry

    def entries(self) -> list[Entry]:
        """All entries, the oldest first."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_bytes().split(b"\n"):
            entry = _entry(line)
            if entry is not None:
                found.append(entry)
        return found

    def _cut_off(self) -> bool:
        """Whether the last line has no end."""
        if not self.path.exists() or not self.path.stat().st_size:
            return False
        with self.path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read() != b"\n"


def _entry(line: bytes) -> Entry | None:
    try:
        content = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None
    known = {field.name for field in fields(Entry)}
    return Entry(**content) if isinstance(content, dict) and set(content) == known else None
