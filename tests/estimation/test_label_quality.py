"""The soft minimum of the label's probability: closed forms, limits, and no trace of the image's size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monai_noisylabel.estimation import softmin_quality


def disc(size: int) -> tuple[Tensor, Tensor]:
    """Probabilities that fall from 1 to 0 across a disc's boundary, and the label they belong to, of any resolution."""
    axis = (torch.arange(size) + 0.5) / size - 0.5
    depth = 0.3 - (axis[:, None] ** 2 + axis[None] ** 2).sqrt()
    inside = torch.sigmoid(60 * depth)
    return torch.stack([1 - inside, inside]), (depth > 0).long()


def certain(size: int) -> tuple[Tensor, Tensor]:
    label = disc(size)[1]
    return torch.nn.functional.one_hot(label, 2).movedim(-1, 0).float(), label


def test_perfect_labels_score_the_same_at_every_size() -> None:
    assert softmin_quality(*certain(64)) == pytest.approx(1, abs=1e-12)
    assert softmin_quality(*certain(256)) == pytest.approx(1, abs=1e-12)
    # a disc of 64^2 voxels is round to a voxel only
    assert softmin_quality(*disc(64)) == pytest.approx(softmin_quality(*disc(256)), abs=0.01)


def test_an_error_of_one_size_costs_the_same_at_every_size() -> None:
    scores = []
    for size in (64, 256):
        p, label = disc(size)
        label[: size // 8, : size // 8] = 1
        scores.append(softmin_quality(p, label))
    assert scores[0] == pytest.approx(scores[1], abs=0.002)
    assert scores[0] < softmin_quality(*disc(64)) - 0.3


def test_closed_form_and_limits() -> None:
    # weights e^0 and e^-1 for p = 0 and 0.1: 0.1 / (e + 1)
    p = torch.tensor([[0.0, 0.1], [1.0, 0.9]], dtype=torch.float64)
    label = torch.zeros(2, dtype=torch.int64)
    assert softmin_quality(p, label) == pytest.approx(0.1 / (math.e + 1))
    assert softmin_quality(p, label, 1e-3) == pytest.approx(0, abs=1e-12)
    assert softmin_quality(p, label, 1e6) == pytest.approx(0.05)
    assert math.isnan(softmin_quality(p[:, :0], label[:0]))


def test_a_temperature_that_is_not_positive() -> None:
    for temperature in (0, -1, math.nan):
        with pytest.raises(ValueError, match="temperature must be positive"):
            softmin_quality(*disc(8), temperature)
