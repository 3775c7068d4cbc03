"""Preprocessing of hand-made files: every value, axis and affine follows from the file by arithmetic."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from dataset_files import real_data
from monai.data import MetaTensor
from monai.transforms import Invertd

from monai_noisylabel.data.dataset_spec import DatasetSpec, load_dataset
from monai_noisylabel.data.manifest import Manifest
from monai_noisylabel.data.preprocess import preprocessing

Item = dict[str, Any]
Writer = Callable[..., Item]
KEEP = {"orientation": None, "window": [0, 100], "normalise": "window"}


def spec(
    preprocessing: dict[str, Any] | None = None,
    *,
    dims: int = 3,
    classes: dict[str, Any] | None = None,
    chosen: Sequence[str] | None = None,
    **changes: object,
) -> DatasetSpec:
    classes = classes or {"liver": 1, "tumour": 2}
    manifest = Manifest.model_validate(
        {
            "name": "handmade",
            "description": "-",
            "modality": "CT",
            "licence": "-",
            "citation": "-",
            "source": "-",
            "spatial_dims": dims,
            "task": "multi_class",
            "classes": classes,
            "layout": {"image": "images/{case}.nii.gz", "label": "labels/{case}.nii.gz"},
            "splits": {"val": {"fraction": 0.2}, "test": {"fraction": 0.2}},
            "preprocessing": preprocessing or KEEP,
            **changes,
        }
    )
    return DatasetSpec(manifest, Path(), tuple(chosen or classes), dims, [], [], [])


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writer of an image and its label as NIfTI; gives the item with their paths."""

    def write_pair(
        image: np.ndarray,
        label: np.ndarray | None = None,
        affine: np.ndarray | None = None,
        label_affine: np.ndarray | None = None,
        case: str = "a_01",
    ) -> Item:
        affine = np.eye(4) if affine is None else affine
        item = {}
        for key, array, grid in (("image", image, affine), ("label", label, label_affine)):
            if array is not None:
                path = tmp_path / f"{key}s" / f"{case}.nii.gz"
                path.parent.mkdir(exist_ok=True)
                nibabel.save(nibabel.Nifti1Image(array, affine if grid is None else grid), path)
                item[key] = str(path)
        return item

    return write_pair


def ramp(*shape: int) -> np.ndarray:
    """Every voxel has another value: 0, 1, 2, ..."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def column(*values: int) -> np.ndarray:
    return np.array(values, np.int16).reshape(-1, 1, 1)


@contextmanager
def raises(message: str) -> Iterator[None]:
    """Expect a ValueError, which MONAI's Compose passes on as the cause of its own RuntimeError."""
    with pytest.raises(RuntimeError, match="applying transform") as raised:
        yield
    cause: BaseException = raised.value
    while cause.__cause__ is not None and not isinstance(cause, ValueError):
        cause = cause.__cause__
    assert isinstance(cause, ValueError)
    assert re.search(message, str(cause)), str(cause)


def values_at(image: MetaTensor, world: np.ndarray) -> np.ndarray:
    """Values of the voxels that lie at world points (3, N)."""
    index = np.linalg.inv(image.affine.numpy()) @ np.vstack([world, np.ones(world.shape[1])])
    i, j, k = np.rint(index[:3]).astype(int)
    return image.numpy()[0][i, j, k]


# ---- intensities


def test_window_maps_linearly_and_clips(write: Writer) -> None:
    # (v - lo) / (hi - lo) with [-70, 180] HU: -70 -> 0, 55 -> 0.5, 180 -> 1, 5 -> 75 / 250 = 0.3
    item = write(column(-1000, -70, 55, 180, 3000, 5), column(0, 0, 1, 2, 0, 0))
    done = preprocessing(spec({**KEEP, "window": [-70, 180]}))(item)
    np.testing.assert_allclose(done["image"].numpy().ravel(), [0, 0, 0.5, 1, 1, 0.3], atol=1e-6)
    assert done["image"].dtype == torch.float32
    assert done["label"].dtype == torch.uint8
    assert isinstance(done["image"], MetaTensor)
    assert isinstance(done["label"], MetaTensor)


