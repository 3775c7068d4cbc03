"""The hybrid loss: its ramp by hand, its limits, its gradient."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from torch import Tensor, nn

from monai_noisylabel.losses import SelfCleansingLoss, pseudo_label_weight


class WeightedSquare(nn.Module):
    """Sum of w (z - y)^2 over the sum of w; w = 1 if there is none."""

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        weight = torch.ones_like(input) if weight is None else weight
        return (weight * (input - target) ** 2).sum() / weight.sum()


def _pair(given: float, pseudo: float) -> Tensor:
    return torch.cat([torch.full((2, 1, 2, 2), given), torch.full((2, 1, 2, 2), pseudo)], dim=1)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    # E1 = 50, E2 = 250: (e - 50) / 200, cut to [0, 1]; 51 -> 1 / 200, 100 -> 50 / 200, 249 -> 199 / 200
    [(0, 0.0), (50, 0.0), (51, 0.005), (100, 0.25), (249, 0.995), (250, 1.0), (400, 1.0)],
)
def test_ramp_of_the_paper(epoch: int, expected: float) -> None:
    assert pseudo_label_weight(epoch, 50, 250) == pytest.approx(expected, abs=1e-12)


def test_ramp_without_length_is_a_step_that_is_up_at_its_epoch() -> None:
    assert [pseudo_label_weight(epoch, 4, 4) for epoch in (3, 4, 5)] == [0.0, 1.0, 1.0]


def test_ramp_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ends \(epoch 3\) before it starts \(epoch 7\)"):
        pseudo_label_weight(1, 7, 3)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    # z = 3, y = 1, y' = 2: L(z, y) = 4, L(z, y') = 1. E = 20: E1 = 2, E2 = 10, weight (e - 2) / 8.
    # e = 4: 1/4, so 3/4 * 4 + 1/4 * 1 = 3.25; e = 8: 3/4, so 1/4 * 4 + 3/4 * 1 = 1.75
    [(0, 4.0), (2, 4.0), (4, 3.25), (8, 1.75), (10, 1.0), (19, 1.0)],
)
def test_hybrid_loss_by_hand(epoch: int, expected: float) -> None:
    loss = SelfCleansingLoss(WeightedSquare(), max_epochs=20)
    loss.epoch = epoch
    assert loss(torch.full((2, 1, 2, 2), 3.0), _pair(1.0, 2.0)).item() == pytest.approx(expected, rel=1e-6)


def test_weight_reaches_both_terms() -> None:
    # z = (3, 3), weight (1, 3), y = (1, 3): (1 * 4 + 3 * 0) / 4 = 1; y' = (3, 1): (1 * 0 + 3 * 4) / 4 = 3.
    # E = 10 at epoch 3: (3 - 1) / 4 = 1/2, so (1 + 3) / 2 = 2. Without the weight both terms are 2.
    loss = SelfCleansingLoss(WeightedSquare(), max_epochs=10)
    logits, weight = torch.full((1, 1, 1, 2), 3.0), torch.tensor([[[[1.0, 3.0]]]])
    target = torch.tensor([[[[1.0, 3.0]], [[3.0, 1.0]]]])
    values = []
    for loss.epoch in (0, 3, 9):
        values.append(loss(logits, target, weight).item())
    assert values == pytest.approx([1.0, 2.0, 3.0])


def test_weight_of_ones_equals_none() -> None:
    loss = SelfCleansingLoss(WeightedSquare(), max_epochs=10)
    loss.epoch = 3
    logits, target = torch.rand(2, 1, 2, 2), _pair(1.0, 0.0)
    assert torch.equal(loss(logits, target), loss(logits, target, torch.ones(2, 1, 2, 2)))


@pytest.mark.parametrize(("epoch", "ignored"), [(0, 1), (9, 0)])
def test_at_the_ends_of_the_ramp_the_other_label_is_not_looked_at(epoch: int, ignored: int) -> None:
    # NaN times a weight of zero is NaN: the term must be left out, not multiplied by zero
    loss = SelfCleansingLoss(WeightedSquare(), max_epochs=10)
    loss.epoch = epoch
    target = _pair(1.0, 1.0)
    target[:, ignored] = torch.nan
    assert loss(torch.full((2, 1, 2, 2), 3.0), target).item() == 4.0


def test_gradient_is_the_ramped_sum_of_both_gradients() -> None:
    # d/dz mean over 8 voxels of (z - y)^2 = 2 (z - y) / 8; z = 3: 4/8 for y = 1 and 2/8 for y' = 2; half
    # of each: 3/8
    loss = SelfCleansingLoss(WeightedSquare(), max_epochs=10)
    loss.epoch = 3
    logits = torch.full((2, 1, 2, 2), 3.0, requires_grad=True)
    loss(logits, _pair(1.0, 2.0)).backward()
    assert torch.allclose(logits.grad, torch.full((2, 1, 2, 2), 3 / 8))


@pytest.mark.parametrize("shape", [(6, 6), (4, 4, 4)])
def test_multi_class_dice_of_two_and_three_dimensions(shape: tuple[int, ...]) -> None:
    base = DiceLoss(softmax=True, to_onehot_y=True, include_background=False)
    loss = SelfCleansingLoss(base, max_epochs=10)
    loss.epoch = 3
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, *shape, generator=generator)
    given, pseudo = (torch.randint(0, 3, (2, 1, *shape), generator=generator).float() for _ in range(2))
    expected = (base(logits, given) + base(logits, pseudo)) / 2
    assert loss(logits, torch.cat([given, pseudo], 1)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_multi_label_channels_are_halved_in_order() -> None:
    # channels y1 y2 y'1 y'2 = 0 1 2 3, z = (0, 1): equal to the given label, 2 away from the pseudo-label
    # everywhere
    loss = SelfCleansingLoss(WeightedSquare(), max_epochs=10)
    target = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 3, 3)
    logits = torch.arange(2.0).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    values = []
    for loss.epoch in (0, 9):
        values.append(loss(logits, target).item())
    assert values == [0.0, 4.0]


def test_an_odd_number_of_channels_is_refused() -> None:
    loss = SelfCleansingLoss(nn.MSELoss(), max_epochs=10)
    with pytest.raises(ValueError, match=r"given label and the pseudo-label.*got 3 channels"):
        loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize(("start", "end"), [(-0.1, 0.5), (0.6, 0.5), (0.1, 1.1)])
def test_fractions_out_of_order_are_refused(start: float, end: float) -> None:
    with pytest.raises(ValueError, match=f"0 <= ramp_start <= ramp_end <= 1, got {start} and {end}"):
        SelfCleansingLoss(nn.MSELoss(), max_epochs=10, ramp_start=start, ramp_end=end)
