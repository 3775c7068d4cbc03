from __future__ import annotations

import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    LoadImaged,
    Orientationd,
    Resized,
    ResizeWithPadOrCropd,
    Spacingd,
)
from PIL import Image

from monai_noisylabel.data.label_export import ExportReport, export_labels
from monai_noisylabel.data.label_geometry import OUTSIDE, geometry_of, onto_grid
from monai_noisylabel.data.label_store import LabelStore
from monai_noisylabel.data.original_label import merged_values
from monai_noisylabel.data.originals import OriginalChangedError, fingerprint, verify_originals

VALUES = (1, 2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def store(tmp_path: Path, data: Path) -> LabelStore:
    return LabelStore(tmp_path / "run" / "store", dataset_dir=data)


def two_balls(shape: tuple[int, ...] = (24, 20, 12), spacing: tuple[float, ...] = (1, 1, 2)) -> np.ndarray:
    """A liver-like ball of class 1 with a ball of class 2 in it, off the centre so that flips show."""
    grid = np.stack(np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij"), -1)
    extent = np.array(shape) * spacing
    far = np.linalg.norm(grid - 0.45 * extent, axis=-1)
    near = np.linalg.norm(grid - np.array([0.55, 0.35, 0.45]) * extent, axis=-1)
    return ((far < 0.35 * extent.min()).astype(np.uint8) + (near < 0.15 * extent.min())).astype(np.uint8)


def oblique(codes: str, spacing: tuple[float, ...] = (1, 1, 2), angle: float = 0.2) -> np.ndarray:
    """Affine with the given axis codes and spacing, turned a little about the last axis."""
    start = nibabel.orientations.axcodes2ornt(("R", "A", "S"))
    ornt = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt(tuple(codes)), start)
    turned = np.zeros((4, 4))
    for source, (target, flip) in enumerate(ornt):
        turned[int(target), source] = flip * spacing[source]
    turned[3, 3] = 1
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = rotation @ turned
    affine[:3, 3] = (-31.5, 12.25, 7.75)
    return affine


def save(path: Path, values: np.ndarray, affine: np.ndarray, dtype: type = np.int16) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.astype(dtype), affine), path)
    return str(path)


def item(path: str | list[str], case: str = "a", **more: object) -> dict:
    return {"case": case, "label": path, **more}


def train_label(path: str, *steps: object) -> MetaTensor:
    return Compose([LoadImaged("label", ensure_channel_first=True), *steps])({"label": path})["label"]


def store_label(store: LabelStore, label: MetaTensor, case: str = "a") -> None:
    store.propose(case, label, geometry=geometry_of(label))


def written(report: ExportReport, case: str = "a", index: int = 0) -> np.ndarray:
    assert report.failed == {}
    path = report.written[case][index]
    if path.suffix == ".png":
        return np.asarray(Image.open(path))
    return np.asarray(nibabel.load(path).dataobj)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


# ---------------------------------------- volumes


def test_identity_grid_keeps_header_affine_and_type(store: LabelStore, data: Path, tmp_path: Path) -> None:
    given, corrected = np.zeros((24, 20, 12)), two_balls()
    path = data / "a.nii.gz"
    image = nibabel.Nifti1Image(given.astype(np.int16), oblique("LPS"))
    image.header["descrip"] = b"seen by two readers"
    image.set_sform(image.affine, code=2)
    image.set_qform(image.affine, code=1)
    nibabel.save(image, path)
    before = fingerprint([path])
    store.propose("a", corrected[None], geometry={"affine": image.affine, "shape": given.shape})
    store.commit("round")
    report = store.export([item(str(path))], tmp_path / "out", class_values=VALUES)
    assert report.written == {"a": [tmp_path / "out" / "a.nii.gz"]}
    np.testing.assert_array_equal(written(report), corrected)
    result, original = nibabel.load(report.written["a"][0]), nibabel.load(path)
    np.testing.assert_array_equal(result.affine, original.affine)
    assert result.header == original.header
    assert result.get_data_dtype() == np.int16
    verify_originals(before)


