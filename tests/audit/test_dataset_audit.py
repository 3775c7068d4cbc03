"""The audit of whole datasets: volumes, pictures, slices; what is found, written, kept, and left alone."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from reviewed_hearts import forget, values_of, write_probabilities
from simulated import digests, write_hearts, write_pictures

import monai_noisylabel.audit.dataset_audit as module
from monai_noisylabel.audit import AuditReport, BundleFolds, audit_dataset, case_audit
from monai_noisylabel.audit.case_audit import CaseAuditor
from monai_noisylabel.data import Manifest
from monai_noisylabel.data.originals import OriginalChangedError

SPLITS = {"order": "sorted", "train": {}, "val": {"count": 1}, "test": {"count": 1}}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hearts(tmp_path: Path) -> Manifest:
    """Five hearts of several orientations to audit, and their predictions; two labels have lost a structure."""
    made = write_hearts(tmp_path / "data", ("RAS", "LPS", "PIR", "SLA", "ASR", "LPS", "RAS"))
    made = Manifest.model_validate({**made.model_dump(), "splits": SPLITS})
    write_probabilities(made, tmp_path / "data", tmp_path / "p")
    (tmp_path / "data/labels").rename(tmp_path / "clean")
    (tmp_path / "data/labels").mkdir()
    for path in (tmp_path / "clean").iterdir():
        (tmp_path / "data/labels" / path.name).write_bytes(path.read_bytes())
    forget(tmp_path / "data/labels/h3.nii", 30)
    forget(tmp_path / "data/labels/h5.nii", 10)
    return made


def _audit(manifest: Manifest, tmp_path: Path, **options: Any) -> AuditReport:
    options = {"probabilities": tmp_path / "p", **options}
    return audit_dataset(manifest, tmp_path / "data", tmp_path / "out", **options)


def test_errors_are_found_first_and_nothing_is_touched(hearts: Manifest, tmp_path: Path) -> None:
    before = digests(tmp_path / "data") | digests(tmp_path / "p")
    report = _audit(hearts, tmp_path)
    assert digests(tmp_path / "data") | digests(tmp_path / "p") == before
    assert report.failed == {}
    assert {row.case for row in report.cases[:2]} == {"h3", "h5"}
    assert report.cases[1].score > 5 * report.cases[2].score
    found = {(f.case, f.structure, f.type) for f in report.findings if f.source == "model"}
    assert found == {("h3", "bar", "missing"), ("h5", "wall", "missing")}
    for case, value in (("h3", 30), ("h5", 10)):
        clean = values_of(tmp_path / f"clean/{case}.nii")
        np.testing.assert_array_equal(values_of(tmp_path / f"out/proposals/labels/{case}.nii"), clean)
        np.testing.assert_array_equal(values_of(tmp_path / f"out/errors/{case}.nii.gz"), np.where(clean == value, 1, 0))
        finding = next(f for f in report.findings if f.case == case and f.source == "model")
        assert clean[tuple(int(n) for n in finding.place.split(","))] == value
        affine = nibabel.load(tmp_path / f"clean/{case}.nii").affine
        place = [int(n) for n in finding.place.split(",")]
        assert [float(mm) for mm in finding.world.split(",")] == pytest.approx(affine[:3] @ [*place, 1], abs=0.06)
    assert len(list((tmp_path / "out/errors").iterdir())) == 2
    rows = list(csv.DictReader((tmp_path / "out/audit.csv").open()))
    assert [row["case"] for row in rows] == [finding.case for finding in report.findings]
    for case in csv.DictReader((tmp_path / "out/cases.csv").open()):
        own = sum(float(row["suspicion"]) for row in rows if row["case"] == case["case"])
        assert float(case["expected_errors"]) == pytest.approx(own, abs=1e-3)
    text = report.page.read_text(encoding="utf-8")
    assert 'data-picture="overlays/h3_1.webp"' in text


def test_negligible_regions_are_neither_reported_nor_corrected(
    hearts: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_audit, "NEGLIGIBLE", 0.91)  # both structures are missing as a whole, by a margin of 0.9
    report = _audit(hearts, tmp_path)
    assert [finding for finding in report.findings if finding.source == "model"] == []
    assert not (tmp_path / "out/errors").exists()
    assert not (tmp_path / "out/proposals").exists()


def test_pictures_with_a_file_per_structure(tmp_path: Path) -> None:
    made = write_pictures(tmp_path / "data")
    write_probabilities(made, tmp_path / "data", tmp_path / "p")
    path = tmp_path / "data/large/p1.png"
    with Image.open(path) as picture:
        pixels = np.asarray(picture).copy()
    pixels[:, :18] = 0
    Image.fromarray(pixels).save(path)
    report = _audit(made, tmp_path)
    first = report.findings[0]
    assert (first.case, first.structure, first.type) == ("p1", "large", "boundary too far in")
    assert (first.world, first.slice) == ("", None)
    assert " px too far inside" in first.message
    assert sorted(p.name for p in (tmp_path / "out/errors").iterdir()) == ["p1_large.png", "p1_small.png"]


def test_without_a_model_only_the_checks_are_made(hearts: Manifest, tmp_path: Path) -> None:
    report = _audit(hearts, tmp_path, probabilities=None)
    assert {f.source for f in report.findings} == {"check"}
    missing = [(f.case, f.structure) for f in report.findings if f.type == "missing structure"]
    assert sorted(missing) == [("h3", "bar"), ("h5", "wall")]
    assert not (tmp_path / "out/proposals").exists()


def _counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Which cases are judged, and how often the data set is counted."""
    seen: dict[str, list[Any]] = {"judged": [], "counted": []}
    audit, limits = CaseAuditor.audit, module.confident_limits

    def judged(self: CaseAuditor, case: str, *rest: Any, **options: Any) -> dict[str, Any]:
        seen["judged"].append(case)
        return audit(self, case, *rest, **options)

    def counted(*rest: Any) -> Any:
        seen["counted"].append(1)
        return limits(*rest)

    monkeypatch.setattr(CaseAuditor, "audit", judged)
    monkeypatch.setattr(module, "confident_limits", counted)
    return seen


