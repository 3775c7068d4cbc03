"""Generalized cross entropy: its limits and its truncated form."""

from __future__ import annotations

import math

import pytest
import torch

from monai_noisylabel.losses import CrossEntropyLoss, GeneralizedCrossEntropyLoss, MeanAbsoluteErrorLoss


def _pair(p: float) -> torch.Tensor:
    """Logits of one voxel whose class 1 has the probability p."""
    return torch.tensor([[[1 - p], [p]]], dtype=torch.float64).log().requires_grad_()


ONE = torch.ones(1, 1, 1, dtype=torch.int64)


def test_by_hand() -> None:
    # p = 1/4, q = 1/2: (1 - 1/2) / (1/2) = 1
    assert GeneralizedCrossEntropyLoss(q=0.5)(_pair(0.25), ONE).item() == pytest.approx(1)


def test_small_q_is_cross_entropy() -> None:
    logits, target = torch.randn(2, 3, 50), torch.randint(0, 3, (2, 1, 50))
    limit = GeneralizedCrossEntropyLoss(q=1e-6)(logits, target)
    assert limit.item() == pytest.approx(CrossEntropyLoss()(logits, target).item(), rel=1e-5)


def test_q_of_1_is_half_the_mean_absolute_error() -> None:
    logits, target = torch.randn(2, 3, 50), torch.randint(0, 3, (2, 1, 50))
    limit = GeneralizedCrossEntropyLoss(q=1)(logits, target)
    assert limit.item() == pytest.approx(MeanAbsoluteErrorLoss()(logits, target).item() / 2, rel=1e-6)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_gradient_is_that_of_cross_entropy_times_p_to_the_q(p: float) -> None:
    # d/dz_y -log p_y = p_y - 1
    (slope,) = torch.autograd.grad(GeneralizedCrossEntropyLoss(q=0.7)(logits := _pair(p), ONE), logits)
    assert slope[0, 1, 0].item() == pytest.approx((p - 1) * p**0.7)


@pytest.mark.parametrize(("p", "learned"), [(0.05, False), (0.49, False), (0.51, True), (0.95, True)])
def test_truncation(p: float, learned: bool) -> None:
    loss = GeneralizedCrossEntropyLoss(q=0.7, truncation=0.5)
    value = loss(logits := _pair(p), ONE)
    assert value.item() == pytest.approx((1 - max(p, 0.5) ** 0.7) / 0.7)
    (slope,) = torch.autograd.grad(value, logits)
    assert bool(slope.any()) is learned


def test_truncated_value_does_not_depend_on_whether_a_gradient_is_wanted() -> None:
    logits, target = torch.randn(2, 3, 50, requires_grad=True), torch.randint(0, 3, (2, 1, 50))
    loss = GeneralizedCrossEntropyLoss(truncation=0.4)
    assert torch.equal(loss(logits, target), loss(logits.detach(), target))


@pytest.mark.parametrize("q", [0.0, -0.5, 1.1, math.nan])
def test_exponents_outside_0_to_1_are_refused(q: float) -> None:
    with pytest.raises(ValueError, match="q must be above 0"):
        GeneralizedCrossEntropyLoss(q=q)


@pytest.mark.parametrize("k", [0.0, 1.0, -1.0])
def test_truncation_must_be_a_probability(k: float) -> None:
    with pytest.raises(ValueError, match="truncation must be a probability between 0 and 1"):
        GeneralizedCrossEntropyLoss(truncation=k)
