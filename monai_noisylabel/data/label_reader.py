"""The committed rounds of a label store, for reading: by training, its data loading workers, and audits."""

from __future__ import annotations

import copy
import operator
import os
from pathlib import Path
from typing import Any

import numpy as np

from monai_noisylabel.data.label_codec import (
    HOW_TO_MEND,
    LABEL_SUFFIX,
    CorruptLabelError,
    StoredLabel,
    decode_label,
    file_stem,
)
from monai_noisylabel.data.label_record import RECORD, read_record, round_problems
from monai_noisylabel.data.label_rounds import RoundIndex

__all__ = ["LabelReader"]


class LabelReader:
    r"""Reads the rounds under a folder as they are now, also while another process commits or rewinds.

    Cheap to read from (one ``stat`` and one small file per label) and safe to share: with forked workers,
    which then look for themselves; with spawned ones, since it pickles without what it has read; and between
    threads.

    Args:
        root: folder of the store; without it there are no rounds.

    Raises:
        NotADirectoryError: if ``root`` is a file.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        if self.root.exists() and not self.root.is_dir():
            raise NotADirectoryError(f"The label store {self.root} is a file; give the path of a folder.")
        self._forget()

    def _forget(self) -> None:
        self._index = RoundIndex(self.root / "rounds")
        self._records: dict[int, tuple[tuple[int, int], dict[str, Any]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what is known of the rounds: another process looks for itself."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_index", "_records")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, round={self.round})"

    @property
    def round(self) -> int:
        """Number of the newest visible round; 0 when there is none."""
        return self._index.current().newest

    def read(self, case: str, round: int | None = None) -> np.ndarray | None:
        r"""Newest label of a case.

        Args:
            case: case id.
            round: only rounds up to this one count; None: all.

        Shape:
            As proposed: (1, \*S) for multi-class, (K, \*S) for multi-label; a fresh, writable array of
            uint8.

        Returns:
            The label; None if there is none in these rounds, or it was withdrawn.

        Raises:
            ValueError: if there is no such round.
            CorruptLabelError: if the file of the label is damaged.
        """
        stored = self.read_stored(case, round)
        return None if stored is None else stored.label

    def read_stored(self, case: str, round: int | None = None) -> StoredLabel | None:
        """As :meth:`read`, with the header beside it: ``geometry``, ``voxels_changed`` and ``facts``."""
        stem = file_stem(case)
        number, tried = self._holding(stem, round), None
        while number is not None:
            path = self._index.path(number) / (stem + LABEL_SUFFIX)
            source = f"{path} (case {case!r}, round {number})"
            try:
                return decode_label(path.read_bytes(), source)
            except FileNotFoundError as error:
                number, tried = self._holding(stem, round), number  # another process may just have rewound
                if number == tried:
                    raise CorruptLabelError(f"{source} is missing. {HOW_TO_MEND}") from error
        return None

    def record(self, round: int) -> dict[str, Any]:
        """Record of a round: why, method, parameters, code version, UTC time, and per case what changed.

        Raises:
            ValueError: if there is no such round.
            CorruptLabelError: if the record is damaged.
        """
        return copy.deepcopy(self._read_record(self._checked(round, first=1)))

    def history(self, case: str) -> list[dict[str, Any]]:
        """What happened to a case, oldest first: why each round changed it, and by how much."""
        entries = []
        for number in map(abs, self._index.current().cases.get(file_stem(case), ())):
            record = self._read_record(number)
            about = {key: record[key] for key in ("round", "why", "method", "time_utc")}
            entries.append(copy.deepcopy(about | record["cases"][case]))
        return entries

    def verify(self) -> int:
        """Check every file of every round against its record.

        Returns:
            Number of rounds.

        Raises:
            CorruptLabelError: if anything is missing, altered or added; all of it is named.
        """
        newest = self.round
        problems: list[str] = []
        for number in range(1, newest + 1):
            problems += round_problems(self._index.path(number), self._record_of(number - 1))
        if problems:
            raise CorruptLabelError(
                f"The label store {self.root} is damaged: {'; '.join(problems)}. Restore the files "
                "from a backup, or drop the first damaged round and the later ones with LabelStore.rewind."
            )
        return newest

    def _holding(self, stem: str, round: int | None) -> int | None:
        return self._index.current().holding(stem, None if round is None else self._checked(round, first=0))

    def _checked(self, round: int, first: int) -> int:
        number, newest = operator.index(round), self.round
        if not first <= number <= newest:
            raise ValueError(
                f"{self.root} has no round {number}: its newest is {newest}. Is this the store of that run?"
            )
        return number

    def _record_of(self, number: int) -> Path | None:
        return self._index.path(number) / RECORD if number > 0 else None

    def _read_record(self, number: int) -> dict[str, Any]:
        identity = self._index.current().folders[number]
        if number not in self._records or self._records[number][0] != identity:
            self._records[number] = identity, read_record(self._index.path(number) / RECORD)
        return self._records[number][1]