def test_label_stored_without_geometry_needs_the_same_shape(store: LabelStore, data: Path, tmp_path: Path) -> None:
    paths = [save(data / f"{name}.nii", np.zeros((6, 5, 4)), np.eye(4)) for name in "ab"]
    corrected = np.ones((1, 6, 5, 4), np.uint8)
    store.propose("a", corrected)
    store.propose("b", corrected[..., :3])
    store.commit("round")
    items = [item(path, case) for path, case in zip(paths, "ab", strict=True)]
    report = export_labels(store, items, tmp_path / "out", class_values=VALUES)
    assert list(report.written) == ["a"]
    assert "stored without geometry" in report.failed["b"]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "ALI", "PIR"])
def test_orientation_and_oblique_axes_round_trip_exactly(
    store: LabelStore, data: Path, tmp_path: Path, codes: str
) -> None:
    truth = two_balls()
    path = save(data / "a.nii.gz", truth, oblique(codes))
    label = train_label(path, Orientationd("label", axcodes="RAS"))
    store_label(store, label)
    store.commit("round")
    empty = save(data / "empty.nii.gz", np.zeros_like(truth), oblique(codes))
    report = store.export([item(empty)], tmp_path / "out", class_values=VALUES)
    np.testing.assert_array_equal(written(report), truth)


@pytest.mark.parametrize("factor", [1.5, 1 / 1.5])
def test_anisotropic_spacing_round_trip(store: LabelStore, data: Path, tmp_path: Path, factor: float) -> None:
    shape, spacing = (64, 56, 30), (1.0, 1.0, 2.5)
    truth = two_balls(shape, spacing)
    path = save(data / "a.nii.gz", truth, oblique("LAS", spacing))
    pixdim = tuple(np.array(spacing) * (factor, factor, 1))
    label = train_label(path, Orientationd("label", axcodes="RAS"), Spacingd("label", pixdim=pixdim, mode="nearest"))
    assert label.shape[1] == pytest.approx(shape[0] / factor, abs=1)
    store_label(store, label)
    store.commit("round")
    report = store.export(
        [item(save(data / "empty.nii.gz", np.zeros_like(truth), oblique("LAS", spacing)))],
        tmp_path / "out",
        class_values=VALUES,
    )
    for value in VALUES:
        assert dice(written(report) == value, truth == value) > 0.95
    if factor < 1:  # every original centre lies in a voxel of the finer grid that was read from it
        np.testing.assert_array_equal(written(report), truth)


def test_resized_volume_returns_in_place(store: LabelStore, data: Path, tmp_path: Path) -> None:
    truth = two_balls((24, 20, 12))
    path = save(data / "a.nii.gz", truth, oblique("LPI"))
    label = train_label(path, Resized("label", spatial_size=(48, 60, 24), mode="nearest"))
    store_label(store, label)
    store.commit("round")
    empty = save(data / "empty.nii.gz", np.zeros_like(truth), oblique("LPI"))
    np.testing.assert_array_equal(written(store.export([item(empty)], tmp_path / "out", class_values=VALUES)), truth)


def test_given_label_stands_outside_the_crop(store: LabelStore, data: Path, tmp_path: Path) -> None:
    given = np.full((24, 20, 12), 2)
    path = save(data / "a.nii.gz", given, oblique("LPS"))
    label = train_label(path, Orientationd("label", axcodes="RAS"), CenterSpatialCropd("label", roi_size=(10, 8, 6)))
    store_label(store, torch.zeros_like(label))
    store.commit("round")
    expected = given.copy()
    expected[7:17, 6:14, 3:9] = 0
    np.testing.assert_array_equal(written(store.export([item(path)], tmp_path / "out", class_values=VALUES)), expected)


def test_padding_falls_away(store: LabelStore, data: Path, tmp_path: Path) -> None:
    truth = two_balls()
    path = save(data / "a.nii.gz", truth, oblique("SRA"))
    label = train_label(path, ResizeWithPadOrCropd("label", spatial_size=(31, 15, 20)))
    store_label(store, label)
    store.commit("round")
    report = store.export([item(path)], tmp_path / "out", class_values=VALUES)
    np.testing.assert_array_equal(written(report), truth)


