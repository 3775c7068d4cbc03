"""Labels that another model predicted, as inference writes them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from dataset_files import write_picture
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, SaveImage
from simulated import write_hearts, write_pictures

import monai_noisylabel.simulate.simulation as module
from monai_noisylabel.data import DatasetSpec, LabelWriter, Manifest, load_dataset, preprocessing
from monai_noisylabel.simulate import simulate_dataset
from monai_noisylabel.simulate.case_label import read_case_label
from monai_noisylabel.simulate.predicted import PredictedLabels


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "draw_contact_sheet", lambda *arguments: None)


def _predict(spec: DatasetSpec, folder: Path) -> None:
    """Write for every training case its structures moved by two voxels, through the steps of inference.json."""
    steps = preprocessing(spec, with_label=False)
    save = SaveImage(folder, "seg", output_dtype=np.uint8, writer=LabelWriter, resample=False, print_log=False)
    for item in {entry.get("volume", entry["case"]): entry for entry in spec.train}.values():
        image = steps({"image": item["image"], "case": item.get("volume", item["case"])})
        label = read_case_label(item, spec)
        moved = torch.tensor(np.roll(label.masks, 2, axis=1))
        if not spec.multi_label:
            moved = (moved * torch.arange(1, len(moved) + 1).view(-1, 1, 1, 1)).amax(0, keepdim=True)
        made = {"image": image["image"], "pred": MetaTensor(moved.float(), meta=image["image"].meta)}
        made["pred"].applied_operations = image["image"].applied_operations
        back = Compose([Invertd("pred", steps, orig_keys="image", nearest_interp=True)])(made)
        save(back["pred"])


@pytest.fixture
def hearts(tmp_path: Path) -> Manifest:
    return write_hearts(tmp_path / "data", ("RAS", "PIR", "ASL", "RAS", "RAS"))


@pytest.mark.parametrize("dims", [2, 3])
def test_predictions_of_volumes_become_the_labels(tmp_path: Path, hearts: Manifest, dims: int) -> None:
    spec = load_dataset(hearts, tmp_path / "data")
    _predict(spec, tmp_path / "pred")
    recipe, out = {"alpha": 1.0}, tmp_path / "out"
    simulate_dataset(hearts, tmp_path / "data", recipe, out, spatial_dims=dims, labels_dir=tmp_path / "pred")
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    for item in spec.train:
        clean = read_case_label(item, spec)
        noisy = read_case_label({**item, "label": str(out / "labels" / f"{item['case']}.nii")}, spec)
        np.testing.assert_array_equal(noisy.masks, np.roll(clean.masks, 2, axis=1))
        own = [line for line in lines if line["volume"] == item["case"]]
        assert {line["model"] for line in own} == {"predicted"}
        files = {drawn["file"] for line in own for drawn in line["parameters"].values()}
        assert files == {f"{item['case']}/{item['case']}_seg.nii.gz"}
        assert set(own[0]["checksums"]) == {"files", "originals", "predicted"}


def test_alpha_decides_which_cases_take_them(tmp_path: Path, hearts: Manifest) -> None:
    spec = load_dataset(hearts, tmp_path / "data", spatial_dims=2)
    _predict(load_dataset(hearts, tmp_path / "data"), tmp_path / "pred")
    out = tmp_path / "out"
    report = simulate_dataset(
        hearts, tmp_path / "data", {"alpha": 0.5}, out, spatial_dims=2, labels_dir=tmp_path / "pred"
    )
    models = report.summary["models"]
    assert set(models) == {"none", "predicted"}
    assert sum(models.values()) == len(spec.train)
    assert abs(models["predicted"] / len(spec.train) - 0.5) < 0.35


def test_pictures_with_several_channels(tmp_path: Path) -> None:
    made = write_pictures(tmp_path / "data")
    spec = load_dataset(made, tmp_path / "data")
    _predict(spec, tmp_path / "pred")
    simulate_dataset(made, tmp_path / "data", {"alpha": 1.0}, tmp_path / "out", labels_dir=tmp_path / "pred")
    for item in spec.train:
        label = read_case_label(item, spec)
        files = [str(tmp_path / "out" / Path(path).relative_to(tmp_path / "data")) for path in item["label"]]
        noisy = read_case_label({**item, "label": files}, spec)
        np.testing.assert_array_equal(noisy.masks, np.roll(label.masks, 2, axis=1))


def test_a_changed_prediction_makes_its_case_anew(tmp_path: Path, hearts: Manifest) -> None:
    _predict(load_dataset(hearts, tmp_path / "data"), tmp_path / "pred")
    settings = {"out_dir": tmp_path / "out", "recipe": {"alpha": 1.0}, "labels_dir": tmp_path / "pred"}
    simulate_dataset(hearts, tmp_path / "data", **settings)
    path = tmp_path / "pred/h1/h1_seg.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    report = simulate_dataset(hearts, tmp_path / "data", **settings)
    assert (report.written, report.kept) == (["h1"], ["h0", "h2"])


def test_files_are_found_by_the_name_of_the_image_or_the_case(tmp_path: Path) -> None:
    for name in ("a/x_seg.nii.gz", "y.png", "deep/er/z.nii", "z_seg.nrrd", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    labels = PredictedLabels(tmp_path)
    assert labels.path_of({"case": "x", "image": "/data/x.nii.gz"}) == tmp_path / "a/x_seg.nii.gz"
    assert labels.path_of({"case": "s_y", "image": ["/data/y.jpg", "/data/q.jpg"]}) == tmp_path / "y.png"
    assert labels.path_of({"case": "x/003", "volume": "x", "image": "/data/k.nii"}) == tmp_path / "a/x_seg.nii.gz"
    with pytest.raises(FileNotFoundError, match="must hold one predicted label named z or z_seg; there are 2: "):
        labels.path_of({"case": "z", "image": "z.nii"})
    with pytest.raises(FileNotFoundError, match="named notes or notes_seg; there is none"):
        labels.path_of({"case": "notes", "image": "notes.nii"})


def test_a_missing_prediction_fails_its_case_only(tmp_path: Path, hearts: Manifest) -> None:
    _predict(load_dataset(hearts, tmp_path / "data"), tmp_path / "pred")
    (tmp_path / "pred/h1/h1_seg.nii.gz").unlink()
    report = simulate_dataset(hearts, tmp_path / "data", {"alpha": 1.0}, tmp_path / "out", labels_dir=tmp_path / "pred")
    assert list(report.failed) == ["h1"]
    assert "there is none" in report.failed["h1"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((30, 40), np.uint8), r"has 1 channel\(s\) of shape \(48, 40\), this one has 1 of \(40, 30\)"),
        (np.full((40, 48), 7, np.uint8), "holds the numbers 0 to 2, this one values from 7 to 7"),
    ],
)
def test_predictions_that_do_not_fit(tmp_path: Path, values: np.ndarray, message: str) -> None:
    made = write_pictures(tmp_path / "data")
    content = made.model_dump() | {"task": "multi_class", "classes": {"a": 1, "b": 255}}
    content["layout"]["label"] = "large/{case}.png"
    spec = load_dataset(Manifest.model_validate(content), tmp_path / "data")
    path = write_picture(tmp_path / "pred/p0.png", values)
    with pytest.raises(ValueError, match=message):
        PredictedLabels(tmp_path / "pred").masks_of(path, read_case_label(spec.train[0], spec))


def test_models_and_predictions_exclude_each_other(tmp_path: Path, hearts: Manifest) -> None:
    (tmp_path / "pred").mkdir()
    with pytest.raises(ValueError, match="take the place of the recipe's models"):
        simulate_dataset(hearts, tmp_path / "data", "missing", tmp_path / "out", labels_dir=tmp_path / "pred")
    with pytest.raises(FileNotFoundError, match="is no folder of predicted labels"):
        simulate_dataset(hearts, tmp_path / "data", None, tmp_path / "out", labels_dir=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="lie in each other"):
        simulate_dataset(hearts, tmp_path / "data", None, tmp_path / "pred/out", labels_dir=tmp_path / "pred")
