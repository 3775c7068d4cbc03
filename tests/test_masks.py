"""Masks of a label and back: both forms of label, both kinds of array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from monai_noisylabel.masks import from_masks, to_masks

KINDS = pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])
Make = Callable[..., Any]


@KINDS
def test_multi_class_masks_are_one_per_foreground_value(make: Make) -> None:
    # values 0 1 2 3 with 3 classes: masks of 1 and of 2; the value 3 is not a class and is in no mask
    masks = to_masks(make([[[0, 1], [2, 3]]]), num_classes=3)
    assert masks.tolist() == [[[False, True], [False, False]], [[False, False], [True, False]]]


@KINDS
def test_multi_label_masks_are_the_channels(make: Make) -> None:
    masks = to_masks(make([[[0, 1]], [[1, 1]]]))
    assert masks.tolist() == [[[False, True]], [[True, True]]]


@KINDS
def test_masks_of_a_volume_keep_its_axes(make: Make) -> None:
    label = make(np.arange(24).reshape(1, 2, 3, 4) % 3)
    masks = to_masks(label, num_classes=3)
    assert tuple(masks.shape) == (2, 2, 3, 4)
    assert int(masks[0].sum()) == int(masks[1].sum()) == 8  # 24 voxels, each third one a 1, each third one a 2


@KINDS
def test_of_overlapping_multi_class_masks_the_later_structure_wins(make: Make) -> None:
    masks = make([[[True, True, False, False]], [[False, True, True, False]]])
    label = from_masks(masks, multi_label=False)
    assert label.tolist() == [[[1, 2, 2, 0]]]
    assert str(label.dtype).endswith("uint8")


@KINDS
def test_multi_label_masks_may_overlap(make: Make) -> None:
    masks = make([[[True, True]], [[False, True]]])
    label = from_masks(masks, multi_label=True)
    assert label.tolist() == [[[1, 1]], [[0, 1]]]
    assert str(label.dtype).endswith("uint8")


@KINDS
@pytest.mark.parametrize("multi_label", [False, True])
def test_round_trip(make: Make, multi_label: bool) -> None:
    values = np.random.default_rng(0).integers(0, 2, (4, 5, 6)) if multi_label else np.arange(30).reshape(1, 5, 6) % 5
    label = make(values.astype(np.uint8))
    again = from_masks(to_masks(label, None if multi_label else 5), multi_label)
    assert again.tolist() == label.tolist()


@KINDS
def test_an_empty_label_has_empty_masks(make: Make) -> None:
    masks = to_masks(make(np.zeros((1, 3, 3), np.uint8)), num_classes=4)
    assert tuple(masks.shape) == (3, 3, 3)
    assert not masks.any()
    assert not from_masks(masks, multi_label=False).any()


@KINDS
def test_a_multi_class_label_of_several_channels_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match=r"one channel, got shape \(2, 1, 2\)"):
        to_masks(make([[[0, 1]], [[1, 1]]]), num_classes=3)
