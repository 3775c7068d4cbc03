"""Overlap counts and Dice by hand, and why counts rather than coefficients are added."""

from __future__ import annotations

import math

import pytest
import torch

from monai_noisylabel.metrics import dice, mean_dice, overlap


def test_counts_of_a_multi_class_label_by_hand() -> None:
    prediction = torch.tensor([[[0, 1, 1, 2], [2, 2, 0, 0]]])
    label = torch.tensor([[[1, 1, 1, 1], [2, 0, 0, 2]]])
    # class 1: 2 voxels in both, 2 predicted, 4 given; class 2: 1 in both (row 2, first), 3 predicted, 2 given
    counts = overlap(prediction, label, num_classes=3)
    assert counts.tolist() == [[2, 1], [2, 3], [4, 2]]
    assert counts.dtype == torch.float64
    # Dice 2 * 2 / (2 + 4) = 2/3 and 2 * 1 / (3 + 2) = 2/5; mean 8/15
    assert dice(counts).tolist() == pytest.approx([2 / 3, 2 / 5])
    assert mean_dice(counts) == pytest.approx(8 / 15)


def test_counts_of_a_multi_label_label_by_hand() -> None:
    prediction = torch.tensor([[[1, 1, 0]], [[1, 0, 0]]])
    label = torch.tensor([[[1, 0, 0]], [[0, 1, 1]]])
    assert overlap(prediction, label).tolist() == [[1, 0], [2, 1], [1, 2]]


def test_labels_of_any_number_type_compare() -> None:
    label = torch.tensor([[0, 1, 2]])
    for kind in (torch.uint8, torch.int64, torch.float32):
        assert overlap(label.to(kind), label, num_classes=3).tolist() == [[1, 1], [1, 1], [1, 1]]


def test_a_structure_in_neither_map_has_no_dice_and_does_not_enter_the_mean() -> None:
    label = torch.tensor([[0, 1, 1, 0]])
    counts = overlap(torch.tensor([[0, 1, 0, 0]]), label, num_classes=3)
    assert math.isnan(dice(counts)[1])
    assert mean_dice(counts) == pytest.approx(2 / 3)  # of class 1 alone: 2 * 1 / (1 + 2)


def test_a_structure_in_one_map_only_has_dice_zero() -> None:
    empty, full = torch.zeros(1, 4), torch.ones(1, 4)
    assert dice(overlap(empty, full, num_classes=2)).tolist() == [0.0]
    assert dice(overlap(full, empty, num_classes=2)).tolist() == [0.0]


def test_two_empty_maps_agree_fully() -> None:
    counts = overlap(torch.zeros(1, 4), torch.zeros(1, 4), num_classes=3)
    assert dice(counts).isnan().all()
    assert mean_dice(counts) == 1.0


def test_summed_counts_of_slices_are_the_counts_of_the_volume() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, label = (torch.randint(0, 3, (1, 5, 6, 7), generator=generator) for _ in range(2))
    slices = sum(overlap(prediction[..., i], label[..., i], 3) for i in range(7))
    assert torch.equal(slices, overlap(prediction, label, 3))


def test_large_counts_are_exact() -> None:
    # 2**24 + 1 voxels cannot be counted in float32; as a sum of slices they must not be lost either
    counts = overlap(torch.ones(1, 1), torch.ones(1, 1), num_classes=2) + 2.0**24
    assert counts[0].item() == 2**24 + 1


def test_labels_on_different_grids_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 4\) with a label of shape \(1, 5\): resample"):
        overlap(torch.zeros(1, 4), torch.zeros(1, 5), num_classes=2)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="resample"):
        overlap(torch.zeros(1, 4, 4), torch.zeros(2, 4, 4))
