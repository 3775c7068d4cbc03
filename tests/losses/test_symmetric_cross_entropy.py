"""Symmetric and reverse cross entropy: sums, multiples, settings."""

from __future__ import annotations

import math

import pytest
import torch

from monai_noisylabel.losses import (
    CrossEntropyLoss,
    MeanAbsoluteErrorLoss,
    ReverseCrossEntropyLoss,
    SymmetricCrossEntropyLoss,
)

LOGITS, TARGET = torch.randn(2, 3, 50), torch.randint(0, 3, (2, 1, 50))


def test_by_hand() -> None:
    # p_y = 1/4: CE = log 4, RCE = 4 log 10 * 3/4 = 3 log 10
    logits = torch.tensor([[[0.75], [0.25]]]).log()
    value = SymmetricCrossEntropyLoss(alpha=2, beta=0.5)(logits, torch.ones(1, 1, 1))
    assert value.item() == pytest.approx(2 * math.log(4) + 1.5 * math.log(10), rel=1e-6)


def test_ends_are_the_two_losses() -> None:
    only_ce, only_rce = (SymmetricCrossEntropyLoss(a, b)(LOGITS, TARGET) for a, b in ((1, 0), (0, 1)))
    torch.testing.assert_close(only_ce, CrossEntropyLoss()(LOGITS, TARGET))
    torch.testing.assert_close(only_rce, ReverseCrossEntropyLoss()(LOGITS, TARGET))


def test_reverse_cross_entropy_is_a_multiple_of_the_mean_absolute_error() -> None:
    # clip e^-4: A = -4, so twice the mean absolute error
    reverse = ReverseCrossEntropyLoss(clip=math.exp(-4))(LOGITS, TARGET)
    torch.testing.assert_close(reverse, 2 * MeanAbsoluteErrorLoss()(LOGITS, TARGET))


@pytest.mark.parametrize(("alpha", "beta"), [(-0.1, 1.0), (1.0, -0.1)])
def test_negative_weights_are_refused(alpha: float, beta: float) -> None:
    with pytest.raises(ValueError, match=f"alpha and beta must not be negative, got {alpha} and {beta}"):
        SymmetricCrossEntropyLoss(alpha, beta)


@pytest.mark.parametrize("clip", [0.0, 1.0, -1e-4])
def test_clip_outside_0_to_1_is_refused(clip: float) -> None:
    for loss in (ReverseCrossEntropyLoss, SymmetricCrossEntropyLoss):
        with pytest.raises(ValueError, match="clip must be between 0 and 1"):
            loss(clip=clip)
