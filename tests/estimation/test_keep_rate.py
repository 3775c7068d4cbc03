"""Rates from clean labels by counting, and from probabilities by confident counting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from monai_noisylabel.estimation import (
    calibrated_joint,
    confusion_counts,
    estimated_keep_rates,
    keep_rates,
    oracle_keep_rates,
)


def test_precision_of_a_dilated_disc() -> None:
    """A square of 16 voxels in 64, drawn as one of 36: 20 of the 36 are wrong, and none of the background's 28."""
    clean, noisy = torch.zeros(8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)
    clean[2:6, 2:6] = 1
    noisy[1:7, 1:7] = 1
    assert oracle_keep_rates([(noisy, clean)], 2).tolist() == [1.0, pytest.approx(16 / 36)]
    assert oracle_keep_rates([(clean, noisy)], 2).tolist() == [pytest.approx(28 / 48), 1.0]


@pytest.mark.parametrize("space", [(6, 7), (3, 4, 5)], ids=str)
def test_oracle_is_the_share_of_right_voxels_over_all_cases(space: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = [tuple(torch.randint(0, 3, (2, *space), generator=generator)) for _ in range(4)]
    noisy, clean = (torch.cat([pair[n].flatten() for pair in pairs]) for n in range(2))
    expected = [float((clean[noisy == c] == c).double().mean()) for c in range(3)]
    assert oracle_keep_rates(iter(pairs), 4).tolist() == pytest.approx([*expected, 1.0])  # class 3 is never given


def right_by_one_half(space: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    """Of class 1 half is right, of class 0 all; the network is sure of the truth."""
    true = torch.arange(2).view(-1, *[1] * len(space)).expand(2, *space)
    p = torch.stack([0.9 - 0.8 * true, 0.1 + 0.8 * true], 1)
    return [(p[0], torch.zeros(space)), (p[1], torch.ones(space)), (p[0], torch.ones(space))]


@pytest.mark.parametrize("space", [(6, 7), (3, 4, 5)], ids=str)
def test_estimate_of_a_network_that_is_right(space: tuple[int, ...]) -> None:
    # t_0 = 0.9, t_1 = (0.9 + 0.1) / 2: every voxel is confident
    assert estimated_keep_rates(right_by_one_half(space)).tolist() == [1.0, 0.5]


def test_absent_class_has_the_rate_1() -> None:
    p, label = right_by_one_half((4,))[0]
    assert estimated_keep_rates([(torch.cat([p, 0 * p[:1]]), label)]).tolist() == [1.0, 1.0, 1.0]


def test_calibration_does_not_change_the_rates() -> None:
    counts = torch.tensor([[7, 2, 1], [1, 5, 0], [0, 3, 9]])
    joint = calibrated_joint(counts, torch.tensor([1000, 10, 77]))
    torch.testing.assert_close(keep_rates(joint), keep_rates(counts))
    assert keep_rates(torch.stack([counts, counts.T])).shape == (2, 3)


def test_what_cannot_be_counted_is_refused() -> None:
    def once() -> Iterator[tuple[Tensor, Tensor]]:
        yield from right_by_one_half((4,))

    for read in (
        lambda: estimated_keep_rates(once()),
        lambda: estimated_keep_rates([]),
        lambda: oracle_keep_rates([], 2),
    ):
        with pytest.raises(ValueError, match="No case to count"):
            read()
    with pytest.raises(ValueError, match=r"given \(4,\) and clean label \(5,\) must have one form"):
        confusion_counts(torch.zeros(4), torch.zeros(5), 2)
    with pytest.raises(ValueError, match="the clean label must hold class indices from 0 to 1"):
        confusion_counts(torch.zeros(4), torch.full((4,), 2), 2)
    with pytest.raises(ValueError, match="the given label must hold class indices from 0 to 1"):
        confusion_counts(torch.full((4,), -1), torch.zeros(4), 2)