def test_zscore_leaves_out_zeros(write: Writer) -> None:
    # nonzero values 2, 4, 6: mean 4, standard deviation sqrt(8/3), (6 - 4) / sqrt(8/3) = 1.2247449
    item = write(column(0, 2, 4, 6, 0, 0))
    done = preprocessing(spec({"orientation": None, "normalise": "zscore"}), with_label=False)(item)
    np.testing.assert_allclose(done["image"].numpy().ravel(), [0, -1.2247449, 0, 1.2247449, 0, 0], atol=1e-6)


def test_window_clips_before_zscore(write: Writer) -> None:
    # clipped to [1, 3]: 1, 1, 3, 3: mean 2, standard deviation 1
    item = write(column(-50, 1, 3, 900))
    recipe = {"orientation": None, "normalise": "zscore", "window": [1, 3]}
    done = preprocessing(spec(recipe), with_label=False)(item)
    np.testing.assert_allclose(done["image"].numpy().ravel(), [-1, -1, 1, 1], atol=1e-6)


def test_percentile_maps_the_inner_99_percent_of_a_case(write: Writer) -> None:
    # of 0..1000 the percentiles 0.5 and 99.5 are 5 and 995: v becomes (v - 5) / 990, clipped
    done = preprocessing(spec({"orientation": None, "normalise": "percentile"}), with_label=False)(
        write(ramp(1001, 1, 1))
    )
    expected = np.clip((np.arange(1001) - 5) / 990, 0, 1)
    np.testing.assert_allclose(done["image"].numpy().ravel(), expected, atol=1e-5)


@pytest.mark.parametrize("normalise", ["zscore", "percentile"])
def test_a_constant_image_stays_finite(write: Writer, normalise: str) -> None:
    done = preprocessing(spec({"orientation": None, "normalise": normalise}), with_label=False)(
        write(np.full((4, 4, 4), 7, np.int16))
    )
    assert bool(torch.isfinite(done["image"]).all())


# ---- label values


def test_label_values_follow_the_manifest(write: Writer) -> None:
    item = write(ramp(6, 1, 1), column(0, 7, 255, 3, 4, 9))  # 9 is no class: background
    classes = {"a": 255, "b": 7, "c": [3, 4]}
    done = preprocessing(spec(classes=classes))(item)
    assert done["label"].shape == (1, 6, 1, 1)
    assert done["label"].flatten().tolist() == [0, 2, 1, 3, 3, 0]


def test_classes_that_are_not_chosen_become_background(write: Writer) -> None:
    item = write(ramp(6, 1, 1), column(0, 7, 255, 3, 4, 9))
    done = preprocessing(spec(classes={"a": 255, "b": 7, "c": [3, 4]}, chosen=("b", "c")))(item)
    assert done["label"].flatten().tolist() == [0, 1, 0, 2, 2, 0]


def test_multi_label_from_one_file_may_overlap(write: Writer) -> None:
    item = write(ramp(3, 1, 1), column(0, 128, 255))
    done = preprocessing(spec(classes={"disc": [128, 255], "cup": 255}, task="multi_label"))(item)
    assert done["label"].shape == (2, 3, 1, 1)
    assert done["label"].flatten(1).tolist() == [[0, 1, 1], [0, 0, 1]]


def test_multi_label_from_a_file_per_class(write: Writer) -> None:
    item = write(ramp(3, 1, 1), column(0, 255, 255), case="lung")
    heart = write(ramp(3, 1, 1), column(1, 0, 1), case="heart")["label"]
    layout = {
        "image": "images/{case}.nii.gz",
        "label": {"lung": "l/{case}.nii.gz", "heart": "h/{case}.nii.gz"},
    }
    made = spec(classes={"lung": None, "heart": None}, task="multi_label", layout=layout)
    done = preprocessing(made)({"image": item["image"], "label": [item["label"], heart]})
    assert done["label"].flatten(1).tolist() == [[0, 1, 1], [1, 0, 1]]


