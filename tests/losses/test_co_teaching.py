"""Each network learns from the other one's choice."""

from __future__ import annotations

import torch

from monai_noisylabel.losses import CoTeachingLoss

# p of label 1 by two networks in four voxels; cross entropies rise as p falls
FIRST, SECOND = torch.tensor([0.9, 0.8, 0.1, 0.7]), torch.tensor([0.6, 0.2, 0.5, 0.8])


def logits() -> torch.Tensor:
    return torch.stack([1 - FIRST, FIRST, 1 - SECOND, SECOND]).log()[None].requires_grad_()


def test_the_choices_are_exchanged() -> None:
    # with R = 3/4 network 1 leaves out voxel 2, network 2 leaves out voxel 1
    input = logits()
    value = CoTeachingLoss(2, keep_rates=0.75, ramp_epochs=0)(input, torch.ones(1, 1, 4))
    first = -(FIRST[[0, 2, 3]].log().mean())  # without what network 2 doubts
    second = -(SECOND[[0, 1, 3]].log().mean())
    torch.testing.assert_close(value, first + second)
    slope = torch.autograd.grad(value, input)[0]
    assert (slope[0, :2].abs().sum(0) > 0).tolist() == [True, False, True, True]
    assert (slope[0, 2:].abs().sum(0) > 0).tolist() == [True, True, False, True]


def test_one_network_gets_no_gradient_from_the_others_loss() -> None:
    input = logits()
    loss = CoTeachingLoss(2, keep_rates=0.75, ramp_epochs=0)
    other = input.detach().clone()
    other[:, 2:] += torch.tensor([0.1, 0.0])[:, None]  # moves network 2, but not the order of its losses
    other.requires_grad_()
    slopes = [torch.autograd.grad(loss(z, torch.ones(1, 1, 4)), z)[0] for z in (input, other)]
    assert torch.equal(slopes[0][:, :2], slopes[1][:, :2])
    assert not torch.equal(slopes[0][:, 2:], slopes[1][:, 2:])