def test_volume_with_a_fourth_axis_keeps_it(store: LabelStore, data: Path, tmp_path: Path) -> None:
    path = save(data / "a.nii.gz", np.zeros((6, 5, 4, 1)), np.eye(4))
    store.propose("a", np.ones((1, 6, 5, 4), np.uint8), geometry={"affine": np.eye(4), "shape": (6, 5, 4)})
    store.commit("round")
    assert written(store.export([item(path)], tmp_path / "out", class_values=VALUES)).shape == (6, 5, 4, 1)


def test_scaled_and_floating_point_originals(store: LabelStore, data: Path, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.full((4, 4, 4), 300.0), np.eye(4))
    image.set_data_dtype(np.uint8)  # does not hold 300: the file stores a slope
    nibabel.save(image, data / "a.nii")
    save(data / "b.nii", np.full((4, 4, 4), 1.0), np.eye(4), np.float32)
    for case in "ab":
        store.propose(case, np.ones((1, 4, 4, 4), np.uint8) * (np.arange(4) < 2))
    store.commit("round")
    report = store.export([item(str(data / "a.nii"))], tmp_path / "out", class_values=[300])
    assert np.unique(written(report)).tolist() == [0, 300]
    report = store.export([item(str(data / "b.nii"), "b")], tmp_path / "out", class_values=[1])
    assert np.unique(written(report, "b")).tolist() == [0, 1]
    assert nibabel.load(report.written["b"][0]).get_data_dtype() == np.float32


# ---------------------------------------- slices


def test_slices_of_a_volume_are_put_together(store: LabelStore, data: Path, tmp_path: Path) -> None:
    truth = two_balls()
    given = np.where(truth == 2, 1, truth)
    path = save(data / "a.nii.gz", given, oblique("LSP"))
    steps = [Orientationd("label", axcodes="RAS")]
    corrected = train_label(save(data / "truth.nii.gz", truth, oblique("LSP")), *steps)
    depth = corrected.shape[-1]
    left_out = depth // 2
    for index in range(depth):
        if index != left_out:
            cut = MetaTensor(
                corrected.as_tensor()[..., index],
                affine=corrected.affine,
                meta={"slice": index, "volume_shape": list(corrected.shape[1:])},
            )
            store_label(store, cut, f"v/a/{index:03d}")
    store.commit("round")
    items = [item(path, f"v/a/{index:03d}", slice=index) for index in range(depth)]
    report = store.export(items, tmp_path / "out", class_values=VALUES)
    assert report.written == {"v/a": [tmp_path / "out" / "v" / "a.nii.gz"]}
    turned = train_label(path, *steps)[0].numpy()
    expected = corrected[0].numpy().copy()
    expected[..., left_out] = turned[..., left_out]
    result = train_label(str(report.written["v/a"][0]), *steps)[0].numpy()
    np.testing.assert_array_equal(result, expected)
    assert (result != turned).any()


def test_slices_resized_in_the_plane(store: LabelStore, data: Path, tmp_path: Path) -> None:
    truth = two_balls()
    path = save(data / "a.nii.gz", truth, oblique("RAS"))
    volume = train_label(path, Resized("label", spatial_size=(48, 40, 12), mode="nearest"))
    for index in range(12):
        meta = {"slice": torch.tensor(index), "volume_shape": torch.tensor(volume.shape[1:])}
        cut = MetaTensor(volume.as_tensor()[..., index], affine=volume.affine, meta=meta)
        store_label(store, cut, f"a/{index:03d}")
    store.commit("round")
    empty = save(data / "empty.nii.gz", np.zeros_like(truth), oblique("RAS"))
    items = [item(empty, f"a/{index:03d}", slice=index) for index in range(12)]
    report = store.export(items, tmp_path / "out", class_values=VALUES)
    np.testing.assert_array_equal(written(report), truth)


