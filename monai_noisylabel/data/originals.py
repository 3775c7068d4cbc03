"""Proof that the user's own files are what they were: checksums, taken before and compared after."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["OriginalChangedError", "fingerprint", "lies_in", "verify_originals"]


class OriginalChangedError(RuntimeError):
    """A file of the dataset is not what it was; the message names it."""


def fingerprint(paths: Iterable[str | os.PathLike[str]]) -> dict[str, str]:
    """SHA-256 of files, by path; of a folder (a DICOM series), every file below it.

    Args:
        paths: files and folders; each file is read once, whatever its size.

    Raises:
        FileNotFoundError: if one of them does not exist.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "label.raw").write_bytes(b"abc")
        ...     print([digest[:8] for digest in fingerprint([folder]).values()])
        ['ba7816bf']
    """
    digests = {}
    for path in map(Path, paths):
        for file in sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]:
            with file.open("rb") as stream:
                digests[str(file)] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def verify_originals(fingerprints: Mapping[str, str]) -> None:
    """Check that every file still has the content it had when its fingerprint was taken.

    Args:
        fingerprints: result of :func:`fingerprint`.

    Raises:
        OriginalChangedError: if files were changed or removed; all of them are named.
    """
    problems = []
    for path, digest in fingerprints.items():
        if not os.path.isfile(path):
            problems.append(f"{path} is missing")
        elif fingerprint([path])[path] != digest:
            problems.append(f"{path} has changed")
    if problems:
        raise OriginalChangedError(
            f"{len(problems)} original file(s) are not what they were: {'; '.join(problems)}. "
            "Restore them from their source, and give this library read-only access to the dataset folder."
        )


def lies_in(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Whether a path, links resolved, is a folder or lies below it.

    Example:
        >>> lies_in("data/run/labels", "data"), lies_in("data_2", "data")
        (True, False)
    """
    return Path(path).resolve().is_relative_to(Path(folder).resolve())