def test_number_of_label_files_must_be_that_of_the_classes(write: Writer) -> None:
    item = write(ramp(3, 1, 1), column(0, 1, 2))
    item["label"] = [item["label"]] * 3
    with raises(r"a_01.*3 label files for 2 classes"):
        preprocessing(spec(task="multi_label"))(item)


# ---- geometry


def test_orientation_turns_axes_and_keeps_places(write: Writer) -> None:
    # stored as P, I, L: axis 0 runs to the back, axis 1 down, axis 2 to the left
    affine = np.array([[0, 0, -2.0, 10], [-3.0, 0, 0, 20], [0, -4.0, 0, 30], [0, 0, 0, 1]])
    image = ramp(3, 4, 5)
    recipe = {**KEEP, "orientation": "RAS", "window": [0, 1000]}
    done = preprocessing(spec(recipe))(write(image, ramp(3, 4, 5) % 3, affine))
    assert done["image"].shape == (1, 5, 3, 4)
    np.testing.assert_allclose(np.diag(done["image"].affine), [2, 3, 4, 1])
    np.testing.assert_allclose(done["image"][0] * 1000, image.transpose(2, 0, 1)[::-1, ::-1, ::-1], atol=1e-3)
    np.testing.assert_array_equal(done["label"][0], (image % 3).transpose(2, 0, 1)[::-1, ::-1, ::-1])
    index = np.stack(np.unravel_index(np.arange(60), (3, 4, 5)))
    world = (affine @ np.vstack([index, np.ones(60)]))[:3]
    np.testing.assert_allclose(values_at(done["image"], world) * 1000, np.arange(60), atol=1e-3)
    np.testing.assert_array_equal(done["image"].affine, done["label"].affine)


def test_spacing_is_linear_for_the_image_and_nearest_for_the_label(write: Writer) -> None:
    # 4 voxels of 2 mm at 0, 2, 4, 6 mm hold 0, 20, 40, 60: at every mm the image is 10 per mm
    image = np.repeat(column(0, 20, 40, 60), 2, 1).repeat(2, 2)
    label = np.repeat(column(0, 2, 2, 0), 2, 1).repeat(2, 2)
    done = preprocessing(spec({**KEEP, "spacing": [1.0, -1, -1]}))(write(image, label, np.diag([2.0, 3.0, 3.0, 1])))
    np.testing.assert_allclose(np.diag(done["image"].affine), [1, 3, 3, 1])
    along = done["image"][0, :, 0, 0].numpy() * 100
    places = done["image"].affine.numpy()[0, 3] + np.arange(len(along))
    np.testing.assert_allclose(along, 10 * places, atol=1e-3)
    assert len(along) == 7
    assert set(done["label"].unique().tolist()) == {0, 2}
    inside = (places > 1.01) & (places < 4.99)
    assert (done["label"][0, :, 0, 0].numpy()[inside] == 2).all()


def test_a_2d_run_of_volumes_leaves_the_slices_where_they_are(write: Writer) -> None:
    recipe = {**KEEP, "spacing": [2.0, 2.0, 2.0], "crop": {"size": [3, 3, 1]}, "size": [8, 8, 1]}
    item = write(np.zeros((8, 8, 5), np.int16), np.ones((8, 8, 5), np.uint8), np.diag([1.0, 1.0, 5.0, 1]))
    done = preprocessing(spec(recipe, dims=2))(item)
    assert done["image"].shape == (1, 8, 8, 5)
    assert done["image"].affine[2, 2] == 5
    assert preprocessing(spec(recipe, dims=2))({**item, "slice": 4})["image"].shape == (1, 8, 8)


def test_crop_around_the_label(write: Writer) -> None:
    image, label = ramp(9, 9, 4), np.zeros((9, 9, 4), np.uint8)
    label[5, 2, 1], label[5, 4, 2] = 1, 2  # centre of mass (5, 3, 1.5)
    recipe = {**KEEP, "window": [0, 1000], "crop": {"size": [3, 3], "centre": "label"}}
    done = preprocessing(spec(recipe))(write(image, label))
    assert done["image"].shape == (1, 3, 3, 4)
    np.testing.assert_allclose(done["image"][0] * 1000, image[4:7, 2:5], atol=1e-3)
    np.testing.assert_array_equal(done["label"][0], label[4:7, 2:5])
    np.testing.assert_array_equal(done["image"].affine[:3, 3], [4, 2, 0])