def test_slices_cut_differently(store: LabelStore, data: Path, tmp_path: Path) -> None:
    # Slice 0 was cropped to its first three columns, slice 1 to its last three, slice 2 was not corrected.
    path = save(data / "a.nii.gz", np.full((2, 5, 3), 2), np.eye(4))
    shifted = np.eye(4)
    shifted[1, 3] = 2
    for index, affine in enumerate((np.eye(4), shifted)):
        geometry = {"affine": affine, "shape": (2, 3, 3), "slice": index}
        store.propose(f"a/{index:03d}", np.ones((1, 2, 3)), geometry=geometry)
    store.commit("round")
    report = store.export(
        [item(path, f"a/{index:03d}", slice=index) for index in range(3)],
        tmp_path / "out",
        class_values=VALUES,
    )
    expected = np.full((2, 5, 3), 2)
    expected[:, :3, 0] = expected[:, 2:, 1] = 1
    np.testing.assert_array_equal(written(report), expected)


def test_slice_without_its_place_is_reported(store: LabelStore, data: Path, tmp_path: Path) -> None:
    path = save(data / "a.nii.gz", np.zeros((6, 5, 4)), np.eye(4))
    store.propose("a/000", np.zeros((1, 6, 5)), geometry={"affine": np.eye(4), "shape": (6, 5)})
    store.commit("round")
    report = store.export([item(path, "a/000", slice=0)], tmp_path / "out", class_values=VALUES)
    assert "needs 'slice' in its geometry" in report.failed["a"]


# ---------------------------------------- pictures


def save_picture(path: Path, pixels: np.ndarray, mode: str | None = None) -> str:
    Image.fromarray(pixels, mode).save(path)
    return str(path)


def test_picture_keeps_its_grid_and_value(store: LabelStore, data: Path, tmp_path: Path) -> None:
    pixels = np.zeros((20, 30), np.uint8)  # 20 rows, 30 columns
    pixels[2:8, 3:20] = 200
    path = save_picture(data / "a.png", pixels)
    label = train_label(path, Resized("label", spatial_size=(60, 40), mode="nearest"))
    store_label(store, (label > 0).to(torch.uint8))
    store.commit("round")
    empty = save_picture(data / "empty.png", np.zeros_like(pixels))
    report = store.export([item(path)], tmp_path / "same", class_values=[None])
    np.testing.assert_array_equal(written(report), pixels)
    report = store.export([item(empty)], tmp_path / "new", class_values=[None])
    np.testing.assert_array_equal(written(report), np.where(pixels, 255, 0))
    report = store.export([item(empty)], tmp_path / "value", class_values=[7])
    np.testing.assert_array_equal(written(report), np.where(pixels, 7, 0))


def test_one_picture_per_structure(store: LabelStore, data: Path, tmp_path: Path) -> None:
    given = np.zeros((2, 6, 8), np.uint8)
    given[0, :3], given[1, 2:] = 255, 255
    paths = [save_picture(data / f"a_{index}.png", pixels) for index, pixels in enumerate(given)]
    corrected = given > 0
    corrected[0, 5], corrected[1, :, 7] = True, False
    store.propose("a", corrected.transpose(0, 2, 1))
    store.commit("round")
    report = store.export(
        [item(paths)], tmp_path / "out", class_values=[None, None], classes=["left lung", "heart/aorta"]
    )
    assert [path.name for path in report.written["a"]] == ["a_left lung.png", "a_heart%2Faorta.png"]
    for index in range(2):
        np.testing.assert_array_equal(written(report, index=index), corrected[index] * 255)


def test_structures_out_of_one_file(store: LabelStore, data: Path, tmp_path: Path) -> None:
    # Disc is 1 or 2 (the cup lies in it), cup is 2.
    given = np.array([[0, 1, 2, 2, 9]], np.uint8)
    path = save_picture(data / "a.png", given)
    store.propose("a", np.array([[[1, 1, 1, 0, 0]], [[0, 1, 1, 0, 0]]]).transpose(0, 2, 1))
    store.commit("round")
    report = store.export([item(path)], tmp_path / "out", class_values=[(1, 2), 2], classes=["disc", "cup"])
    assert written(report).tolist() == [[1, 1, 2, 0, 0]]
    assert written(report, index=1).tolist() == [[0, 2, 2, 0, 0]]


