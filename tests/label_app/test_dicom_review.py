"""The review of DICOM segmentations, from an audit to the dataset with the reviewed labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_dataset import LIVER, TUMOUR, documented, overlapping, predict, write_dataset
from simulated import digests

from monai_noisylabel.audit import audit_dataset
from monai_noisylabel.data import DatasetSpec, load_dataset
from monai_noisylabel.data.case_label import read_case_label
from monai_noisylabel.label_app import Review, prepare_workspace
from monai_noisylabel.label_app.current import current_dataset
from monai_noisylabel.label_app.export import export_reviewed
from monai_noisylabel.label_app.shown_label import write_shown_label

pytest.importorskip("highdicom")


def masks_of(spec: DatasetSpec, case: str) -> np.ndarray:
    """Masks on the grid of the series."""
    item = next(item for item in (*spec.train, *spec.val, *spec.test) if item["case"] == case)
    return read_case_label(item, spec).masks[:, ::-1, ::-1]


@pytest.mark.parametrize("form", ["nifti", "dicom_seg"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_from_audit_to_dataset(multi_label: bool, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proposal for the second case, whose segments have other numbers, is accepted; the first keeps its label."""
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    root, studies, out = tmp_path / "data", tmp_path / "studies", tmp_path / "reviewed"
    write_dataset(root)
    made = overlapping(root) if multi_label else documented()
    predict(made, root, tmp_path / "p", (LIVER | TUMOUR, np.zeros_like(TUMOUR)))
    before = digests(root)
    audit = audit_dataset(made, root, tmp_path / "audit", probabilities=tmp_path / "p", form=form)
    assert audit.failed == {}
    workspace = prepare_workspace(made, root, studies, audit=tmp_path / "audit")
    assert set(workspace.items) == {"p0", "p1", "p2"}
    assert all(workspace.label(case, "cleansed").is_file() for case in workspace.items)
    review = Review(workspace)
    for case, tag, decision in (("p1", "cleansed", "accepted proposal"), ("p0", "original", "kept original")):
        handed_in = tmp_path / f"{case}.nii.gz"
        shutil.copy(workspace.label(case, tag), handed_in)
        assert review.submit(case, handed_in, None, "someone").decision == decision
    given = np.stack([LIVER | TUMOUR if multi_label else LIVER, TUMOUR])
    proposed = np.stack([LIVER | TUMOUR, np.zeros_like(TUMOUR)])
    report = export_reviewed(studies, out)
    assert (report.failed, report.reviewed) == ({}, ["p0", "p1"])
    for spec in (current_dataset(studies), load_dataset(out / "manifest.json", out)):
        np.testing.assert_array_equal(masks_of(spec, "p1"), proposed)
        for case in ("p0", "p2", "p3", "p4"):
            np.testing.assert_array_equal(masks_of(spec, case), given)
    assert digests(root) == before


def test_one_structure_of_several_that_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others come into the exported dataset as they are."""
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    root, studies, out = tmp_path / "data", tmp_path / "studies", tmp_path / "reviewed"
    made = overlapping(root)
    workspace = prepare_workspace(made, root, studies, classes=["tumour"])
    review = Review(workspace)
    handed_in = tmp_path / "p0.nii.gz"
    label = workspace.given("p0")
    write_shown_label(label, 0 * label.masks, workspace.code, workspace.image("p0"), handed_in)
    assert review.submit("p0", handed_in, None, "someone").decision == "edited"
    assert export_reviewed(studies, out).failed == {}
    spec = load_dataset(out / "manifest.json", out)
    np.testing.assert_array_equal(masks_of(spec, "p0"), [LIVER | TUMOUR, np.zeros_like(TUMOUR)])
    np.testing.assert_array_equal(masks_of(spec, "p1"), [LIVER | TUMOUR, TUMOUR])
