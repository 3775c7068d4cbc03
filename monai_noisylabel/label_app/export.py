"""Reviewed labels as a dataset of its own, ready for training."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from monai_noisylabel.data.dataset_spec import DatasetSpec, load_dataset, volume_of
from monai_noisylabel.data.originals import lies_in, verify_originals
from monai_noisylabel.handlers.atomic import write_atomically
from monai_noisylabel.label_app.journal import Entry
from monai_noisylabel.label_app.review import Review
from monai_noisylabel.label_app.workspace import Workspace, open_workspace
from monai_noisylabel.simulate.trainable import copy_missing, write_labels, write_manifest

__all__ = ["ReviewExport", "export_reviewed"]

IDENTITY = "review.json"


@dataclass(frozen=True)
class ReviewExport:
    """What became of the cases.

    Args:
        reviewed: cases with the label that a person decided on.
        given: cases with their given label.
        failed: cases that are left out, with the reason.
        copied: number of images copied.
    """

    reviewed: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    copied: int = 0


def export_reviewed(studies: str | os.PathLike[str], out_dir: str | os.PathLike[str]) -> ReviewExport:
    """Write a dataset with reviewed labels where there are any, given ones elsewhere, and the same splits.

    The folder gets images and labels under the names they have in the dataset, ``manifest.json``, and ``review.csv``
    with who decided what and when. Later exports of the same review into the same folder bring it up to date.

    Args:
        studies: folder of the review.
        out_dir: the new folder.

    Raises:
        FileNotFoundError: if there is no review.
        FileExistsError: if the folder holds anything but an earlier export of this review.
        ValueError: if the folders lie in each other.
        OriginalChangedError: if a given label is not what it was when the review began.
    """
    workspace, out = open_workspace(studies), Path(out_dir)
    _claim(workspace, out)
    verify_originals({path: known for entry in workspace.record["given"].values() for path, known in entry.items()})
    review = Review(workspace)
    decisions = review.decisions()
    report = ReviewExport()
    spec = _all_structures(workspace)
    for item in {volume_of(item): item for item in spec.items_of("all")}.values():
        case = volume_of(item)
        try:
            reviewed = review.verified_files(decisions[case]) if case in decisions else []
            write_labels(item, spec, out, {str(path.relative_to(workspace.reviewed)): path for path in reviewed})
            (report.reviewed if reviewed else report.given).append(case)
        except Exception as error:  # whatever is wrong with one case, the others must not be lost
            report.failed[case] = f"{type(error).__name__}: {error}"
    copied = copy_missing(spec, [*report.reviewed, *report.given], report.failed, out)
    note = f"Labels of {len(report.reviewed)} cases were reviewed; review.csv says by whom."
    names = {"suffix": "reviewed", "origin": "Reviewed labels of"}
    write_manifest(spec, note, out / "manifest.json", **names, same_slices=False)
    _write_decisions(decisions, out / "review.csv")
    return ReviewExport(report.reviewed, report.given, report.failed, copied)


def _all_structures(workspace: Workspace) -> DatasetSpec:
    """The dataset with the structures, too, that were not reviewed."""
    spec = workspace.spec
    return load_dataset(spec.manifest, spec.dataset_dir, spatial_dims=spec.spatial_dims, complete=False)


def _claim(workspace: Workspace, out: Path) -> None:
    """Make a folder that of the exports of one review."""
    for folder in (workspace.spec.dataset_dir, workspace.root):
        if lies_in(out, folder) or lies_in(folder, out):
            raise ValueError(f"{out} and {folder} lie in each other; export to another folder.")
    own = {key: workspace.record[key] for key in ("manifest_sha256", "dataset_dir", "classes", "spatial_dims")}
    text = json.dumps({**own, "studies": str(workspace.root.resolve())}, indent=2, sort_keys=True) + "\n"
    path = out / IDENTITY
    if out.exists() and any(out.iterdir()) and not (path.is_file() and path.read_text(encoding="utf-8") == text):
        raise FileExistsError(f"{out} holds something else than an export of {workspace.root}; give another folder.")
    write_atomically(text, path)


def _write_decisions(decisions: dict[str, Entry], path: Path) -> None:
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["case", "decision", "user", "time", "note"])
    for case in sorted(decisions):
        entry = decisions[case]
        table.writerow([case, entry.decision, entry.user, entry.time, entry.note])
    write_atomically(stream.getvalue(), path)