def test_colours_and_palettes_stay(store: LabelStore, data: Path, tmp_path: Path) -> None:
    colours = np.zeros((4, 5, 3), np.uint8)
    colours[:2, :, 1], colours[3, :, 2] = 255, 255  # green above, blue below
    path = save_picture(data / "a.png", colours)
    store.propose("a", np.full((1, 5, 4), 2, np.uint8))
    indexed = Image.fromarray(np.eye(4, 5, dtype=np.uint8))
    indexed = indexed.convert("P")
    indexed.putpalette([0, 0, 0, 10, 20, 30])
    indexed.save(data / "b.png")
    store.propose("b", np.ones((1, 5, 4), np.uint8))
    store.commit("round")
    report = store.export([item(path)], tmp_path / "out", class_values=[0x00FF00, (0x0000FF, 0xFF0000)], coloured=True)
    expected = np.zeros_like(colours)
    expected[..., 2] = 255
    np.testing.assert_array_equal(written(report), expected)
    report = store.export([item(str(data / "b.png"), "b")], tmp_path / "out", class_values=[1])
    picture = Image.open(report.written["b"][0])
    assert picture.mode == "P"
    assert picture.convert("RGB").getpixel((4, 0)) == (10, 20, 30)


def test_picture_values_above_255(store: LabelStore, data: Path, tmp_path: Path) -> None:
    path = save_picture(data / "a.png", np.full((3, 4), 1000, np.uint16))
    store.propose("a", np.array([[[2], [1], [2], [1]]]).repeat(3, 2))
    store.commit("round")
    report = store.export([item(path)], tmp_path / "out", class_values=[1000, 40000])
    assert written(report).tolist() == [[40000, 1000, 40000, 1000]] * 3


# ---------------------------------------- what must not happen


def test_nothing_is_written_into_the_dataset(store: LabelStore, data: Path, tmp_path: Path) -> None:
    path = save(data / "a.nii.gz", np.zeros((4, 4, 4)), np.eye(4))
    store.propose("a", np.ones((1, 4, 4, 4)))
    store.commit("round")
    for out in (data, data / "new"):
        with pytest.raises(ValueError, match="must stay untouched"):
            store.export([item(path)], out, class_values=VALUES)
    before = fingerprint([data])
    unaware = LabelStore(store.root)
    (tmp_path / "link").symlink_to(data)
    for out in (data, tmp_path / "link"):
        report = unaware.export([item(path)], out, class_values=VALUES, overwrite=True)
        assert "is an original label file" in report.failed["a"]
    verify_originals(before)
    assert fingerprint([data]) == before


def test_existing_files_stay_unless_overwrite(store: LabelStore, data: Path, tmp_path: Path) -> None:
    path = save(data / "a.nii.gz", np.zeros((4, 4, 4)), np.eye(4))
    out = tmp_path / "out"
    for value in (1, 2):
        store.propose("a", np.full((1, 4, 4, 4), value))
        store.commit("round")
    first = store.export([item(path)], out, class_values=VALUES, round=1)
    assert np.unique(written(first)).tolist() == [1]
    assert (
        "exists; export elsewhere, or allow overwrite"
        in store.export([item(path)], out, class_values=VALUES).failed["a"]
    )
    assert np.unique(written(first)).tolist() == [1]
    assert np.unique(written(store.export([item(path)], out, class_values=VALUES, overwrite=True))).tolist() == [2]
    assert [file.name for file in out.iterdir()] == ["a.nii.gz"]


