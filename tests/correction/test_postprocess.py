from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_noisylabel.correction import clean_up, clean_up_label

Spans = tuple[tuple[int, int], ...]


def boxes(shape: tuple[int, ...], *spans: Spans) -> np.ndarray:
    """Mask that is True in each of the boxes [low, high) per axis."""
    mask = np.zeros(shape, dtype=bool)
    for span in spans:
        mask[tuple(slice(*along) for along in span)] = True
    return mask


def slow_clean_up(mask: np.ndarray, min_component: float, max_hole: float) -> np.ndarray:
    """The same rules component by component on the whole map, holes by reaching in from the border."""
    labelled, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    parts = [labelled == index for index in range(1, count + 1)]
    total, largest = mask.sum(), max((part.sum() for part in parts), default=0)
    kept = np.zeros_like(mask)
    for part in parts:
        if part.sum() >= min_component * total or part.sum() == largest:
            kept |= part
    holes, count = ndimage.label(ndimage.binary_fill_holes(kept) & ~kept)
    result = kept.copy()
    for index in range(1, count + 1):
        if (holes == index).sum() < max_hole * kept.sum():
            result |= holes == index
    return result


def test_component_of_exactly_a_tenth_stays_and_a_smaller_one_goes() -> None:
    # 18 + 2 = 20 voxels of foreground: a tenth is 2, so a part of 2 stays. With 19 + 2 = 21 a tenth is 2.1:
    # it goes.
    crumb = ((7, 8), (0, 2))
    stays = boxes((8, 8), ((0, 3), (0, 6)), crumb)
    assert np.array_equal(clean_up(stays), stays)
    goes = boxes((8, 8), ((0, 3), (0, 6)), ((3, 4), (0, 1)), crumb)
    cleaned = clean_up(goes)
    assert cleaned.sum() == 19
    assert not cleaned[7].any()


def test_hole_of_exactly_a_tenth_stays_and_a_smaller_one_is_filled() -> None:
    # A 3 x 7 block without 1 voxel has 20: a hole of 1 is below 2. Without 2 but with 1 more outside: 20
    # again, and a hole of 2 is not below 2.
    small = boxes((9, 9), ((1, 4), (1, 8)))
    small[2, 4] = False
    assert clean_up(small).sum() == 21
    exact = boxes((9, 9), ((1, 4), (1, 8)), ((4, 5), (1, 2)))
    exact[2, 4:6] = False
    assert exact.sum() == 20
    assert np.array_equal(clean_up(exact), exact)


def test_hole_is_compared_with_the_foreground_that_is_left() -> None:
    # 19 voxels around a hole of 2, and a crumb of 2: 21 in all, of which 19 are left; 2 is below 2.1 but not
    # below 1.9.
    mask = boxes((9, 9), ((1, 4), (1, 8)), ((7, 8), (0, 2)))
    mask[2, 4:6] = False
    cleaned = clean_up(mask)
    assert cleaned.sum() == 19
    assert not cleaned[2, 4:6].any()


def test_hole_left_by_a_dropped_component_is_filled_with_its_surroundings() -> None:
    # A ring around background of 9 with a crumb in its middle: once the crumb is gone the hole is 9 voxels
    # large.
    mask = boxes((16, 16), ((0, 15), (0, 15)))
    mask[6:9, 6:9] = False
    mask[7, 7] = True
    assert clean_up(mask).sum() == 225


def test_background_that_reaches_the_border_is_not_a_hole() -> None:
    mask = boxes((8, 8), ((0, 8), (0, 8)))
    mask[0, 3] = mask[4, 4] = False
    cleaned = clean_up(mask)
    assert not cleaned[0, 3]
    assert cleaned[4, 4]


def test_parts_touch_at_corners_and_background_leaks_only_through_faces() -> None:
    # A diamond of diagonal neighbours is one component, and it shuts its centre off.
    diamond = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    assert np.array_equal(clean_up(diamond, min_component=0.3, max_hole=0.1), diamond)
    assert clean_up(diamond, min_component=0.3, max_hole=0.3).sum() == 5


def test_a_mask_of_many_equal_parts_is_not_emptied() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[::3, ::3] = True  # sixteen single voxels, each 1/16 of the foreground
    assert np.array_equal(clean_up(mask), mask)
    mask[0, 1] = True  # one of them larger: it alone is left
    assert clean_up(mask).sum() == 2


def test_volume() -> None:
    mask = boxes((9, 8, 7), ((1, 6), (1, 6), (1, 6)), ((8, 9), (7, 8), (0, 2)))
    mask[3, 3, 3] = False
    cleaned = clean_up(mask)
    assert np.array_equal(cleaned, boxes((9, 8, 7), ((1, 6), (1, 6), (1, 6))))


def test_pit_in_every_slice_is_no_hole_of_the_volume() -> None:
    mask = boxes((7, 7, 3), ((1, 6), (1, 6), (0, 3)))
    mask[3, 3, :] = False
    assert np.array_equal(clean_up(mask), mask)


@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5)])
def test_empty_and_full_masks_stay(shape: tuple[int, ...]) -> None:
    for mask in (np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)):
        cleaned = clean_up(mask)
        assert np.array_equal(cleaned, mask)
        assert cleaned is not mask
        assert cleaned.dtype == np.bool_


