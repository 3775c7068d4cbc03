"""Noise-robust Dice: closed forms, its ends, empty foreground."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss

from monai_noisylabel.losses import NoiseRobustDiceLoss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 3, 6, 5, generator=GENERATOR)
TARGET = torch.randint(0, 3, (2, 1, 6, 5), generator=GENERATOR)


@pytest.mark.parametrize(
    ("gamma", "errors"),
    # p = 3/4, 1/4 and label 1, 0: errors 1/4 twice; p^2 sums to 5/8, g^2 to 1
    [(1.0, 1 / 2), (1.5, 1 / 4), (2.0, 1 / 8)],
)
def test_by_hand(gamma: float, errors: float) -> None:
    logits = torch.tensor([[[0.75, 0.25]]]).logit()
    value = NoiseRobustDiceLoss(gamma, epsilon=1e-9, sigmoid=True)(logits, torch.tensor([[[1, 0]]]))
    assert value.item() == pytest.approx(errors / (5 / 8 + 1), rel=1e-6)


def test_weight_enters_every_sum() -> None:
    # as above with weights 1, 1/2: errors 1/8 + 1/16; 9/16 + 1/32 + 1
    logits, weight = torch.tensor([[[0.75, 0.25]]]).logit(), torch.tensor([[[1.0, 0.5]]])
    value = NoiseRobustDiceLoss(1.5, epsilon=1e-9, sigmoid=True)(logits, torch.tensor([[[1, 0]]]), weight)
    assert value.item() == pytest.approx((3 / 16) / (51 / 32), rel=1e-6)


def test_samples_count_by_their_weights() -> None:
    each = NoiseRobustDiceLoss(reduction="none")(LOGITS, TARGET).mean((1, 2, 3))
    value = NoiseRobustDiceLoss()(LOGITS, TARGET, torch.tensor([0.25, 1.0]))
    assert value.item() == pytest.approx((0.25 * each[0] + each[1]).item() / 1.25, rel=1e-5)


def test_gamma_2_is_dice_loss_with_squares() -> None:
    # (p - g)^2 = p^2 + g^2 - 2 p g
    ours = NoiseRobustDiceLoss(gamma=2.0)(LOGITS, TARGET)
    squared = DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True, smooth_nr=0)(LOGITS, TARGET)
    torch.testing.assert_close(ours, squared, rtol=1e-5, atol=1e-5)


def test_background_can_be_left_out() -> None:
    each = NoiseRobustDiceLoss(reduction="none")(LOGITS, TARGET)
    without = NoiseRobustDiceLoss(reduction="none", include_background=False)(LOGITS, TARGET)
    assert without.shape == (2, 2, 1, 1)
    torch.testing.assert_close(without, each[:, 1:])


def test_empty_foreground() -> None:
    logits = torch.tensor([20.0, -20.0]).view(1, 2, 1).expand(1, 2, 9).clone().requires_grad_()
    value = NoiseRobustDiceLoss()(logits, torch.zeros(1, 1, 9))
    assert value.item() < 1e-3
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


def test_a_perfect_prediction_has_no_loss_and_no_gradient() -> None:
    target = torch.tensor([[[0, 1, 1]]])
    logits = torch.where(torch.cat([target == 0, target == 1], 1), 300.0, -300.0).requires_grad_()
    # and by autograd, which a weight with a gradient asks for: no root of 0 is differentiated
    for weight in (None, torch.ones(1, requires_grad=True)):
        value = NoiseRobustDiceLoss()(logits, target, weight)
        assert value.item() == 0
        assert not torch.autograd.grad(value, logits)[0].any()


@pytest.mark.parametrize("gamma", [0.9, 2.1])
def test_gamma_outside_1_to_2_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma must be from 1 .* got {gamma}"):
        NoiseRobustDiceLoss(gamma)


def test_epsilon_must_be_positive() -> None:
    with pytest.raises(ValueError, match="epsilon must be positive, got 0"):
        NoiseRobustDiceLoss(epsilon=0)