def test_one_bad_case_does_not_stop_the_others(
    store: LabelStore, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = [item(save(data / f"{case}.nii.gz", np.zeros((4, 4, 4)), np.eye(4)), case) for case in "abcdef"]
    for case in "abcdf":
        store.propose(case, np.full((1, 4, 4, 4), 3 if case == "d" else 1))
    store.commit("round")
    (data / "b.nii.gz").write_bytes(b"no NIfTI")
    (data / "c.nii.gz").unlink()
    save(data / "f.nii.gz", np.full((4, 4, 4), 0.5), np.eye(4), np.float32)
    with caplog.at_level(logging.ERROR):
        report = store.export(items, tmp_path / "out", class_values=VALUES)
    assert list(report.written) == ["a"]
    assert report.not_corrected == ["e"]
    assert set(report.failed) == {"b", "c", "d", "f"}
    assert "does not exist" in report.failed["c"]
    assert "holds class 3, but there are 2 class values" in report.failed["d"]
    assert "no whole numbers" in report.failed["f"]
    assert "Case 'b' was not exported" in caplog.text


def test_wrong_arguments(store: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="classes names 1 classes, class_values has the values of 2"):
        store.export([], tmp_path / "out", class_values=VALUES, classes=["liver"])
    with pytest.raises(ValueError, match="has no round 4"):
        store.export([], tmp_path / "out", class_values=VALUES, round=4)


@pytest.mark.parametrize(
    ("channels", "files", "values", "message"),
    [
        (3, 2, 3, "2 given label files do not fit a stored label of 3"),
        (1, 2, 2, "2 given label files do not fit a stored label of 1"),
        (2, 2, 3, "3 class values do not fit a stored label of 2"),
    ],
)
def test_numbers_of_structures_that_differ(
    store: LabelStore, data: Path, tmp_path: Path, channels: int, files: int, values: int, message: str
) -> None:
    paths = [save(data / f"{index}.nii.gz", np.zeros((4, 4, 4)), np.eye(4)) for index in range(files)]
    store.propose("a", np.ones((channels, 4, 4, 4)))
    store.commit("round")
    assert message in store.export([item(paths)], tmp_path / "out", class_values=[None] * values).failed["a"]


def test_case_ids_stay_below_the_export_folder(store: LabelStore, data: Path, tmp_path: Path) -> None:
    path = save(data / "a.nii.gz", np.zeros((4, 4, 4)), np.eye(4))
    for case in ("../../up", "p1/frame 02", "x:y"):
        store.propose(case, np.ones((1, 4, 4, 4)))
    store.commit("round")
    report = store.export(
        [item(path, case) for case in ("../../up", "p1/frame 02", "x:y")], tmp_path / "out", class_values=[1]
    )
    names = [str(paths[0].relative_to(tmp_path / "out")) for paths in report.written.values()]
    assert names == ["%2E%2E/%2E%2E/up.nii.gz", "p1/frame 02.nii.gz", "x%3Ay.nii.gz"]


# ---------------------------------------- worked examples


def test_a_voxel_takes_the_value_of_the_voxel_it_lies_in() -> None:
    # Label voxels of 2 mm, centres at 0, 2, 4: reaching from -1 to 5. Target centres at -1.5 ... 5.5.
    target = np.eye(4)
    target[0, 3] = -1.5
    resampled = onto_grid(np.array([[1], [2], [3]]), np.diag([2.0, 1, 1, 1]), target, (8, 1))
    assert resampled[:, 0].tolist() == [OUTSIDE, 1, 1, 2, 2, 3, 3, OUTSIDE]


def test_noise_in_an_affine_decides_no_tie() -> None:
    # Centres 0, 1, 2, 3 mm on label voxels of 2 mm: 1 and 3 lie between two voxels, and go to the upper one.
    label = np.array([[1], [2], [3]])
    for noise in (-6e-8, 0.0, 6e-8):
        resampled = onto_grid(label, np.diag([2 + noise, 1, 1, 1]), np.eye(4), (4, 1))
        assert resampled[:, 0].tolist() == [1, 2, 2, 3]


def test_merged_values_worked_example() -> None:
    # given:    0: nothing, 5 and 6: class 1, 8: class 2, 9: something that is no class here
    # The label agrees, disagrees, or says nothing (-1).
    given = np.array([0, 0, 5, 6, 6, 8, 8, 9, 9, 9, 5])
    label = np.array([0, 2, 1, 1, 0, 1, 2, 0, 1, -1, -1])
    expected = [0, 8, 5, 6, 0, 5, 8, 9, 5, 9, 5]
    assert merged_values(given, label, [(5, 6), 8], mark=1).tolist() == expected


def test_geometry_of_what_is_no_metatensor() -> None:
    assert geometry_of(torch.zeros(1, 2, 2)) is None


def test_changed_and_missing_originals_are_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    before = fingerprint([tmp_path])
    assert list(before) == [str(tmp_path / name) for name in ("a", "b", "c")]
    verify_originals(before)
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").unlink()
    with pytest.raises(OriginalChangedError, match=r"2 original.*/a has changed; .*/b is missing"):
        verify_originals(before)
    with pytest.raises(FileNotFoundError):
        fingerprint([tmp_path / "b"])
