"""A dataset of DICOM folders from end to end, through the manifest of docs/dicom.md."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from dataset_files import real_data, write_volume
from dicom_dataset import (
    AFFINE,
    LIVER,
    ROOT,
    SHAPE,
    TUMOUR,
    VALUES,
    documented,
    image,
    overlapping,
    predict,
    write_case,
    write_dataset,
)
from dicom_files import write_seg, write_series
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from monai_noisylabel.audit import audit_dataset
from monai_noisylabel.cli import app
from monai_noisylabel.data import (
    LabelStore,
    check_dataset,
    load_dataset,
    load_manifest,
    preprocessing,
    read_series,
)
from monai_noisylabel.data.case_label import read_case_label
from monai_noisylabel.data.dicom_seg import open_seg, seg_values
from monai_noisylabel.data.label_geometry import geometry_of
from monai_noisylabel.data.seg_label import dicom_rules
from monai_noisylabel.simulate import simulate_dataset


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    write_dataset(tmp_path / "data")
    return tmp_path / "data"


def digests(root: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def test_the_same_as_nifti(root: Path, tmp_path: Path) -> None:
    nifti = documented(layout={"image": "images/{case}.nii", "label": "labels/{case}.nii"}, dicom={})
    for number in range(5):
        write_volume(tmp_path / f"nifti/images/p{number}.nii", image(number), AFFINE)
        write_volume(tmp_path / f"nifti/labels/p{number}.nii", VALUES.astype(np.uint8), AFFINE)
    for dims in (2, 3):
        one = load_dataset(documented(), root, spatial_dims=dims)
        other = load_dataset(nifti, tmp_path / "nifti", spatial_dims=dims)
        assert [item["case"] for item in one.train] == [item["case"] for item in other.train]
        for a, b in zip(one.train[1::4], other.train[1::4], strict=True):
            read, wanted = preprocessing(one)(a), preprocessing(other)(b)
            for key in ("image", "label"):
                assert torch.equal(read[key].as_tensor(), wanted[key].as_tensor())
                torch.testing.assert_close(read[key].affine, wanted[key].affine)
                np.testing.assert_allclose(read[key].meta["original_affine"], AFFINE)
    label = read_case_label(one.train[1], one)
    np.testing.assert_array_equal(label.sources[0].values, VALUES)
    np.testing.assert_allclose(label.sources[0].affine, AFFINE)


def test_labelled_slices_of_segmentations(root: Path) -> None:
    made = documented(preprocessing={"normalise": "zscore", "slices": "labelled"})
    items = load_dataset(made, root, spatial_dims=2).train
    assert [item["case"] for item in items[:5]] == ["p0/001", "p0/002", "p0/003", "p0/004", "p1/001"]


def test_an_expression_that_cannot_be_matched_is_refused() -> None:
    with pytest.raises(ValueError, match=r"series 'portal\(' is no regular expression"):
        documented(dicom={"series": "portal("})


def test_segments_by_number(root: Path) -> None:
    """The third segment is background, whatever it overlaps with; where it is the liver, the body is taken for one."""
    report = check_dataset(documented(dicom={"series": "portal.*"}, background=[0, 3]), root)
    assert [problem.case for problem in report.problems] == ["p1"]
    assert "'Body' (1) and 'Tumour' (2)" in report.problems[0].message


def test_the_check_names_what_is_wrong_and_goes_on(root: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(documented().model_dump_json())
    arguments = ["data", "check", str(tmp_path / "manifest.json"), "--dataset_dir", str(root)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    before = digests(root)
    check_dataset(documented(), root, cached=True)
    (root / "p0/ct/03.dcm").unlink()
    write_seg(root / "p2/liver.dcm", sorted((root / "p2/ct").glob("0*")), {"Liver": LIVER | TUMOUR, "Tumour": TUMOUR})
    report = check_dataset(documented(), root, cached=True)
    found = {problem.case: problem.message for problem in report.problems if problem.file.startswith("p")}
    assert set(found) == {"p0", "p2"}
    assert len(report.problems) == 3  # the label of the first case has a frame that its series has lost, too
    assert "04.dcm at 42 mm are 6 mm apart (1 slice is missing between them)" in report.problems[0].message
    assert "restore it from its source" not in report.problems[0].message
    assert "'Liver' (1) and 'Tumour' (2) in slice 2 (02.dcm at 36 mm): 9 pixels" in found["p2"]
    assert [case.case for case in report.splits["train"]] == ["p1"]
    assert digests(root).items() >= {
        path: digest for path, digest in before.items() if "p2" not in path.parts
    }.items() - {(root / "p0/ct/03.dcm", before[root / "p0/ct/03.dcm"])}


def test_a_series_that_changes_makes_its_segmentation_be_read_again(root: Path) -> None:
    assert check_dataset(documented(), root, cached=True).safe
    write_series(root / "p0/ct", image(0), description="portal venous")  # other UIDs, another frame of reference
    report = check_dataset(documented(), root, cached=True)
    assert [problem.case for problem in report.problems] == ["p0"]
    assert "another series" in report.problems[0].message


def test_proposals_of_an_audit(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    made = documented()
    predict(made, root, tmp_path / "p")
    write_case(root, 1, ("Body", "Liver"))
    before = digests(root)
    for form in ("nifti", "dicom_seg"):
        report = audit_dataset(made, root, tmp_path / form, probabilities=tmp_path / "p", form=form)
        assert report.failed == {}
        first = report.findings[0]
        assert (first.case, first.structure, first.type) == ("p1", "tumour", "missing")
    proposal = nibabel.load(tmp_path / "nifti/proposals/p1/liver.nii.gz")
    np.testing.assert_array_equal(np.asarray(proposal.dataobj), VALUES)
    np.testing.assert_allclose(proposal.affine, AFFINE)
    series = read_series(root / "p1/ct", made.dicom.series)
    seg = open_seg(tmp_path / "dicom_seg/proposals/p1/liver.dcm", series)
    np.testing.assert_array_equal(seg_values(seg, dicom_rules(made))[0], VALUES)
    assert seg.labels == {1: "Body", 2: "Liver", 3: "Tumour"}
    errors = nibabel.load(tmp_path / "dicom_seg/errors/p1.nii.gz")
    np.testing.assert_array_equal(np.asarray(errors.dataobj), TUMOUR)
    assert digests(root) == before
    write_case(root, 1, ("Liver",))  # changed, so that it is judged and proposed again
    report = audit_dataset(made, root, tmp_path / "dicom_seg", probabilities=tmp_path / "p", form="dicom_seg")
    assert report.failed == {}
    seg = open_seg(tmp_path / "dicom_seg/proposals/p1/liver.dcm", read_series(root / "p1/ct", made.dicom.series))
    assert seg.labels == {1: "Liver", 2: "Tumour"}
    with pytest.raises(FileExistsError, match="holds an audit with other settings"):
        audit_dataset(made, root, tmp_path / "nifti", probabilities=tmp_path / "p", form="dicom_seg")
    with pytest.raises(ValueError, match="one of nifti, dicom_seg, got 'png'"):
        audit_dataset(made, root, tmp_path / "png", probabilities=tmp_path / "p", form="png")


def test_overlapping_structures(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    made = overlapping(root)
    spec = load_dataset(made, root)
    label = preprocessing(spec)(spec.train[0])["label"].numpy()
    np.testing.assert_array_equal(label[:, ::-1, ::-1], [LIVER | TUMOUR, TUMOUR])
    assert spec.left_out == []
    folder = tmp_path / "noisy"
    report = simulate_dataset(made, root, {"alpha": 1.0, "models": ["missing"]}, folder, with_images=True)
    assert report.failed == {}
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz")}
    label_template = load_manifest(folder / "manifest.json").layout.label
    assert label_template == {name: f"{{case}}/liver_{name}.nii.gz" for name in ("liver", "tumour")}
    assert written == {f"p{n}/liver_{name}.nii.gz" for n in range(5) for name in ("liver", "tumour")}
    for name, mask in (("liver", LIVER | TUMOUR), ("tumour", 2 * TUMOUR)):  # the test case, as it is
        kept = nibabel.load(folder / f"p4/liver_{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(kept.dataobj), mask)
    trained = load_dataset(folder / "manifest.json", folder)
    assert [len(items) for items in (trained.train, trained.val, trained.test)] == [3, 1, 1]
    predict(made, root, tmp_path / "p")
    audit = audit_dataset(made, root, tmp_path / "audit", probabilities=tmp_path / "p", form="dicom_seg")
    assert audit.failed == {}
    assert {(f.case, f.structure, f.type) for f in audit.findings if f.source == "model"} == {
        (f"p{n}", "liver", "boundary too far out") for n in range(3)
    }
    series = read_series(root / "p0/ct", made.dicom.series)
    seg = open_seg(tmp_path / "audit/proposals/p0/liver.dcm", series)
    masks = seg_values(seg, dicom_rules(made), [(1,), (2,)]) > 0
    np.testing.assert_array_equal(masks, [LIVER, TUMOUR])
    assert audit_dataset(made, root, tmp_path / "nifti", probabilities=tmp_path / "p").failed == {}
    for name, mask in (("liver", LIVER), ("tumour", 2 * TUMOUR)):
        proposal = nibabel.load(tmp_path / f"nifti/proposals/p0/liver_{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(proposal.dataobj), mask)


@pytest.mark.parametrize("multi_label", [False, True])
def test_export_of_corrected_labels(root: Path, tmp_path: Path, multi_label: bool) -> None:
    """In the first case the tumour has become liver; the others were not corrected."""
    pytest.importorskip("highdicom")
    made = overlapping(root) if multi_label else documented()
    (tmp_path / "manifest.json").write_text(made.model_dump_json())
    spec = load_dataset(made, root)
    label = preprocessing(spec)(spec.train[0])["label"]
    corrected = torch.stack([label[0], 0 * label[1]]) if multi_label else (label > 0).to(torch.uint8)
    store = LabelStore(tmp_path / "store")
    store.propose("p0", corrected, geometry=geometry_of(label))
    store.commit("by hand")
    before = digests(root)
    arguments = [
        "labels",
        "export",
        str(tmp_path / "store"),
        str(tmp_path / "manifest.json"),
        "--dataset_dir",
        str(root),
    ]
    arguments += ["--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    names = {"p0_liver.nii.gz", "p0_tumour.nii.gz"} if multi_label else {"p0.nii.gz"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    liver = nibabel.load(tmp_path / "out" / min(names))
    np.testing.assert_array_equal(np.asarray(liver.dataobj), LIVER | TUMOUR)
    np.testing.assert_allclose(liver.affine, AFFINE)
    if multi_label:
        assert not np.asarray(nibabel.load(tmp_path / "out/p0_tumour.nii.gz").dataobj).any()
    result = CliRunner().invoke(app, [*arguments, "--format", "dicom_seg"])
    assert result.exit_code == 0, result.output
    series = read_series(root / "p0/ct", made.dicom.series)
    seg = open_seg(tmp_path / "out/p0.dcm", series)
    masks = seg_values(seg, dicom_rules(made), [(1,), (2,)] if multi_label else None)
    np.testing.assert_array_equal(masks[0] == 1, LIVER | TUMOUR)
    assert not (masks == 2).any()
    assert CliRunner().invoke(app, [*arguments, "--format", "dicom_seg"]).exit_code == 1
    assert CliRunner().invoke(app, [*arguments, "--format", "png"]).exit_code == 2
    assert digests(root) == before


def test_export_beside_labels_in_nifti(root: Path, tmp_path: Path) -> None:
    """Labels in NIfTI, with their axes as other tools turn them; exported as segmentations of the series."""
    pytest.importorskip("highdicom")
    for number in range(5):
        turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(VALUES.astype(np.uint8), AFFINE))
        nibabel.save(turned, root / f"p{number}/label.nii.gz")
    made = documented(layout={"image": "{case}/ct/", "label": "{case}/label.nii.gz"})
    spec = load_dataset(made, root)
    assert spec.left_out == []
    np.testing.assert_array_equal(read_case_label(spec.train[0], spec).masks[:, ::-1, ::-1], [LIVER, TUMOUR])
    label = preprocessing(spec)(spec.train[0])["label"]
    store = LabelStore(tmp_path / "store")
    store.propose("p0", 3 - label.numpy() - 3 * (label.numpy() == 0), geometry=geometry_of(label))
    store.commit("liver and tumour exchanged")
    report = store.export(
        spec.train,
        tmp_path / "out",
        class_values=[1, 2],
        classes=spec.classes,
        dicom=dicom_rules(made),
        form="dicom_seg",
    )
    assert report.failed == {}
    seg = open_seg(tmp_path / "out/p0.dcm", read_series(root / "p0/ct", "portal.*"))
    assert seg.labels == {1: "liver", 2: "tumour"}
    np.testing.assert_array_equal(seg_values(seg, dicom_rules(documented(dicom={})))[0], TUMOUR + 2 * LIVER)


def test_labels_beside_a_series_must_lie_on_its_grid(root: Path) -> None:
    moved = AFFINE.copy()
    moved[2, 3] += 1
    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(VALUES.astype(np.uint8), moved))
    nibabel.save(turned, root / "p0/label.nii.gz")
    write_volume(root / "p1/label.nii.gz", VALUES[:, :, 1:].astype(np.uint8), AFFINE)
    nibabel.save(
        nibabel.Nifti1Image(VALUES.transpose(2, 1, 0).astype(np.uint8), AFFINE[:, [2, 1, 0, 3]]),
        root / "p2/label.nii.gz",
    )
    made = documented(layout={"image": "{case}/ct/", "label": "{case}/label.nii.gz"})
    problems = [p for p in check_dataset(made, root).problems if p.kind != "image without label"]
    assert [(problem.case, problem.kind) for problem in problems] == [("p0", "affine"), ("p1", "shape")]
    assert "puts it up to 1 mm away from p0/ct" in problems[0].message


def test_a_segmentation_needs_a_series(root: Path, tmp_path: Path) -> None:
    write_volume(root / "p0.nii", image(0), AFFINE)
    spec = load_dataset(documented(), root)
    with pytest.raises(RuntimeError) as caught:
        preprocessing(spec)({**spec.train[0], "image": str(root / "p0.nii")})
    assert "p0.nii: is no folder. Give the folder of a DICOM series" in str(caught.value.__cause__)


@pytest.mark.bundle
def test_inference_takes_folders(root: Path, tmp_path: Path) -> None:
    """The dataset has no labels and a scout in every folder; predictions lie on the grid of the series."""
    for number in range(5):
        (root / f"p{number}/liver.dcm").unlink()
    (tmp_path / "manifest.json").write_text(documented().model_dump_json())
    config = ConfigParser()
    config.read_config(str(ROOT / "bundles/baseline/configs/inference.json"))
    options = {
        "manifest": str(tmp_path / "manifest.json"),
        "dataset_dir": str(root),
        "output_dir": str(tmp_path / "out"),
    }
    config.update({**options, "device": torch.device("cpu"), "handlers": [], "network_def#channels": [4, 4, 8, 8]})
    config.parse()
    config.get_parsed_content("run")
    written = sorted((tmp_path / "out").rglob("*.nii.gz"))
    assert [path.relative_to(tmp_path / "out").parts[0] for path in written] == ["p0", "p1", "p2", "p3", "p4"]
    for path in written:
        label = nibabel.load(path)
        assert label.shape == SHAPE
        np.testing.assert_allclose(label.affine, AFFINE)


@pytest.mark.realdata
def test_the_real_overlap_as_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    folder = real_data("ct_dicom_seg")
    changes: dict[str, object] = {
        "classes": {"green": 1, "orange": 2, "purple": 3, "light blue": 4, "dark blue": 5},
        "layout": {"image": "{case}/", "label": "partial_overlaps.dcm"},
        "dicom": {},
    }
    report = check_dataset(documented(task="multi_label", **changes), folder)
    assert report.problems == ()
    assert report.facts["partial_overlaps.dcm"].slices == {
        1: [(1, 2)],
        2: [(1, 2)],
        3: [(0, 3)],
        4: [(0, 1)],
        5: [(0, 1)],
    }
    (problem,) = check_dataset(documented(**changes), folder).problems
    assert "'GREEN' (1) and 'ORANGE' (2) in slice 1 (02.dcm at -127.69 mm): 3017 pixels" in problem.message
