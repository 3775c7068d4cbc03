"""Noise drawn anew at each use: MONAI's conventions for random transforms, and what is recorded of a draw."""

from __future__ import annotations

import json
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Compose, LazyTransform, RandFlipd, Randomizable, ScaleIntensityd

from monai_noisylabel.corruption import BoundaryNoise, MissingNoise, case_generator, shift_boundaries
from monai_noisylabel.data import unaugmented
from monai_noisylabel.transforms import RandLabelNoise, RandLabelNoised

NONE = {"model": "none", "parameters": {}}


def _label(*shape: int) -> torch.Tensor:
    label = torch.zeros(1, *shape, dtype=torch.uint8)
    label[(0, *(slice(size // 4, size // 2) for size in shape))] = 1
    label[(0, *(slice(size // 2, 3 * size // 4) for size in shape))] = 2
    return label


def _noise(model: object = "boundary", prob: float = 1.0, **more: object) -> RandLabelNoised:
    return RandLabelNoised("label", model, prob, **{"num_classes": 3, "record_key": "drawn", **more})


@pytest.mark.parametrize("shape", [(48, 40), (32, 28, 12)])
def test_does_what_it_says_it_drew(shape: tuple[int, ...]) -> None:
    label = _label(*shape)
    noise = RandLabelNoise("boundary", 1.0, num_classes=3).set_random_state(0)
    noisy = noise(label)
    shifts = [noise.drawn["parameters"][number]["shift"] for number in "12"]
    expected = shift_boundaries(np.stack([label[0].numpy() == value for value in (1, 2)]), shifts)
    for value in (1, 2):
        np.testing.assert_array_equal(noisy[0].numpy() == value, expected[value - 1])
    assert noise.drawn["model"] == "boundary"


def test_draws_differ_between_uses_and_repeat_for_equal_states() -> None:
    item = {"label": _label(48, 48)}
    noise = _noise().set_random_state(7)
    series = [noise(item)["drawn"] for _ in range(8)]
    assert len(set(series)) > 4
    noise.set_random_state(7)
    assert [noise(item)["drawn"] for _ in range(8)] == series
    assert [_noise().set_random_state(8)(item)["drawn"]] != series[:1]


def test_array_and_dictionary_version_make_equal_labels_of_equal_draws() -> None:
    label = _label(48, 48)
    noise = _noise().set_random_state(3)
    noisy = noise({"label": label})["label"]
    assert torch.equal(noise.noise(label, randomize=False), noisy)
    seed = noise.noise._seed
    masks = np.stack([label[0].numpy() == value for value in (1, 2)])
    expected, _ = BoundaryNoise().apply(masks, partial(case_generator, seed, ""), spacing=None, overlap=False)
    np.testing.assert_array_equal(noisy[0].numpy(), expected[0] + 2 * expected[1])


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_probability(prob: float) -> None:
    # 400 draws: standard deviation of the share at most 0.025; 4 of them. Exact at 0 and 1.
    noise = _noise("missing", prob).set_random_state(0)
    item = {"label": _label(8, 8)}
    drawn = [noise(item) for _ in range(400)]
    share = np.mean([not result["label"].any() for result in drawn])
    assert abs(share - prob) <= 4 * np.sqrt(prob * (1 - prob) / 400)
    assert share == np.mean([json.loads(result["drawn"])["model"] == "missing" for result in drawn])


def test_without_noise_the_label_is_passed_on_and_the_record_says_so() -> None:
    label = _label(16, 16)
    result = _noise(prob=0.0)({"label": label})
    assert result["label"] is label
    assert json.loads(result["drawn"]) == NONE
    array_version = RandLabelNoise("boundary", 0.0, num_classes=3)
    assert array_version(label) is label
    assert array_version.drawn == NONE


def test_the_given_label_and_the_image_stay_as_they_are() -> None:
    label, image = _label(32, 32), torch.rand(1, 32, 32)
    before = label.clone()
    item = {"label": label, "image": image, "case": "a"}
    result = _noise().set_random_state(0)(item)
    assert result["image"] is image
    assert torch.equal(label, before)
    assert not torch.equal(result["label"], label)
    assert set(item) == {"label", "image", "case"}
    assert set(result) == {"label", "image", "case", "drawn"}
    assert "drawn" not in _noise(record_key=None)(item)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_metatensor_and_dtype_are_kept(dtype: torch.dtype) -> None:
    label = MetaTensor(_label(32, 32, 8).to(dtype), meta={"filename_or_obj": "a.nii.gz"})
    label.applied_operations.append({"class": "Orientation"})
    noisy = _noise().set_random_state(0)({"label": label})["label"]
    assert isinstance(noisy, MetaTensor)
    assert noisy.dtype == dtype
    assert torch.equal(noisy.affine, label.affine)
    assert noisy.meta["filename_or_obj"] == "a.nii.gz"
    assert noisy.applied_operations == label.applied_operations


def test_arrays_stay_arrays() -> None:
    noisy = RandLabelNoise("missing", 1.0, num_classes=3)(_label(8, 8).numpy().astype(np.int16))
    assert isinstance(noisy, np.ndarray)
    assert noisy.dtype == np.int16


def test_unit_mm_takes_the_spacing_of_the_affine() -> None:
    affine = torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0]))
    noise = RandLabelNoise({"model": "boundary", "unit": "mm"}, 1.0, num_classes=3).set_random_state(0)
    noisy = noise(MetaTensor(_label(40, 44), affine=affine))
    shifts = [noise.drawn["parameters"][number]["shift"] for number in "12"]
    masks = np.stack([_label(40, 44)[0].numpy() == value for value in (1, 2)])
    expected = shift_boundaries(masks, shifts, (0.5, 2.0))
    np.testing.assert_array_equal(noisy[0].numpy() == 2, expected[1])
    with pytest.raises(ValueError, match="needs the spacing of the label"):
        noise(_label(40, 44))


def test_multi_label() -> None:
    label = torch.zeros(2, 48, 48, dtype=torch.uint8)
    label[0, 10:38, 10:38] = 1
    label[1, 14:26, 14:26] = 1
    noise = RandLabelNoise("boundary", 1.0, num_classes=2, multi_label=True).set_random_state(0)
    noisy = noise(label).numpy().astype(bool)
    shifts = [noise.drawn["parameters"][number]["shift"] for number in "12"]
    np.testing.assert_array_equal(noisy, shift_boundaries(label.numpy(), shifts, overlap=True))


def test_in_compose_with_other_random_transforms() -> None:
    def pipeline() -> Compose:
        steps = [ScaleIntensityd("image"), RandFlipd(["image", "label"], 0.5), _noise(prob=0.7)]
        return Compose(steps).set_random_state(5)

    item = {"image": torch.rand(1, 32, 32), "label": _label(32, 32)}
    first, second = pipeline(), pipeline()
    for _ in range(5):
        one, other = first(item), second(item)
        assert torch.equal(one["label"], other["label"])
        assert one["drawn"] == other["drawn"]
    assert isinstance(_noise(), Randomizable)
    assert not isinstance(_noise(), LazyTransform)


def test_cached_dataset_keeps_the_clean_label_and_draws_noise_afresh() -> None:
    items = [{"label": _label(40, 40), "image": torch.rand(1, 40, 40)} for _ in range(4)]
    dataset = CacheDataset(items, Compose([ScaleIntensityd("image"), _noise()]), progress=False, num_workers=0)
    dataset.transform.set_random_state(0)
    epochs = [[dataset[index]["drawn"] for index in range(4)] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert all(torch.equal(item["label"], _label(40, 40)) for item in unaugmented(dataset))


def test_records_of_different_draws_make_a_batch() -> None:
    model = {"model": "missing", "scope": "slice"}
    items = [{"label": _label(8, 8, depth)[..., :8]} for depth in (8, 12, 16)]
    dataset = CacheDataset(items, Compose([_noise(model, 0.6)]), progress=False, num_workers=0)
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch["label"].shape == (3, 1, 8, 8, 8)
    assert [json.loads(text)["model"] in ("none", "missing") for text in batch["drawn"]] == [True] * 3


def test_can_be_pickled_with_its_state() -> None:
    noise = _noise().set_random_state(1)
    item = {"label": _label(40, 40)}
    copy = pickle.loads(pickle.dumps(noise))
    assert [noise(item)["drawn"] for _ in range(3)] == [copy(item)["drawn"] for _ in range(3)]


def test_a_model_may_be_given_as_it_is() -> None:
    assert RandLabelNoise(MissingNoise("slice"), num_classes=2).model == MissingNoise("slice")


def test_missing_label_passes_only_where_allowed() -> None:
    item = {"image": torch.zeros(1, 8, 8)}
    assert _noise(allow_missing_keys=True)(item) == item
    with pytest.raises(KeyError, match="label"):
        _noise()(item)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "boundry"}, "model must be one of"),
        ({"model": {"model": "boundary", "sigma": 1}}, r"unknown fields \['sigma'\]"),
        ({"keys": ["label", "image"]}, r"corrupts one label, got the keys \['label', 'image'\]"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandLabelNoised(**{"keys": "label", "model": "boundary", "num_classes": 2, **arguments})


def test_a_label_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="holds the integers 0 to 1, got values from 0 to 2"):
        RandLabelNoise("boundary", 1.0, num_classes=2)(_label(16, 16))


def test_predicted_labels_are_not_drawn_anew() -> None:
    with pytest.raises(ValueError, match="are the same each time they are read; use SimulateLabelNoised"):
        RandLabelNoise({"model": "predicted", "labels": "anywhere"}, num_classes=2)
