"""The audit record of a round: what is written when it is committed, and what is checked against it later."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from monai_noisylabel.data.label_codec import (
    HOW_TO_MEND,
    LABEL_SUFFIX,
    WITHDRAWN_SUFFIX,
    CorruptLabelError,
    decode_header,
    to_json,
)

__all__ = ["RECORD", "changes_in", "count_changes", "flush", "read_record", "round_problems", "write_record"]

RECORD = "record.json"
_FLUSHES_AT_ONCE = 16
_RECORDED_VERSIONS = ("monai_noisylabel", "monai", "torch", "numpy")


def count_changes(label: np.ndarray, reference: np.ndarray) -> dict[str, dict[str, int]]:
    r"""Voxels that a label adds to and removes from each structure of a reference label.

    Structures are named by class value (multi-class) or by channel, counted from 1 (multi-label).

    Shape:
        both (1, \*S) for multi-class, or both (K, \*S) for multi-label.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> count_changes(np.array([[0, 1, 2, 2]]), np.array([[0, 1, 1, 2]]))
        {'1': {'added': 0, 'removed': 1}, '2': {'added': 1, 'removed': 0}}
    """
    if label.shape != reference.shape:
        raise ValueError(f"the label has shape {label.shape}, its reference {reference.shape}; they must be equal")
    changed = label != reference
    if len(label) == 1:
        added, removed = (np.bincount(array[changed], minlength=256) for array in (label, reference))
        present = np.unique(np.concatenate([np.unique(label), np.unique(reference)]))
        return {str(v): {"added": int(added[v]), "removed": int(removed[v])} for v in present if v > 0}
    axes = tuple(range(1, label.ndim))
    added, removed = ((changed & (array > 0)).sum(axes) for array in (label, reference))
    return {
        str(i + 1): {"added": int(a), "removed": int(r)} for i, (a, r) in enumerate(zip(added, removed, strict=True))
    }


def changes_in(folder: Path) -> Iterator[Path]:
    """Files of a folder that change a case, sorted by name; none if there is no such folder."""
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.suffix in (LABEL_SUFFIX, WITHDRAWN_SUFFIX))


def write_record(
    folder: Path, number: int, previous: Path | None, why: str, method: str, parameters: Mapping[str, Any]
) -> None:
    """Write the record of the staged files in ``folder``, and see to it that all of them are on the disk.

    Args:
        folder: the staged files.
        number: number of the round they become.
        previous: record of the round before; its checksum chains the records, so that none can be altered
            unnoticed.
        why: the reason given for the round.
        method: how its labels were made.
        parameters: settings and findings of the method.

    Raises:
        CorruptLabelError: if a staged file is damaged.
        TypeError: if the parameters cannot be written as JSON.
    """
    cases = {}
    paths = list(changes_in(folder))
    with ThreadPoolExecutor(_FLUSHES_AT_ONCE) as threads:  # the disk takes many flushes in one go
        contents = list(threads.map(flush, paths))
    for path, data in zip(paths, contents, strict=True):
        header = decode_header(data, path)
        entry = {key: value for key, value in header.items() if key not in ("case", "geometry")}
        withdrawn = path.suffix == WITHDRAWN_SUFFIX
        cases[header["case"]] = {"file": path.name, "sha256": _digest(data), "withdrawn": withdrawn, **entry}
    record = {
        "round": number,
        "why": why,
        "method": method,
        "parameters": parameters,
        "code_version": {name: _version(name) for name in _RECORDED_VERSIONS},
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "previous_record": None if previous is None else _digest(previous.read_bytes()),
        "cases": cases,
    }
    (folder / RECORD).write_text(to_json(record, "The parameters of the round") + "\n", encoding="utf-8")
    flush(folder / RECORD)
    flush(folder)


def read_record(path: Path) -> dict[str, Any]:
    """Record in a file.

    Raises:
        CorruptLabelError: if it is missing or damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CorruptLabelError(f"The record {path} cannot be read ({error}). {HOW_TO_MEND}") from error


def round_problems(folder: Path, previous: Path | None) -> Iterator[str]:
    """What is wrong with the files of a committed round, in words; nothing when it is as it was committed.

    Args:
        folder: the round.
        previous: record of the round before.
    """
    try:
        record = read_record(folder / RECORD)
    except CorruptLabelError as error:
        yield str(error)
        return
    if previous is not None and previous.is_file() and record["previous_record"] != _digest(previous.read_bytes()):
        yield f"{previous} was altered after round {record['round']} was committed"
    recorded = {entry["file"]: (case, entry["sha256"]) for case, entry in record["cases"].items()}
    for name, (case, digest) in recorded.items():
        path = folder / name
        if not path.is_file():
            yield f"{path} (case {case!r}) is missing"
        elif _digest(path.read_bytes()) != digest:
            yield f"{path} (case {case!r}) is not what was committed"
    for path in sorted(folder.iterdir()):
        if path.name not in recorded and path.name != RECORD:
            yield f"{path} does not belong to the round"


def flush(path: Path) -> bytes:
    """Content of a file (nothing for a folder), which is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return b"" if path.is_dir() else path.read_bytes()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
