"""The transform: same noise as the pure function, clean label kept, metadata kept, safe to cache."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Compose, Randomizable, RandomizableTrait

from monai_noisylabel.corruption import NoiseRecipe, corrupt
from monai_noisylabel.transforms.label_noise import SimulateLabelNoised, label_spacing

BOUNDARY: dict[str, object] = {"model": "boundary", "alpha": 1.0}


def _label(*shape: int) -> torch.Tensor:
    label = torch.zeros(1, *shape, dtype=torch.uint8)
    label[(0, *(slice(size // 4, size // 2) for size in shape))] = 1
    label[(0, *(slice(size // 2, 3 * size // 4) for size in shape))] = 2
    return label


def _meta_label(*shape: int, spacing: tuple[float, ...] = (0.8, 0.8, 5.0)) -> MetaTensor:
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    return MetaTensor(_label(*shape), affine=affine, meta={"filename_or_obj": "a.nii.gz"})


@pytest.mark.parametrize("shape", [(48, 40), (32, 28, 12)])
def test_equals_the_pure_function(shape: tuple[int, ...]) -> None:
    label = _label(*shape)
    data = SimulateLabelNoised("label", BOUNDARY, 3, num_classes=3)({"case": "p1", "label": label})
    expected, _ = corrupt(label.numpy(), "p1", BOUNDARY, 3, num_classes=3, multi_label=False)
    np.testing.assert_array_equal(data["label"].numpy(), expected)
    assert not torch.equal(data["label"], data["clean_label"])


@pytest.mark.parametrize("recipe", ["none", "missing", BOUNDARY])
def test_clean_label_is_the_object_that_came_in_and_does_not_change(recipe: str | dict[str, object]) -> None:
    label, image = _meta_label(32, 32, 8), torch.rand(1, 32, 32, 8)
    before = label.clone()
    given = {"case": "p1", "label": label, "image": image}
    data = SimulateLabelNoised(recipe=recipe, num_classes=3)(given)
    assert data["clean_label"] is label
    assert data["image"] is image
    assert set(given) == {"case", "label", "image"}
    assert data["label"].data_ptr() != label.data_ptr()
    data["label"].fill_(7)
    assert torch.equal(label, before)


def test_recipe_none_leaves_an_equal_label_and_writes_the_clean_one() -> None:
    label = _label(20, 20)
    data = SimulateLabelNoised(num_classes=3)({"case": "p1", "label": label})
    assert torch.equal(data["label"], label)
    assert torch.equal(data["clean_label"], label)
    assert set(data) == {"case", "label", "clean_label"}


@pytest.mark.parametrize("recipe", ["none", BOUNDARY])
def test_metatensor_and_dtype_are_kept(recipe: str | dict[str, object]) -> None:
    label = _meta_label(32, 32, 8)
    label.applied_operations.append({"class": "Orientation"})
    noisy = SimulateLabelNoised(recipe=recipe, num_classes=3)({"case": "p1", "label": label})["label"]
    assert isinstance(noisy, MetaTensor)
    assert noisy.dtype == torch.uint8
    assert torch.equal(noisy.affine, label.affine)
    assert noisy.meta["filename_or_obj"] == "a.nii.gz"
    assert noisy.applied_operations == [{"class": "Orientation"}]


def test_arrays_stay_arrays_and_keep_their_dtype() -> None:
    label = _label(32, 32).numpy().astype(np.int16)
    noisy = SimulateLabelNoised(recipe=BOUNDARY, num_classes=3)({"case": "p1", "label": label})["label"]
    assert isinstance(noisy, np.ndarray)
    assert noisy.dtype == np.int16


def test_multi_label() -> None:
    label = torch.zeros(2, 48, 48, dtype=torch.uint8)
    label[0, 10:38, 10:38] = 1
    label[1, 14:26, 14:26] = 1
    noise = SimulateLabelNoised("label", BOUNDARY, 0, num_classes=2, multi_label=True)
    expected, _ = corrupt(label.numpy(), "p1", BOUNDARY, 0, num_classes=2, multi_label=True)
    np.testing.assert_array_equal(noise({"case": "p1", "label": label})["label"].numpy(), expected)


@pytest.mark.parametrize(("shape", "spacing"), [((40, 40, 12), (0.8, 0.9, 5.0)), ((40, 44), (0.5, 2.0, 1.0))])
def test_unit_mm_takes_the_spacing_of_the_affine(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    label, recipe = _meta_label(*shape, spacing=spacing), {**BOUNDARY, "unit": "mm"}
    noisy = SimulateLabelNoised("label", recipe, 0, num_classes=3)({"case": "p1", "label": label})["label"]
    expected, _ = corrupt(
        np.asarray(label), "p1", recipe, 0, num_classes=3, multi_label=False, spacing=spacing[: len(shape)]
    )
    np.testing.assert_array_equal(noisy.numpy(), expected)


def test_unit_mm_without_an_affine_is_refused() -> None:
    noise = SimulateLabelNoised(recipe={**BOUNDARY, "unit": "mm"}, num_classes=3)
    with pytest.raises(ValueError, match="Case 'p1': a noise recipe in mm needs the spacing"):
        noise({"case": "p1", "label": _label(16, 16)})


def test_keys_can_be_named_and_left_out() -> None:
    noise = SimulateLabelNoised(
        "mask", "missing", num_classes=3, case_key="id", clean_key=None, record_key="noise_record"
    )
    data = noise({"id": "p1", "mask": _label(16, 16)})
    assert set(data) == {"id", "mask", "noise_record"}
    assert data["noise_record"]["case"] == "p1"
    assert json.loads(json.dumps(data["noise_record"])) == data["noise_record"]


def test_unit_mm_on_a_slice_of_a_tilted_volume_takes_the_full_length_of_its_voxels() -> None:
    # In-plane axes turned out of the plane by 60 degrees: voxels stay 0.8 and 2 mm long.
    cosine, sine = np.cos(np.pi / 3), np.sin(np.pi / 3)
    affine = torch.tensor([[0.8, 0, 0, 3], [0, 2 * cosine, -5 * sine, 4], [0, 2 * sine, 5 * cosine, 5], [0, 0, 0, 1]])
    label, recipe = MetaTensor(_label(64, 44), affine=affine), {**BOUNDARY, "unit": "mm"}
    noisy = SimulateLabelNoised("label", recipe, 0, num_classes=3)({"case": "p1", "label": label})["label"]
    form = {"num_classes": 3, "multi_label": False}
    expected, _ = corrupt(np.asarray(label), "p1", recipe, 0, spacing=(0.8, 2.0), **form)
    np.testing.assert_array_equal(noisy.numpy(), expected)
    shorter, _ = corrupt(np.asarray(label), "p1", recipe, 0, spacing=(0.8, 2 * cosine), **form)
    assert not np.array_equal(expected, shorter)


def test_spacing_is_that_of_the_label_axes() -> None:
    assert label_spacing(_meta_label(8, 8, 8)) == pytest.approx([0.8, 0.8, 5.0])
    assert label_spacing(MetaTensor(_label(8, 8), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0])))) == [2.0, 3.0]
    assert label_spacing(_label(8, 8)) is None


def test_recipe_by_patient_takes_the_patient_of_the_item() -> None:
    noise = SimulateLabelNoised(recipe={**BOUNDARY, "alpha": 0.5, "share_of": "patient"}, num_classes=3)
    for patient in ("p1", "p2", "p3"):
        items = [{"case": f"{patient}/{n:03d}", "patient": patient, "label": _label(40, 40)} for n in range(6)]
        changed = [not torch.equal(noise(item)["label"], item["label"]) for item in items]
        assert changed == [NoiseRecipe(alpha=0.5).is_noisy(patient, 0)] * 6
    with pytest.raises(ValueError, match=r"Case 'p1': .* needs the patient's name"):
        noise({"case": "p1", "label": _label(16, 16)})


def test_surfaces_are_measured_for_the_record_only() -> None:
    item = {"case": "p1", "label": _meta_label(32, 32, 8)}
    record = SimulateLabelNoised(recipe=BOUNDARY, num_classes=3, record_key="record")(item)["record"]
    expected = corrupt(
        np.asarray(item["label"]), "p1", BOUNDARY, 0, num_classes=3, multi_label=False, spacing=(0.8, 0.8, 5.0)
    )[1].as_dict()
    assert record["surface_distance"] == pytest.approx(expected["surface_distance"])
    assert record["taxonomy"] == expected["taxonomy"]


def test_is_deterministic_for_monai_and_equal_across_copies_and_orders() -> None:
    noise = SimulateLabelNoised("label", "mixed", 5, num_classes=3)
    assert not isinstance(noise, Randomizable | RandomizableTrait)
    items = [{"case": f"p{index}", "label": _label(40, 40)} for index in range(8)]
    first = [noise(item)["label"] for item in items]
    copy = pickle.loads(pickle.dumps(noise))
    second = [copy(item)["label"] for item in reversed(items)][::-1]
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_cached_labels_are_the_ones_made_afresh() -> None:
    noise = SimulateLabelNoised("label", BOUNDARY, 1, num_classes=3)
    items = [{"case": f"p{index}", "label": _label(32, 32)} for index in range(4)]
    dataset = CacheDataset(items, Compose([noise]), progress=False, num_workers=0)
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert batch["label"].dtype == torch.uint8
    for index, item in enumerate(items):
        assert torch.equal(batch["label"][index], noise(item)["label"])
        assert torch.equal(batch["clean_label"][index], item["label"])


def test_missing_label_passes_only_where_allowed() -> None:
    item = {"case": "p1", "image": torch.zeros(1, 8, 8)}
    assert SimulateLabelNoised(num_classes=3, allow_missing_keys=True)(item) == item
    with pytest.raises(KeyError, match="label"):
        SimulateLabelNoised(num_classes=3)(item)


def test_case_must_be_named() -> None:
    with pytest.raises(KeyError, match=r"no 'case', the name of the case .* it has \['label'\]"):
        SimulateLabelNoised(num_classes=3)({"label": _label(8, 8)})


def test_second_corruption_is_refused() -> None:
    noise = SimulateLabelNoised(recipe=BOUNDARY, num_classes=3)
    with pytest.raises(ValueError, match="Case 'p1' already holds 'clean_label'"):
        noise(noise({"case": "p1", "label": _label(32, 32)}))


def test_one_key_only() -> None:
    with pytest.raises(ValueError, match=r"corrupts one label, got the keys \['label', 'image'\]"):
        SimulateLabelNoised(["label", "image"], num_classes=3)


def test_wrong_recipe_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="model must be one of"):
        SimulateLabelNoised(recipe="boundry", num_classes=3)


# ---------------------------------------- labels of another model


def _predicted(folder: Path, label: torch.Tensor, name: str) -> torch.Tensor:
    """A prediction on the grid of _meta_label: its structures moved by two voxels."""
    moved = label.roll(2, 1)
    folder.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(moved[0].numpy(), np.diag([0.8, 0.8, 5.0, 1])), folder / name)
    return moved


def _recipe(folder: Path) -> dict[str, object]:
    return {"model": "predicted", "labels": str(folder), "alpha": 1.0}


@pytest.mark.parametrize("image", [None, "/data/t1.nii.gz", ["/data/t1.nii.gz", "/data/t2.nii.gz"], "tensor"])
def test_predicted_labels_are_found_by_image_or_case(tmp_path: Path, image: object) -> None:
    label = _meta_label(12, 10, 8)
    moved = _predicted(tmp_path, label, "p1_seg.nii.gz" if image is None else "t1_seg.nii.gz")
    if image == "tensor":
        image = MetaTensor(torch.zeros(1, 12, 10, 8), meta={"filename_or_obj": "/data/t1.nii.gz"})
    noise = SimulateLabelNoised(recipe=_recipe(tmp_path), num_classes=3, record_key="record")
    given = {"case": "p1", "label": label, **({} if image is None else {"image": image})}
    data = noise(given)
    assert torch.equal(data["label"].as_tensor(), moved)
    assert data["clean_label"] is label
    assert data["record"]["model"] == "predicted"
    again = pickle.loads(pickle.dumps(noise))(given)
    assert torch.equal(again["label"], data["label"])


def test_slices_take_their_part_of_the_predicted_volume(tmp_path: Path) -> None:
    label = _meta_label(12, 10, 8)
    moved = _predicted(tmp_path, label, "p_1_seg.nii.gz")
    noise = SimulateLabelNoised(recipe=_recipe(tmp_path), num_classes=3)
    meta = {**label.meta, "slice": 3, "volume_shape": [12, 10, 8]}
    data = noise({"case": "p_1/003", "label": MetaTensor(label[..., 3].as_tensor(), affine=label.affine, meta=meta)})
    assert torch.equal(data["label"].as_tensor(), moved[..., 3])


def test_a_missing_prediction_is_named_early_or_with_its_case(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is no folder of predicted labels"):
        SimulateLabelNoised(recipe=_recipe(tmp_path / "nowhere"), num_classes=3)
    noise = SimulateLabelNoised(recipe=_recipe(tmp_path), num_classes=3)
    with pytest.raises(
        FileNotFoundError, match=r"Case 'p1': .* must hold one predicted label named p1 or p1_seg; there"
    ):
        noise({"case": "p1", "label": _meta_label(12, 10, 8)})