def test_crop_around_the_label_stays_in_the_image(write: Writer) -> None:
    image, label = ramp(9, 9, 2), np.zeros((9, 9, 2), np.uint8)
    label[0, 8, 0] = 1
    recipe = {**KEEP, "window": [0, 1000], "crop": {"size": [4, 4], "centre": "label"}}
    done = preprocessing(spec(recipe))(write(image, label))
    np.testing.assert_array_equal(done["label"][0], label[:4, 5:])


@pytest.mark.parametrize("with_label", [True, False])
def test_crop_around_the_middle_without_label(write: Writer, with_label: bool) -> None:
    # an empty label, and no label: the middle 3 of 9 voxels are 3, 4, 5
    recipe = {**KEEP, "window": [0, 1000], "crop": {"size": [3, 3], "centre": "label"}}
    item = write(ramp(9, 9, 2), np.zeros((9, 9, 2), np.uint8))
    done = preprocessing(spec(recipe), with_label=with_label)(item)
    np.testing.assert_allclose(done["image"][0] * 1000, ramp(9, 9, 2)[3:6, 3:6], atol=1e-3)


@pytest.mark.parametrize("centre", ["label", "image"])
def test_crop_larger_than_the_image_pads_with_the_low_end(write: Writer, centre: str) -> None:
    recipe = {**KEEP, "crop": {"size": [6, 2, 2], "centre": centre}}
    done = preprocessing(spec(recipe))(write(np.full((4, 2, 2), 100, np.int16), np.ones((4, 2, 2), np.uint8)))
    assert done["image"][0, :, 0, 0].tolist() == [0, 1, 1, 1, 1, 0]
    assert done["label"][0, :, 0, 0].tolist() == [0, 1, 1, 1, 1, 0]
    assert done["image"].affine[0, 3] == -1


def test_resize_shrinks_by_area(write: Writer) -> None:
    # blocks of four: 100 / 4 = 25, (40 + 40 + 0 + 0) / 4 = 20; the new voxels lie at 1.5 and 5.5 mm, and the
    # label voxels next to them are 1 and 2, 5 and 6
    item = write(column(0, 0, 0, 100, 40, 40, 0, 0), column(0, 1, 1, 0, 0, 2, 2, 0))
    done = preprocessing(spec({**KEEP, "size": [2, 1, 1]}))(item)
    np.testing.assert_allclose(done["image"].flatten(), [0.25, 0.2], atol=1e-6)
    assert done["label"].flatten().tolist() == [1, 2]
    np.testing.assert_allclose(done["image"].affine[0], [4, 0, 0, 1.5])
    np.testing.assert_allclose(done["label"].affine[0], [4, 0, 0, 1.5])


def test_resize_grows_linearly(write: Writer) -> None:
    # 2 voxels to 4: centres at -0.25, 0.25, 0.75, 1.25 of the old grid: 0, 25, 75, 100 (edges continued)
    done = preprocessing(spec({**KEEP, "size": [4, 1, 1]}))(write(column(0, 100), column(1, 2)))
    np.testing.assert_allclose(done["image"].flatten(), [0, 0.25, 0.75, 1], atol=1e-6)
    assert done["label"].flatten().tolist() == [1, 1, 2, 2]


def test_pad_and_crop_to_the_final_size(write: Writer) -> None:
    item = write(np.full((2, 6, 3), 50, np.int16), np.ones((2, 6, 3), np.uint8))
    done = preprocessing(spec({**KEEP, "size": [4, 4, 3], "fit": "pad"}))(item)
    assert done["image"].shape == done["label"].shape == (1, 4, 4, 3)
    assert done["image"][0, :, 0, 0].tolist() == [0, 0.5, 0.5, 0]
    np.testing.assert_array_equal(done["label"].affine[:3, 3], [-1, 1, 0])


