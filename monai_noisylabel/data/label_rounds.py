"""The visible rounds of a label store, as a reader sees them.

Training reads a label per item, so finding its file must cost next to nothing: the index of all rounds is
kept in memory and rebuilt only when the modification time of the rounds folder says that a round came or went
(one ``stat`` per read). Writers stamp that time explicitly, because file systems count it in steps of several
milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from monai_noisylabel.data.label_codec import LABEL_SUFFIX, WITHDRAWN_SUFFIX

__all__ = ["RoundIndex", "Rounds", "stamp"]

_NO_FOLDER = (-1, -1)
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Rounds(NamedTuple):
    """What a reader knows at one moment; never changed once made, so that threads may share it."""

    key: tuple[int, int]
    folders: Mapping[int, tuple[int, int]]  # round -> identity of its folder
    cases: Mapping[str, tuple[int, ...]]  # file stem -> rounds changing it, ascending; < 0: withdrawn

    @property
    def newest(self) -> int:
        """Number of the newest round, 0 when there is none."""
        return max(self.folders, default=0)

    def holding(self, stem: str, round: int | None) -> int | None:
        """The round whose label of this case is in force at ``round``; None when there is none."""
        for number in reversed(self.cases.get(stem, ())):
            if round is None or abs(number) <= round:
                return number if number > 0 else None
        return None


class RoundIndex:
    """Cached index of the rounds under a folder.

    Args:
        folder: the folder of round folders; it need not exist yet.

    Example:
        >>> RoundIndex(Path("no such folder")).current().newest
        0
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known = Rounds(_NO_FOLDER, _NOTHING, _NOTHING)

    def path(self, round: int) -> Path:
        """Folder of one round."""
        return self.folder / f"{round:04d}"

    def current(self) -> Rounds:
        """The rounds visible now."""
        while self._key() != self._known.key:
            # A round may be dropped between being listed and being opened; then look again.
            with contextlib.suppress(FileNotFoundError):
                self._known = self._scan(self._known)
        return self._known

    def _key(self) -> tuple[int, int]:
        try:
            status = os.stat(self.folder)
        except FileNotFoundError:
            return _NO_FOLDER
        return status.st_mtime_ns, status.st_ino

    def _scan(self, known: Rounds) -> Rounds:
        """List the rounds; open only the new ones, or all when a known one was dropped or replaced."""
        key = self._key()  # before listing: what changes meanwhile is seen next time
        if key == _NO_FOLDER:
            return Rounds(key, _NOTHING, _NOTHING)
        with os.scandir(self.folder) as entries:
            statuses = {int(entry.name): os.stat(entry.path) for entry in entries if entry.name.isdecimal()}
        folders = {number: (statuses[number].st_ino, statuses[number].st_mtime_ns) for number in sorted(statuses)}
        grown = [*folders.items()][: len(known.folders)] == [*known.folders.items()]
        cases = dict(known.cases) if grown else {}
        for number in folders:
            if not grown or number not in known.folders:
                for name in os.listdir(self.path(number)):
                    stem, dot, suffix = name.rpartition(".")
                    if dot + suffix in (LABEL_SUFFIX, WITHDRAWN_SUFFIX):
                        change = number if dot + suffix == LABEL_SUFFIX else -number
                        cases[stem] = (*cases.get(stem, ()), change)
        return Rounds(key, MappingProxyType(folders), MappingProxyType(cases))


def stamp(folder: Path) -> None:
    """Give a folder the present time, to the nanosecond, as modification time."""
    now = time.time_ns()
    with contextlib.suppress(PermissionError):  # the folder belongs to another user: its coarse time must do
        os.utime(folder, ns=(now, now))
