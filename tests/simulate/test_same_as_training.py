"""A simulation on disk has the labels that a training with the same recipe and seed makes for itself."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from dataset_files import manifest, real_data
from simulated import SPLITS, predict_moved, read_by_training, read_records, trained_on, write_hearts, write_pictures

import monai_noisylabel.simulate.simulation as module
from monai_noisylabel.corruption import NOISE_MODELS, corrupt
from monai_noisylabel.data import DatasetSpec, load_dataset
from monai_noisylabel.simulate import simulate_dataset

BOUNDARY = {"model": "boundary", "beta": 4, "alpha": 1.0}
MIXED = {"alpha": 0.7, "models": [{"model": "boundary", "beta": 4}, "missing", {"model": "relative_boundary"}]}
IN_MM = {"model": "boundary", "beta": 4, "unit": "mm", "alpha": 1.0}
SLICES = {"model": "missing", "scope": "slice", "alpha": 1.0}
SYSTEMATIC = {**MIXED, "alpha": 0.8, "share_of": "patient", "annotators": 2}


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest; tests/simulate/test_contact_sheet.py looks at it."""
    monkeypatch.setattr(module, "draw_contact_sheet", lambda *arguments: None)


def assert_same_as_training(folder: Path, data: Path, recipe: dict, seed: int, **choice: object) -> None:
    out = folder / "out"
    simulate_dataset(choice["manifest"], data, recipe, out, seed=seed, with_images=True, **_without_manifest(choice))
    spec = load_dataset(choice["manifest"], data, **_without_manifest(choice))
    expected, found = trained_on(spec, recipe, seed), read_by_training(out, spec)
    assert expected.keys() == found.keys()
    for case, label in expected.items():
        np.testing.assert_array_equal(found[case], label, err_msg=case)
    clean = trained_on(spec, {"model": "none"}, seed)
    assert any(not np.array_equal(clean[case], label) for case, label in expected.items())


def _without_manifest(choice: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in choice.items() if key != "manifest"}


@pytest.mark.parametrize("recipe", [MIXED, IN_MM, SYSTEMATIC])
def test_slices_of_volumes(phantom: Path, tmp_path: Path, recipe: dict) -> None:
    assert_same_as_training(tmp_path, phantom, recipe, 3, manifest="phantom_hcc")


def test_a_choice_of_classes(phantom: Path, tmp_path: Path) -> None:
    assert_same_as_training(tmp_path, phantom, BOUNDARY, 3, manifest="phantom_hcc", classes=["tumour"])


@pytest.mark.parametrize("recipe", [MIXED, IN_MM, SLICES, SYSTEMATIC])
def test_volumes_in_any_orientation(tmp_path: Path, recipe: dict) -> None:
    made = write_hearts(tmp_path / "data")
    assert_same_as_training(tmp_path, tmp_path / "data", recipe, 1, manifest=made)


@pytest.mark.parametrize("orientation", ["LPS", None])
def test_slices_along_the_axis_that_training_cuts(tmp_path: Path, orientation: str | None) -> None:
    write_hearts(tmp_path / "data", ("RAS", "LPI", "LAS", "RPS", "RAI"))  # cut along one axis with any orientation
    made = manifest(
        classes={"wall": 10, "cavity": [20, 21], "bar": 30},
        splits=SPLITS,
        preprocessing={"normalise": "zscore", "orientation": orientation, "slices": "labelled"},
    )
    assert_same_as_training(tmp_path, tmp_path / "data", IN_MM, 1, manifest=made, spatial_dims=2)


@pytest.mark.parametrize("recipe", [MIXED, BOUNDARY, SYSTEMATIC])
def test_pictures_with_a_file_per_structure(tmp_path: Path, recipe: dict) -> None:
    made = write_pictures(tmp_path / "data")
    assert_same_as_training(tmp_path, tmp_path / "data", recipe, 2, manifest=made)


@pytest.mark.parametrize("name", NOISE_MODELS)
def test_every_model(tmp_path: Path, name: str) -> None:
    made = write_hearts(tmp_path / "data", ("LPS", "PIR", "RAS", "RAS", "RAS"))
    few_steps = {"steps": 20} if name == "markov_boundary" else {}
    recipe = {"model": name, "alpha": 1.0, **few_steps}
    assert_same_as_training(tmp_path, tmp_path / "data", recipe, 1, manifest=made)


def _with_predictions(spec: DatasetSpec, folder: Path) -> dict:
    """A recipe of predicted labels, which are made, beside another model."""
    predict_moved(spec, folder)
    entry = {"model": "predicted", "labels": str(folder), "weight": 2}
    return {"alpha": 0.8, "models": [entry, {"model": "boundary", "beta": 4}]}


@pytest.mark.parametrize("dims", [2, 3])
def test_predicted_labels_of_volumes(tmp_path: Path, dims: int) -> None:
    made = write_hearts(tmp_path / "data", ("LPS", "PIR", "ASL", "RAS", "RAS"))
    recipe = _with_predictions(load_dataset(made, tmp_path / "data"), tmp_path / "pred")
    assert_same_as_training(tmp_path, tmp_path / "data", recipe, 2, manifest=made, spatial_dims=dims)
    models = {line["model"] for line in read_records(tmp_path / "out")}
    assert models == {2: {"none", "boundary", "predicted"}, 3: {"boundary", "predicted"}}[dims]


def test_predicted_labels_of_pictures(tmp_path: Path) -> None:
    made = write_pictures(tmp_path / "data")
    recipe = _with_predictions(load_dataset(made, tmp_path / "data"), tmp_path / "pred")
    assert_same_as_training(tmp_path, tmp_path / "data", recipe, 2, manifest=made)
    assert "predicted" in {line["model"] for line in read_records(tmp_path / "out")}


@pytest.mark.realdata
def test_real_volumes(tmp_path: Path) -> None:
    """Hippocampi, without the padding that training adds, and with the tilted axes that scanners write."""
    data = tmp_path / "data"
    source = real_data("hippocampus")
    for path in sorted((source / "labels").glob("*.nii.gz"))[:6]:
        for kind in ("images", "labels"):
            (data / kind).mkdir(parents=True, exist_ok=True)
            if (source / kind / path.name).exists():
                (data / kind / path.name).write_bytes((source / kind / path.name).read_bytes())
    made = manifest(splits=SPLITS, preprocessing={"normalise": "zscore"})
    assert_same_as_training(tmp_path, data, MIXED, 1, manifest=made)


def test_labels_come_from_the_pure_function(phantom: Path, tmp_path: Path) -> None:
    """RAS files of integer values: the file holds exactly what corrupt makes of it."""
    simulate_dataset("phantom_hcc", phantom, IN_MM, tmp_path / "out", seed=9, spatial_dims=3)
    for path in (tmp_path / "out/labels").iterdir():
        given = nibabel.load(phantom / "labels" / path.name)
        turned = nibabel.as_closest_canonical(given)
        label = np.asarray(turned.dataobj)[None]
        form = {"num_classes": 3, "multi_label": False, "spacing": turned.header.get_zooms()}
        expected, _ = corrupt(label, path.name.split(".")[0], IN_MM, 9, **form)
        noisy = nibabel.as_closest_canonical(nibabel.load(path))
        np.testing.assert_array_equal(np.asarray(noisy.dataobj), expected[0])