def test_a_label_in_another_orientation_is_turned_to_its_image(write: Writer) -> None:
    label = ramp(4, 3, 2) % 3
    turned = np.diag([-1.0, 1, 1, 1])
    turned[0, 3] = 3
    done = preprocessing(spec())(write(ramp(4, 3, 2), label[::-1], np.eye(4), turned))
    np.testing.assert_array_equal(done["label"][0], label)
    np.testing.assert_array_equal(done["label"].affine, np.eye(4))


def test_label_on_another_grid_is_an_error(write: Writer) -> None:
    with raises(r"labels.a_01.*shapes \(4, 4, 3\), \(4, 4, 4\); resample"):
        preprocessing(spec())(write(ramp(4, 4, 4), ramp(4, 4, 3) % 2))
    apart = np.eye(4)
    apart[1, 3] = 2
    with raises(r"labels.a_01.*up to 2 mm apart"):
        preprocessing(spec())(write(ramp(4, 4, 4), ramp(4, 4, 4) % 2, label_affine=apart))
    rounded = np.eye(4) + 1e-4
    rounded[3] = [0, 0, 0, 1]
    done = preprocessing(spec())(write(ramp(4, 4, 4), ramp(4, 4, 4) % 2, label_affine=rounded))
    np.testing.assert_array_equal(done["label"].affine, np.eye(4))


# ---- items


def test_metadata_name_the_file_and_its_grid(write: Writer) -> None:
    affine = np.diag([-2.0, 1, 1, 1])
    item = write(ramp(8, 2, 2), ramp(8, 2, 2) % 2, affine)
    done = preprocessing(spec({**KEEP, "orientation": "RAS", "size": [4, 2, 2]}))(item)
    for key in ("image", "label"):
        assert done[key].meta["filename_or_obj"] == item[key]
        np.testing.assert_array_equal(done[key].meta["original_affine"], affine)
        np.testing.assert_array_equal(done[key].meta["spatial_shape"], [8, 2, 2])
    assert "pixdim" not in done["image"].meta


def test_case_id_comes_from_the_image_path(write: Writer) -> None:
    item = write(ramp(4, 4, 4), ramp(4, 4, 4) % 2, case="liver_007")
    assert preprocessing(spec())(item)["case"] == "liver_007"
    assert preprocessing(spec())({**item, "case": "mine"})["case"] == "mine"
    assert preprocessing(spec(dims=2))({**item, "slice": 2})["case"] == "liver_007/002"
    several = spec(channels=2, layout={"image": ["images/{case}.nii.gz"] * 2, "label": "labels/{case}.nii.gz"})
    done = preprocessing(several)({"image": [item["image"]] * 2, "label": item["label"], "patient": "p"})
    assert done["case"] == "liver_007"
    assert done["patient"] == "p"
    assert done["image"].shape == (2, 4, 4, 4)


def test_without_label(write: Writer) -> None:
    item = write(ramp(4, 4, 4))
    done = preprocessing(spec(), with_label=False)(item)
    assert set(done) == {"image", "case"}
    with raises(r"a_01.*has no label"):
        preprocessing(spec())(item)
    missing = preprocessing(spec(), with_label=False)({**item, "label": "gone.nii.gz"})
    assert missing["label"] == "gone.nii.gz", "a label is not opened"


def test_bad_items(write: Writer) -> None:
    with raises("A file name or a list of them is needed, got int"):
        preprocessing(spec(), with_label=False)({"image": 5, "case": "a"})
    with raises(r"a_01.nii.gz: is two-dimensional; a 3D training needs volumes"):
        preprocessing(spec(), with_label=False)(write(ramp(4, 4)))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("fit", ["resize", "pad"])