@pytest.mark.parametrize("fractions", [(0.0, 0.0), (0.1, 0.1), (0.02, 0.01), (1.0, 1.0)])
@pytest.mark.parametrize("shape", [(40, 31), (14, 13, 12)])
def test_matches_the_slow_reference_on_random_blobs(shape: tuple[int, ...], fractions: tuple[float, float]) -> None:
    generator = np.random.default_rng(0)
    for _ in range(6):
        field = ndimage.gaussian_filter(generator.normal(size=shape), 1.0)
        mask = np.pad(field > np.quantile(field, 0.6), 2)
        before = mask.copy()
        cleaned = clean_up(mask, min_component=fractions[0], max_hole=fractions[1])
        assert np.array_equal(cleaned, slow_clean_up(mask, *fractions))
        assert np.array_equal(mask, before)


def test_multi_label_channels_are_cleaned_one_by_one() -> None:
    first = boxes((9, 9), ((1, 8), (1, 8)))
    second = first.copy()
    second[4, 4] = False
    label = np.stack([first, second]).astype(np.uint8)
    cleaned = clean_up_label(label, 2, multi_label=True)
    assert cleaned.dtype == np.uint8
    assert np.array_equal(cleaned, np.stack([first, first]).astype(np.uint8))


def test_multi_class_fills_only_background() -> None:
    # Class 1 around class 2 and one pinhole: the pinhole is filled, class 2 stays, though it is smaller than
    # the limit.
    label = np.zeros((1, 12, 12), dtype=np.uint8)
    label[0, 1:11, 1:11] = 1
    label[0, 3:5, 3:5] = 2
    label[0, 8, 8] = 0
    cleaned = clean_up_label(label, 3)
    label[0, 8, 8] = 1
    assert np.array_equal(cleaned, label)


def test_multi_class_crumb_is_dropped_and_then_filled_by_its_surroundings() -> None:
    label = np.zeros((1, 12, 24), dtype=np.uint8)
    label[0, 1:11, 1:11] = 1
    label[0, 1:11, 13:23] = 2
    label[0, 5, 5] = 2
    cleaned = clean_up_label(label, 3)
    assert cleaned[0, 5, 5] == 1
    label[0, 5, 5] = 1
    assert np.array_equal(cleaned, label)


def test_multi_class_hole_is_measured_after_crumbs_of_its_own_class_are_gone() -> None:
    label = np.zeros((1, 16, 16), dtype=np.uint8)
    label[0, :15, :15] = 2
    label[0, 6:9, 6:9] = 0
    label[0, 7, 7] = 2
    assert (clean_up_label(label, 3) == 2).sum() == 225


@pytest.mark.parametrize(("outer", "inner"), [(1, 2), (2, 1)])
def test_hole_within_nested_classes_goes_to_the_innermost(outer: int, inner: int) -> None:
    label = np.zeros((1, 20, 20), dtype=np.uint8)
    label[0, 1:19, 1:19] = outer
    label[0, 7:12, 7:12] = inner
    label[0, 9, 9] = 0
    assert clean_up_label(label, 3)[0, 9, 9] == inner


def test_absent_classes_and_volumes() -> None:
    label = np.zeros((1, 7, 7, 7), dtype=np.int64)
    label[0, 1:6, 1:6, 1:6] = 3
    label[0, 3, 3, 3] = 0
    cleaned = clean_up_label(label, 5)
    assert cleaned.dtype == np.uint8
    assert cleaned.sum() == 3 * 125
    assert not clean_up_label(np.zeros((1, 4, 4), dtype=np.uint8), 3).any()


@pytest.mark.parametrize("multi_label", [False, True])
def test_tensor_gives_the_same_as_array(multi_label: bool) -> None:
    label = (np.random.default_rng(0).random((1, 12, 12)) < 0.7).astype(np.uint8)
    expected = clean_up_label(label, 1 if multi_label else 2, multi_label, max_hole=0.02)
    found = clean_up_label(torch.from_numpy(label), 1 if multi_label else 2, multi_label, max_hole=0.02)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), expected)
    assert not np.array_equal(expected, label)


def test_errors() -> None:
    mask = np.ones((3, 3), dtype=bool)
    with pytest.raises(ValueError, match="mask must be a bool array, got uint8"):
        clean_up(mask.astype(np.uint8))
    with pytest.raises(ValueError, match=re.escape("min_component is a fraction of the foreground in [0, 1], got 10")):
        clean_up(mask, min_component=10)
    with pytest.raises(ValueError, match=re.escape("max_hole is a fraction of the foreground in [0, 1], got -0.1")):
        clean_up_label(np.zeros((1, 3, 3), dtype=np.uint8), 2, max_hole=-0.1)
    with pytest.raises(ValueError, match=re.escape("label must have 1 channel(s), got shape (2, 3, 3)")):
        clean_up_label(np.zeros((2, 3, 3), dtype=np.uint8), 2)
    with pytest.raises(ValueError, match=re.escape("label must hold values 0 to 1, found [0, 7]")):
        clean_up_label(np.array([[[0, 7]]]), 2)
