"""Labels that another model predicted, as inference writes them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from simulated import predict_moved, read_records, write_hearts, write_pictures

import monai_noisylabel.simulate.simulation as module
from monai_noisylabel.data import Manifest, load_dataset
from monai_noisylabel.data.case_label import read_case_label
from monai_noisylabel.simulate import simulate_dataset


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "draw_contact_sheet", lambda *arguments: None)


@pytest.fixture
def hearts(tmp_path: Path) -> Manifest:
    return write_hearts(tmp_path / "data", ("RAS", "PIR", "ASL", "RAS", "RAS"))


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, object]:
    return {"model": "predicted", "labels": str(tmp_path / "pred"), "alpha": 1.0}


@pytest.mark.parametrize("dims", [2, 3])
def test_predictions_of_volumes_become_the_labels(tmp_path: Path, hearts: Manifest, recipe: dict, dims: int) -> None:
    spec = load_dataset(hearts, tmp_path / "data")
    predict_moved(spec, tmp_path / "pred")
    simulate_dataset(hearts, tmp_path / "data", recipe, tmp_path / "out", spatial_dims=dims)
    lines = read_records(tmp_path / "out")
    for item in spec.train:
        clean = read_case_label(item, spec)
        noisy = read_case_label({**item, "label": str(tmp_path / "out/labels" / f"{item['case']}.nii")}, spec)
        np.testing.assert_array_equal(noisy.masks, np.roll(clean.masks, 2, axis=1))
        own = [line for line in lines if line["volume"] == item["case"]]
        assert {line["model"] for line in own} == {"predicted"}
        taken = f"predicted in {tmp_path / 'pred'}"
        assert set(own[0]["checksums"]) == {"files", "originals", taken}
        assert list(own[0]["checksums"][taken]) == [f"{item['case']}/{item['case']}_seg.nii.gz"]


def test_predictions_beside_another_model(tmp_path: Path, hearts: Manifest, recipe: dict) -> None:
    spec = load_dataset(hearts, tmp_path / "data", spatial_dims=2)
    predict_moved(load_dataset(hearts, tmp_path / "data"), tmp_path / "pred")
    entry = {"model": "predicted", "labels": recipe["labels"], "weight": 3}
    mixed = {"alpha": 0.8, "models": [entry, "missing"]}
    settings = {"out_dir": tmp_path / "out", "recipe": mixed, "spatial_dims": 2}
    report = simulate_dataset(hearts, tmp_path / "data", **settings)
    models = report.summary["models"]
    assert set(models) == {"none", "missing", "predicted"}
    assert sum(models.values()) == len(spec.train)
    assert 1 < models["predicted"] / models["missing"] < 9
    again = simulate_dataset(hearts, tmp_path / "data", **settings)
    assert (again.written, again.kept) == ([], ["h0", "h1", "h2"])


def test_pictures_with_several_channels(tmp_path: Path, recipe: dict) -> None:
    made = write_pictures(tmp_path / "data")
    spec = load_dataset(made, tmp_path / "data")
    predict_moved(spec, tmp_path / "pred")
    simulate_dataset(made, tmp_path / "data", recipe, tmp_path / "out")
    for item in spec.train:
        label = read_case_label(item, spec)
        files = [str(tmp_path / "out" / Path(path).relative_to(tmp_path / "data")) for path in item["label"]]
        noisy = read_case_label({**item, "label": files}, spec)
        np.testing.assert_array_equal(noisy.masks, np.roll(label.masks, 2, axis=1))


def test_a_changed_prediction_makes_its_case_anew(tmp_path: Path, hearts: Manifest, recipe: dict) -> None:
    predict_moved(load_dataset(hearts, tmp_path / "data"), tmp_path / "pred")
    simulate_dataset(hearts, tmp_path / "data", recipe, tmp_path / "out")
    path = tmp_path / "pred/h1/h1_seg.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    report = simulate_dataset(hearts, tmp_path / "data", recipe, tmp_path / "out")
    assert (report.written, report.kept) == (["h1"], ["h0", "h2"])
    assert report.summary["classes"]["wall"]["vanished"] == 1


def test_a_prediction_that_is_missing_or_does_not_fit_fails_its_case_only(
    tmp_path: Path, hearts: Manifest, recipe: dict
) -> None:
    predict_moved(load_dataset(hearts, tmp_path / "data"), tmp_path / "pred")
    (tmp_path / "pred/h1/h1_seg.nii.gz").unlink()
    path = tmp_path / "pred/h2/h2_seg.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[:-1], image.affine), path)
    report = simulate_dataset(hearts, tmp_path / "data", recipe, tmp_path / "out")
    assert report.written == ["h0"]
    assert "Case 'h1'" in report.failed["h1"]
    assert "there is none. Predict every training image" in report.failed["h1"]
    assert "h2_seg.nii.gz: has the shape" in report.failed["h2"]


def test_folders_that_cannot_be_used(tmp_path: Path, hearts: Manifest, recipe: dict) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder of predicted labels"):
        simulate_dataset(hearts, tmp_path / "data", recipe, tmp_path / "out")
    (tmp_path / "pred").mkdir()
    with pytest.raises(ValueError, match="lie in each other"):
        simulate_dataset(hearts, tmp_path / "data", recipe, tmp_path / "pred/out")
    assert not (tmp_path / "out").exists()
