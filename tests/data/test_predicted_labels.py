"""Predicted labels: found by name, refused on another grid, brought to the grid of a training label."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from dataset_files import manifest, write_picture, write_volume
from monai.data import MetaTensor
from simulated import SPLITS, heart, oblique, write_hearts

from monai_noisylabel.data import PredictedLabels, load_dataset, preprocessing

AFFINE = oblique("RAS")


def label(shape: tuple[int, ...] = (6, 7, 4), affine: np.ndarray = AFFINE, **meta: object) -> MetaTensor:
    return MetaTensor(torch.zeros(1, *shape), affine=torch.tensor(affine), meta=meta)


def predicted(folder: Path, values: np.ndarray, affine: np.ndarray = AFFINE, name: str = "a_seg.nii.gz") -> Path:
    return write_volume(folder / name, values, affine)


# ---------------------------------------- names


def test_files_are_found_by_the_name_of_the_image_or_the_case(tmp_path: Path) -> None:
    for name in ("a/x_seg.nii.gz", "y.png", "deep/er/z.nii", "z_seg.nrrd", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    labels = PredictedLabels(tmp_path)
    assert labels.path_of("x", "/data/x.nii.gz") == tmp_path / "a/x_seg.nii.gz"
    assert labels.path_of("x", "/data/k.nii") == tmp_path / "a/x_seg.nii.gz"
    assert labels.path_of("x", "") == tmp_path / "a/x_seg.nii.gz"
    assert labels.path_of("s_y", "/data/y.jpg") == tmp_path / "y.png"
    with pytest.raises(FileNotFoundError, match="must hold one predicted label named z or z_seg; there are 2: "):
        labels.path_of("z", "z.nii")
    with pytest.raises(FileNotFoundError, match=r"Case 'notes': .* notes or notes_seg; there is none\. Predict every"):
        labels.path_of("notes", "notes.nii")


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        predicted(tmp_path, np.zeros((2, 2, 2)), name=f"{patient}/t1/t1_seg.nii.gz")
    labels = PredictedLabels(tmp_path)
    for patient in ("p1", "p2"):
        assert labels.path_of(patient, f"/data/{patient}/t1.nii.gz") == tmp_path / f"{patient}/t1/t1_seg.nii.gz"
    with pytest.raises(FileNotFoundError, match="there are 2"):
        labels.path_of("p3", "/data/p3/t1.nii.gz")


def test_one_file_is_not_the_label_of_two_cases(tmp_path: Path) -> None:
    predicted(tmp_path, np.zeros((2, 2, 2)), name="t1_seg.nii.gz")
    labels = PredictedLabels(tmp_path)
    for _ in range(2):
        labels.path_of("p1", "/data/p1/t1.nii.gz")
    with pytest.raises(ValueError, match="fits the cases 'p1' and 'p2'; name predicted labels like the cases"):
        labels.path_of("p2", "/data/p2/t1.nii.gz")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder of predicted labels; give the one that the inference"):
        PredictedLabels(tmp_path / "nowhere")


# ---------------------------------------- grids


@pytest.mark.parametrize("stored", ["RAS", "LPS", "PIR", "ASL"])
@pytest.mark.parametrize("trained", ["RAS", "LPS", "SAR"])
def test_axes_are_turned(tmp_path: Path, stored: str, trained: str) -> None:
    """Voxels keep their places in the world; the label is that of the anatomy in the axes of the training."""
    values = heart((24, 28, 11))
    turn = {name: nibabel.Nifti1Image(values, AFFINE).as_reoriented(_turn_to(name)) for name in (stored, trained)}
    predicted(tmp_path, np.asarray(turn[stored].dataobj), turn[stored].affine)
    on = label(turn[trained].shape, turn[trained].affine)
    found = PredictedLabels(tmp_path).label_on(on, "a", "")
    np.testing.assert_array_equal(found[0], np.asarray(turn[trained].dataobj))


def _turn_to(name: str) -> np.ndarray:
    ras = nibabel.orientations.axcodes2ornt("RAS")
    return nibabel.orientations.ornt_transform(ras, nibabel.orientations.axcodes2ornt(name))


def test_slices_crops_and_padding(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 3, (6, 7, 4))
    predicted(tmp_path, values.astype(np.int16))
    labels = PredictedLabels(tmp_path)
    original = {"original_affine": AFFINE, "spatial_shape": (6, 7, 4)}
    for number in (0, 3):
        cut = label((6, 7), slice=number, volume_shape=[6, 7, 4], **original)
        np.testing.assert_array_equal(labels.label_on(cut, "a", "")[0], values[..., number])
    moved = AFFINE.copy()
    moved[:3, 3] = (AFFINE @ [2, -1, 1, 1])[:3]  # two rows cut off, one column added, one slice cut off
    found = labels.label_on(label((4, 9, 3), moved, **original), "a", "")[0]
    np.testing.assert_array_equal(found, np.pad(values[2:, :, 1:], ((0, 0), (1, 1), (0, 0))))


@pytest.mark.parametrize("changes", [{"size": [12, 33, 11], "fit": "resize"}, {"spacing": [3.0, 0.83, -1]}])
def test_resampling_takes_the_voxels_that_a_label_keeps(tmp_path: Path, changes: dict) -> None:
    """The clean labels as predictions, in all orientations: a training cannot tell them apart."""
    made = write_hearts(tmp_path / "data")
    content = made.model_dump()
    content["preprocessing"] |= changes
    spec = load_dataset(type(made).model_validate(content), tmp_path / "data")
    steps = preprocessing(spec)
    for item in spec.train:
        file = nibabel.load(item["label"])
        values = np.asarray(file.dataobj)
        classes = np.select([values == 10, values == 30, values > 0], [1, 3, 2], 0).astype(np.uint8)
        predicted(tmp_path / "pred", classes, file.affine, f"{item['case']}_seg.nii.gz")
    labels = PredictedLabels(tmp_path / "pred")
    for item in spec.train:
        clean = steps(item)["label"]
        found = labels.label_on(clean, item["case"], item["image"])
        np.testing.assert_array_equal(found, clean.numpy())
        assert found.any()


def test_channels_are_structures_also_of_one_slice_and_of_pictures(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, (6, 7, 1, 3)).astype(np.uint8)
    predicted(tmp_path, values)
    labels = PredictedLabels(tmp_path)
    np.testing.assert_array_equal(labels.label_on(label((6, 7, 1)), "a", ""), np.moveaxis(values, 3, 0))
    write_volume(tmp_path / "pictures/a.nii.gz", values, np.eye(4))
    found = PredictedLabels(tmp_path / "pictures").label_on(label((6, 7), np.eye(4)), "a", "")
    np.testing.assert_array_equal(found, np.moveaxis(values[:, :, 0], 2, 0))


def test_pictures_as_predictions(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 3, (30, 40)).astype(np.uint8)
    for number in range(5):
        write_picture(tmp_path / f"data/images/p{number}.png", values)
        write_picture(tmp_path / f"data/labels/p{number}.png", values)
        write_picture(tmp_path / f"pred/p{number}_seg.png", values)
    made = manifest(
        spatial_dims=2,
        layout={"image": "images/{case}.png", "label": "labels/{case}.png"},
        splits=SPLITS,
        preprocessing={"normalise": "zscore", "size": [20, 34], "fit": "pad"},
    )
    spec = load_dataset(made, tmp_path / "data")
    clean = preprocessing(spec)(spec.train[0])["label"]
    found = PredictedLabels(tmp_path / "pred").label_on(clean, spec.train[0]["case"], spec.train[0]["image"])
    np.testing.assert_array_equal(found, clean.numpy())
    assert found.shape == (1, 20, 34)


def test_a_prediction_that_changes_on_disk_is_read_again(tmp_path: Path) -> None:
    predicted(tmp_path, np.zeros((6, 7, 4), np.uint8))
    labels = PredictedLabels(tmp_path)
    assert not labels.label_on(label(), "a", "").any()
    predicted(tmp_path, np.ones((6, 7, 4), np.uint8))
    assert labels.label_on(label(), "a", "").all()


# ---------------------------------------- what is refused


@pytest.mark.parametrize(
    ("shape", "shift", "message"),
    [
        ((6, 7, 5), 0.0, r"has the shape \(6, 7, 5\), the image of its case \(6, 7, 4\); predict on the images"),
        ((7, 6, 4), 0.0, r"has the shape \(7, 6, 4\)"),
        ((6, 7, 4), 0.6, r"lies up to 0.6 mm beside the image of its case"),
        ((6, 7, 4), 0.4, None),
    ],
)
def test_another_grid_than_that_of_the_image(
    tmp_path: Path, shape: tuple[int, ...], shift: float, message: str | None
) -> None:
    affine = AFFINE.copy()
    affine[0, 3] += shift  # the smallest edge of a voxel is 1 mm
    path = predicted(tmp_path, np.ones(shape, np.uint8), affine)
    resampled = label((3, 3, 3), np.diag([3.0, 2, 4, 1]), original_affine=AFFINE, spatial_shape=np.array([6, 7, 4]))
    for on in (label(), resampled):
        if message is None:
            assert PredictedLabels(tmp_path).label_on(on, "a", "").shape == on.shape
        else:
            with pytest.raises(ValueError, match=f"{path}: {message}"):
                PredictedLabels(tmp_path).label_on(on, "a", "")


def test_probabilities_and_labels_without_a_place(tmp_path: Path) -> None:
    path = predicted(tmp_path, np.full((6, 7, 4), 0.5, np.float32))
    with pytest.raises(ValueError, match=f"{path}: a predicted label holds whole numbers; write classes instead"):
        PredictedLabels(tmp_path).label_on(label(), "a", "")
    with pytest.raises(ValueError, match="Case 'a': a predicted label needs a MetaTensor"):
        PredictedLabels(tmp_path).label_on(torch.zeros(1, 6, 7, 4), "a", "")
