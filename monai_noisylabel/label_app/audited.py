"""What a review takes over from an audit: the order of the cases, what was found in them, and proposed labels."""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_noisylabel.audit.records import IDENTITY
from monai_noisylabel.data.case_label import paths_of, written_name
from monai_noisylabel.data.dataset_spec import DatasetSpec

__all__ = ["Audited", "read_audit"]

SHOWN = ("structure", "type", "suspicion", "confidence", "message", "place", "world", "slice")


@dataclass(frozen=True)
class Audited:
    """An audit of a dataset.

    Args:
        folder: its folder.
        split: whose labels were audited.
        scores: of each case, the most suspicious first, its suspicion under the empty name and that of its structures.
        findings: of each case, the most suspicious first.
    """

    folder: Path
    split: str
    scores: dict[str, dict[str, float]]
    findings: dict[str, list[dict[str, Any]]]

    def proposal_files(self, item: Mapping[str, Any], spec: DatasetSpec) -> list[Path]:
        """Files of the label that the audit proposes for a case; none if it proposes none."""
        files = dict.fromkeys(paths_of(item["label"]))
        found = [self.folder / "proposals" / written_name(os.path.relpath(path, spec.dataset_dir)) for path in files]
        return found if all(path.is_file() for path in found) else []


def read_audit(folder: Path, spec: DatasetSpec) -> Audited:
    """Read the folder of an audit.

    Args:
        folder: from ``noisylabel audit --out``.
        spec: the dataset that it should be of.

    Raises:
        FileNotFoundError: if it holds no audit that has finished.
        ValueError: if the audit is one of another dataset.
    """
    for name in (IDENTITY, "cases.csv", "audit.csv"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no finished audit: {name} is missing; run `noisylabel audit` first."
            )
    identity = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    for key, wanted in spec.identity().items():
        if identity.get(key) != wanted:
            raise ValueError(
                f"{folder} is the audit of another dataset: its {key} is {identity.get(key)!r}, here it is {wanted!r}."
            )
    scores = {}
    for row in _rows(folder / "cases.csv"):
        own = {name: float(row[name]) for name in spec.classes if row.get(name)}
        scores[row["case"]] = {"": float(row["score"]), **own}
    findings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(folder / "audit.csv"):
        findings[row["case"]].append({name: row[name] for name in SHOWN if row[name]})
    return Audited(folder, str(identity["split"]), scores, dict(findings))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