def test_inference_can_be_inverted_to_the_grid_of_the_file(write: Writer, dims: int, fit: str) -> None:
    """A prediction made of the preprocessed image itself comes back on the grid of the file."""
    affine = np.diag([-2.0, -2.0, 5.0, 1])
    smooth = np.add.outer(np.add.outer(np.arange(12), 2 * np.arange(10)), 3 * np.arange(4)).astype(np.int16)
    recipe = {
        **KEEP,
        "orientation": "RAS",
        "spacing": [1.0, 1.0, -1],
        "size": [32, 32, 6][: dims + 1],
        "fit": fit,
    }
    recipe["size"] = [32, 32, 4]
    transform = preprocessing(spec(recipe, dims=dims), with_label=False)
    done = transform(write(smooth, None, affine))
    assert done["image"].shape == (1, 32, 32, 4)
    done["pred"] = MetaTensor(done["image"].clone().as_tensor())
    back = Invertd("pred", transform, orig_keys="image", nearest_interp=False)(done)["pred"]
    assert back.shape == (1, 12, 10, 4)
    np.testing.assert_allclose(back.affine, affine)
    inner = (0, slice(2, -2), slice(2, -2), slice(None))
    np.testing.assert_allclose(back[inner] * 100, smooth[inner[1:]], atol=1.0)


# ---- real data


def checked(item: Item, shape: tuple[int, ...], channels: int = 1) -> None:
    assert item["image"].shape == (1, *shape)
    assert item["label"].shape == (channels, *shape)
    assert bool(torch.isfinite(item["image"]).all())
    assert item["label"].any()


@pytest.mark.realdata
def test_jsrt() -> None:
    folder = real_data("jsrt")
    data = load_dataset("jsrt", folder, size=(128, 128))
    done = preprocessing(data)(data.test[0])
    checked(done, (128, 128), channels=3)
    assert bool((done["label"][2] * done["label"][0]).any()), "clavicles overlap the lungs"
    assert 0.1 < float(done["label"][0].float().mean()) < 0.5


@pytest.mark.realdata
def test_acdc() -> None:
    data = load_dataset("acdc", real_data("acdc"))
    items = [item for item in data.train if item["volume"] == data.train[0]["volume"]]
    done = [preprocessing(data)(item) for item in items[:2]]
    for item in done:
        checked(item, (128, 128))
        assert 0 <= float(item["image"].min()) < float(item["image"].max()) <= 1
    assert not torch.equal(done[0]["image"], done[1]["image"])
    heart = torch.nonzero(done[0]["label"][0].as_tensor()).double().mean(0)
    assert bool(((heart - 64).abs() < 20).all()), "the crop lies around the heart"


@pytest.mark.realdata
def test_hippocampus() -> None:
    data = load_dataset("hippocampus", real_data("hippocampus"))
    done = preprocessing(data)(data.test[0])
    checked(done, (40, 56, 40))
    assert done["label"].unique().tolist() == [0, 1, 2]
    inside = done["image"][done["image"] != 0]
    assert abs(float(inside.mean())) < 0.1
    assert abs(float(inside.std()) - 1) < 0.1


@pytest.mark.realdata
def test_ct_spleen() -> None:
    folder = real_data("ct_spleen")
    recipe = {"orientation": "RAS", "spacing": [3.0, 3.0, 5.0], "window": [-150, 250], "normalise": "window"}
    done = preprocessing(spec(recipe, classes={"spleen": None}))(
        {"image": str(folder / "image.nii.gz"), "label": str(folder / "label.nii.gz")}
    )
    original = nibabel.load(folder / "label.nii.gz")
    volume = float((np.asarray(original.dataobj) > 0).sum()) * abs(np.linalg.det(original.affine))
    assert float(done["label"].sum()) * 45 == pytest.approx(volume, rel=0.03)
    spleen = done["image"][done["label"] == 1].mean() * 400 - 150
    assert 40 < float(spleen) < 180, "HU of a spleen"


@pytest.mark.realdata
def test_ct_dicom_series_with_its_segmentation() -> None:
    """A DICOM SEG of one structure that covers every slice is read like a volume."""
    folder = real_data("ct_dicom_seg")
    recipe = {"orientation": "RAS", "window": [-70, 180], "normalise": "window", "size": [128, 128, 3]}
    item = {"image": str(folder / "series"), "label": str(folder / "liver_seg.dcm")}
    for dims in (2, 3):
        done = preprocessing(spec(recipe, dims=dims, classes={"liver": None}))(item)
        checked(done, (128, 128, 3))
        liver = float(done["image"][done["label"] == 1].median()) * 250 - 70
        assert 30 < liver < 130, "HU of a liver"
        assert done["case"] == "series"