def test_it_goes_on_where_it_was_and_judges_anew_what_changed(
    hearts: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _counted(monkeypatch)

    def stop(what: str, done: int, total: int) -> None:
        if what == "Judging cases" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _audit(hearts, tmp_path, progress=stop)
    assert len(seen["judged"]) == 2
    report = _audit(hearts, tmp_path)
    assert (len(seen["judged"]), len(seen["counted"])) == (5, 1)
    again = _audit(hearts, tmp_path)
    assert (len(seen["judged"]), len(seen["counted"])) == (5, 1)
    assert again == report
    (tmp_path / "data/labels/h3.nii").write_bytes((tmp_path / "clean/h3.nii").read_bytes())
    mended = _audit(hearts, tmp_path)
    assert len(seen["counted"]) == 2
    assert "h3" in seen["judged"][5:]
    assert [f.case for f in mended.findings if f.source == "model"] == ["h5"]


def test_a_bad_case_is_a_finding(hearts: Manifest, tmp_path: Path) -> None:
    (tmp_path / "p/h2.npz").write_bytes(b"no archive")
    (tmp_path / "p/h4.npz").unlink()
    (tmp_path / "data/labels/h6.nii").write_bytes(b"no NIfTI")
    report = _audit(hearts, tmp_path)
    assert set(report.failed) == {"h2", "h4"}
    whole = {f.case: f for f in report.findings if not f.structure}
    assert whole["h6"].type == "unreadable"
    assert "h2.npz: cannot be read" in whole["h2"].message
    assert "there is none" in whole["h4"].message
    assert all(finding.suspicion == 1 for finding in whole.values())
    assert {row.case: row.score for row in report.cases if row.case in whole} == dict.fromkeys(whole, 1.0)
    assert {f.case for f in report.findings if f.source == "model"} == {"h3", "h5"}


def test_no_usable_probabilities(hearts: Manifest, tmp_path: Path) -> None:
    for path in (tmp_path / "p").iterdir():
        np.savez(path, np.zeros((2, 3, 3, 3)))
    with pytest.raises(ValueError, match=r"No case has usable probabilities\. The first one: .* has 2 channels"):
        _audit(hearts, tmp_path)


def test_a_label_that_changes_meanwhile_is_noticed(hearts: Manifest, tmp_path: Path) -> None:
    def change(what: str, done: int, total: int) -> None:
        if what == "Judging cases":
            forget(tmp_path / "data/labels/h2.nii", 30)

    with pytest.raises(OriginalChangedError, match=r"h2\.nii has changed"):
        _audit(hearts, tmp_path, progress=change)


def test_slices_of_a_two_dimensional_run_are_one_case(hearts: Manifest, tmp_path: Path) -> None:
    report = _audit(hearts, tmp_path, spatial_dims=2)
    assert sorted(row.case for row in report.cases) == ["h2", "h3", "h4", "h5", "h6"]
    assert {(f.case, f.type) for f in report.findings if f.source == "model"} == {("h3", "missing"), ("h5", "missing")}


def test_all_splits_and_some_classes(hearts: Manifest, tmp_path: Path) -> None:
    report = _audit(hearts, tmp_path, probabilities=None, split="all", classes=["wall"])
    assert len(report.cases) == 7
    assert {f.structure for f in report.findings} <= {"wall", ""}


def test_arguments_that_do_not_go_together(hearts: Manifest, tmp_path: Path) -> None:
    bundle = BundleFolds(Path(__file__).parents[2] / "bundles/baseline")
    for options, message in (
        ({"folds": bundle}, "not both"),
        ({"split": "test"}, "split must be"),
        ({"tolerance": 0.0}, "tolerance must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            _audit(hearts, tmp_path, **options)
