"""What a review takes over from an audit: the order of the cases, what was found in them, and proposed labels."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_noisylabel.audit.proposals import proposed_seg_name
from monai_noisylabel.audit.records import IDENTITY
from monai_noisylabel.data.case_label import CaseLabel, paths_of, read_case_label, turned
from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.data.dicom_seg import DicomRules, is_dicom_seg, open_seg, seg_values
from monai_noisylabel.data.dicom_series import read_series
from monai_noisylabel.data.written_names import written_files
from monai_noisylabel.label_app.workspace import masks_of

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
        """Files of the label that the audit proposes for a case, or one DICOM SEG; none if it proposes none."""
        folder = self.folder / "proposals"
        found = [folder / name for name in written_files(item, spec)]
        if all(path.is_file() for path in found):
            return found
        seg = folder / proposed_seg_name(item, spec)
        return [seg] if seg.is_file() else []

    def proposed_masks(self, item: Mapping[str, Any], label: CaseLabel, spec: DatasetSpec) -> np.ndarray | None:
        r"""Masks of the label that the audit proposes for a case; None if it proposes none.

        Shape:
            Result (K, \*S), in the axes of the given label.

        Raises:
            ValueError: if a file cannot be read or does not fit the given label.
        """
        files = self.proposal_files(item, spec)
        if not files:
            return None
        if not is_dicom_seg(files[0]):
            return masks_of(label, files, spec.manifest.coloured)
        given = set(paths_of(item["label"]))
        if len(given) == 1 and is_dicom_seg(given.pop()):
            return read_case_label({**item, "label": str(files[0])}, spec).masks
        return _numbered(files[0], item, label, spec)


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


def _numbered(file: Path, item: Mapping[str, Any], label: CaseLabel, spec: DatasetSpec) -> np.ndarray:
    """Masks of a segmentation that was made anew, whose segments are the structures, numbered from 1."""
    series = read_series(paths_of(item["image"])[0], spec.manifest.dicom.series)
    numbers = [(k + 1,) for k in range(len(spec.classes))]
    channels = seg_values(open_seg(file, series), DicomRules(overlap=True), numbers)
    return np.stack([turned(channel > 0, series.affine, label.axes) for channel in channels])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
