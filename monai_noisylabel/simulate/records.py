"""The records of a simulation on disk, one line per case, by which an interrupted one goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_noisylabel.data.originals import fingerprint
from monai_noisylabel.handlers.atomic import write_atomically

__all__ = ["Records"]

Line = Mapping[str, Any]


class Records:
    """Lines of JSON, one per case, in a file that each finished case is added to.

    A line that an interruption cut off is dropped; of several lines of a case the last one counts.

    Args:
        path: the file; it need not exist.
        roots: the folders that the ``checksums`` of a line are of, by their names there.
    """

    def __init__(self, path: Path, roots: Mapping[str, Path]) -> None:
        self.path = path
        self.roots = roots
        self._lines: dict[str, Line] = {}
        for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            self._lines[line["case"]] = line
        if path.exists():
            self._rewrite()

    def finished(self, cases: Sequence[str]) -> bool:
        """Whether the cases of one volume are recorded, and all files named there are as they were then."""
        lines = [self._lines.get(case) for case in cases]
        if None in lines or any(line["checksums"] != lines[0]["checksums"] for line in lines):  # type: ignore[index]
            return False
        recorded: Mapping[str, Mapping[str, str]] = lines[0]["checksums"]  # type: ignore[index]
        if not set(recorded) <= set(self.roots):
            return False
        return all(_unchanged(self.roots[name], digests) for name, digests in recorded.items())

    def add(self, lines: Sequence[Line]) -> None:
        """Add the cases of one volume, which is finished."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(json.dumps(line) + "\n" for line in lines))
        self._lines |= {line["case"]: line for line in lines}

    def keep(self, cases: Iterable[str]) -> list[Line]:
        """Bring the file into the order of these cases and drop all others.

        Returns:
            The lines.
        """
        self._lines = {case: self._lines[case] for case in cases}
        self._rewrite()
        return list(self._lines.values())

    def files(self) -> list[Path]:
        """Every label file that a recorded case has."""
        return [self.roots["files"] / name for line in self._lines.values() for name in line["checksums"]["files"]]

    def _rewrite(self) -> None:
        write_atomically("".join(json.dumps(line) + "\n" for line in self._lines.values()), self.path)


def _unchanged(root: Path, digests: Mapping[str, str]) -> bool:
    try:
        return fingerprint(root / name for name in digests) == {str(root / name): d for name, d in digests.items()}
    except OSError:
        return False
