"""The folder that a review works in: copies of images and labels, never the user's own files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_noisylabel.data.case_label import CaseLabel, read_case_label
from monai_noisylabel.data.dataset_spec import DatasetSpec, load_dataset, volume_of
from monai_noisylabel.data.manifest import load_manifest
from monai_noisylabel.data.original_label import read_original
from monai_noisylabel.data.written_names import written_names
from monai_noisylabel.label_app.label_code import LabelCode

__all__ = ["CLEANSED", "FINAL", "ORIGINAL", "RECORD", "Workspace", "open_workspace"]

RECORD = "workspace.json"
ORIGINAL, CLEANSED, FINAL = "original", "cleansed", "final"
"""Tags of labels: the given one, the proposed one, and what a person decided."""

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Workspace:
    """A review's folder, which MONAI Label calls the studies.

    ::

        workspace.json, manifest.json   what is reviewed
        <case>.nii.gz                   copies of the images, or .png
        labels/<tag>/<case>.nii.gz      original, cleansed and final, in the values of the viewer
        review/journal.jsonl            who decided what and when
        review/labels/                  what was decided, in the form and under the names of the given labels
        review/scores.json              how suspicious each label is
        app/                            the app with its models

    Args:
        root: the folder.
        spec: the dataset, with the labels as they were given.
        items: the cases to review, by name.
        code: values of labels for the viewer.
        record: content of ``workspace.json``.
    """

    root: Path
    spec: DatasetSpec
    items: dict[str, Item]
    code: LabelCode
    record: Mapping[str, Any]

    def image(self, case: str) -> Path:
        """The image that the viewer shows."""
        return self.root / self.record["images"][case]

    def label(self, case: str, tag: str) -> Path:
        """Label for the viewer; it need not exist."""
        ending = ".png" if self.image(case).suffix not in (".gz", ".nii") else ".nii.gz"
        return self.root / "labels" / tag / f"{case}{ending}"

    def given(self, case: str) -> CaseLabel:
        """The given label."""
        return read_case_label(self.items[case], self.spec)

    def reviewed_files(self, case: str) -> dict[str, Path]:
        """For each structure of a case, the file that its reviewed label is written to; it need not exist."""
        return {name: self.reviewed / file for name, file in written_names(self.items[case], self.spec).items()}

    @property
    def reviewed(self) -> Path:
        """Folder of the reviewed labels in the form of the given ones."""
        return self.root / "review" / "labels"

    def case_of(self, image: str | os.PathLike[str]) -> str | None:
        """The case that an image file of this folder shows; None for a file from elsewhere."""
        path = Path(os.path.realpath(image))
        names = {name: case for case, name in self.record["images"].items()}
        return names.get(path.name) if path.parent == Path(os.path.realpath(self.root)) else None


def masks_of(label: CaseLabel, files: Sequence[Path], coloured: bool) -> np.ndarray:
    r"""Masks of other files in the form of a given label.

    Shape:
        Result (K, \*S), in the axes of the given label.

    Raises:
        ValueError: if they do not have its shape.
    """
    contents = [read_original(file, coloured=coloured).values for file in files]
    for file, values, source in zip(files, contents, label.sources, strict=True):
        if values.shape != source.values.shape:
            raise ValueError(f"{file}: has the shape {values.shape}, the given label {source.values.shape}.")
    return label.masks_in(contents)


def open_workspace(root: str | os.PathLike[str]) -> Workspace:
    """Open the folder of a review.

    Raises:
        FileNotFoundError: if the folder is none.
        ValueError: if its dataset has not got the cases any more that the review is about.
    """
    folder = Path(root)
    path = folder / RECORD
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not record.get("ready"):
        raise FileNotFoundError(
            f"{root} is no review, or one whose preparation was interrupted; "
            f"`noisylabel label-app start MANIFEST --studies {root}` makes one."
        )
    spec = load_dataset(
        load_manifest(folder / "manifest.json"),
        record["dataset_dir"],
        spatial_dims=record["spatial_dims"],
        classes=record["classes"],
        complete=False,
    )
    found = {volume_of(item): item for item in spec.items_of(record["split"])}
    missing = [case for case in record["images"] if case not in found]
    if missing:
        raise ValueError(
            f"{folder} reviews cases that {spec.dataset_dir} does not hold any more, or not in a usable form: "
            f"{', '.join(missing)}. `noisylabel data check` says why."
        )
    code = LabelCode(tuple(record["classes"]), tuple(tuple(entry) for entry in record["combinations"]))
    return Workspace(folder, spec, {case: found[case] for case in record["images"]}, code, record)
