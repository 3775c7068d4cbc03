"""Weights of samples by hand, one loss for two networks, and the joint batch of several processes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from pick_fakes import (
    dice_and_cross_entropy,
    gradients_of_rank,
    refused_on_rank,
    small_network,
    step_on_share,
)
from torch import Tensor, nn
from two_processes import run_on_two

from monai_noisylabel.losses import CrossEntropyLoss, NoiseRobustDiceLoss, PickAndLearnLoss, require_joint_batch

SPACES = [(5, 7), (3, 4, 5)]


def batch(space: tuple[int, ...] = (5, 7), dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, scores, target of four samples of three classes."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, 3, *space, generator=generator, dtype=torch.float64)
    scores = torch.randn(4, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3, (4, 1, *space), generator=generator)
    return logits.to(dtype).requires_grad_(), scores.to(dtype).requires_grad_(), target


class TestEquation:
    def test_by_hand(self) -> None:
        """z = +-2 tanh(.5) = +-.9242; the first weighs w = 1 / (1 + e^-1.8485) = .8640, and L = 1 w + 3 (1 - w)."""
        scores, logits = torch.tensor([0.5, -0.5]), torch.tensor([[[1.0]], [[3.0]]])
        loss = PickAndLearnLoss(nn.L1Loss())
        w = 1 / (1 + math.exp(-4 * math.tanh(0.5)))
        assert loss((logits, scores), torch.zeros(2, 1, 1)).item() == pytest.approx(w + 3 * (1 - w), rel=1e-6)
        assert loss.weights.tolist() == pytest.approx([2 * w, 2 * (1 - w)], rel=1e-6)

    @pytest.mark.parametrize("space", SPACES, ids=str)
    @pytest.mark.parametrize("part", [dice_and_cross_entropy(), CrossEntropyLoss(), NoiseRobustDiceLoss()], ids=str)
    def test_softmax_of_the_bounded_scores_times_the_loss_of_each_sample(
        self, space: tuple[int, ...], part: nn.Module
    ) -> None:
        logits, scores, target = batch(space)
        loss = PickAndLearnLoss(part, bound=1.5)
        value = loss((logits, scores), target)
        w = torch.softmax(1.5 * torch.tanh(scores), 0)
        expected = sum(w[n] * part(logits[n : n + 1], target[n : n + 1]) for n in range(4))
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(loss.weights, 4 * w.detach())
        for ours, theirs in zip(
            torch.autograd.grad(value, (logits, scores)), torch.autograd.grad(expected, (logits, scores)), strict=True
        ):
            torch.testing.assert_close(ours, theirs)

    def test_scores_fall_where_the_loss_is_above_the_mean(self) -> None:
        """dL/dz_i = w_i (l_i - L), times dz/dq = lambda (1 - tanh^2 q)."""
        logits, scores, target = batch()
        loss = PickAndLearnLoss(CrossEntropyLoss())
        value = loss((logits, scores), target)
        slope = torch.autograd.grad(value, scores)[0]
        own = torch.stack([CrossEntropyLoss()(logits[n : n + 1], target[n : n + 1]) for n in range(4)])
        expected = loss.weights / 4 * (own - value) * 2 * (1 - scores.tanh() ** 2)
        torch.testing.assert_close(slope, expected.detach(), rtol=1e-10, atol=0)

    def test_bound_0_is_the_plain_mean(self) -> None:
        logits, scores, target = batch()
        value = PickAndLearnLoss(CrossEntropyLoss(), bound=0)((logits, scores), target)
        torch.testing.assert_close(value, CrossEntropyLoss()(logits, target))
        assert not torch.autograd.grad(value, scores)[0].any()

    @pytest.mark.parametrize("bound", [2.0, 20.0])
    def test_the_bound_limits_how_far_weights_lie_apart(self, bound: float) -> None:
        logits, target = torch.rand(2, 1, 3, requires_grad=True), torch.zeros(2, 1, 3)
        loss = PickAndLearnLoss(nn.L1Loss(), bound)
        loss((logits, torch.tensor([1e4, -1e4])), target).backward()
        high, low = loss.weights.double().tolist()
        assert math.log(high / low) == pytest.approx(2 * bound, rel=1e-5)
        assert logits.grad is not None
        assert (logits.grad > 0).all()


class TestWarmUp:
    def test_each_network_has_a_gradient_of_its_own(self) -> None:
        """Of the plain mean for the logits, of the weighted one for the scores; the value is the plain mean."""
        logits, scores, target = batch()
        loss = PickAndLearnLoss(CrossEntropyLoss(), warm_up=2)
        weighted = PickAndLearnLoss(CrossEntropyLoss())
        plain, judged = CrossEntropyLoss()(logits, target), weighted((logits, scores), target)
        expected = torch.autograd.grad(plain, logits)[0], torch.autograd.grad(judged, scores, retain_graph=True)[0]
        for epoch in (0, 1):
            loss.epoch = epoch
            value = loss((logits, scores), target)
            torch.testing.assert_close(value, plain)
            torch.testing.assert_close(torch.autograd.grad(value, (logits, scores)), expected)
            torch.testing.assert_close(loss.weights, weighted.weights)
        loss.epoch = 2
        value = loss((logits, scores), target)
        torch.testing.assert_close(value, judged)
        torch.testing.assert_close(torch.autograd.grad(value, logits), torch.autograd.grad(judged, logits))

    def test_weights_of_samples_count(self) -> None:
        logits, scores, target = batch()
        loss, weight = PickAndLearnLoss(CrossEntropyLoss(), warm_up=1), torch.tensor([0.0, 1, 0.5, 1]).double()
        value = loss((logits, scores), target, weight)
        torch.testing.assert_close(value, CrossEntropyLoss()(logits, target, weight))
        assert [bool(weight) for weight in loss.weights] == [False, True, True, True]


class TestWeights:
    def test_ones_equal_none(self) -> None:
        logits, scores, target = batch()
        loss = PickAndLearnLoss(CrossEntropyLoss())
        plain = loss((logits, scores), target)
        for ones in (torch.ones(4), torch.ones(4, 1, 5, 7)):
            torch.testing.assert_close(loss((logits, scores), target, ones), plain)

    def test_sample_of_weight_0_is_left_out(self) -> None:
        logits, scores, target = batch()
        for weight in (torch.tensor([0.0, 1, 1, 1]), torch.tensor([0.0, 1, 1, 1]).view(4, 1, 1, 1).expand(4, 1, 5, 7)):
            loss = PickAndLearnLoss(CrossEntropyLoss())
            value = loss((logits, scores), target, weight)
            torch.testing.assert_close(
                value, PickAndLearnLoss(CrossEntropyLoss())((logits[1:], scores[1:]), target[1:])
            )
            slopes = torch.autograd.grad(value, (logits, scores))
            assert not any(slope[0].any() for slope in slopes)
            assert all(slope[1:].any() for slope in slopes)

    def test_with_equal_scores_it_is_the_weighted_mean_over_voxels(self) -> None:
        logits, _, target = batch()
        weight = torch.rand(4, 1, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        value = PickAndLearnLoss(CrossEntropyLoss())((logits, torch.zeros(4, dtype=torch.float64)), target, weight)
        torch.testing.assert_close(value, CrossEntropyLoss()(logits, target, weight))

    def test_all_weights_0_give_0_and_no_gradient(self) -> None:
        logits, scores, target = batch()
        value = PickAndLearnLoss(CrossEntropyLoss())((logits, scores), target, torch.zeros(4))
        assert value.item() == 0
        assert not any(slope.any() for slope in torch.autograd.grad(value, (logits, scores)))


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("size", [200.0, -200.0])
    def test_extremes_in_half_precision(self, dtype: torch.dtype, size: float) -> None:
        logits = size * torch.eye(3)[torch.tensor([0, 1, 2, 0])].view(4, 3, 1, 1).expand(4, 3, 5, 7)
        logits, scores = logits.to(dtype).requires_grad_(), torch.tensor([200.0, -200, 0, 1]).to(dtype).requires_grad_()
        value = PickAndLearnLoss(dice_and_cross_entropy())((logits, scores), batch()[2])
        slopes = torch.autograd.grad(value, (logits, scores))
        assert value.isfinite()
        assert value.dtype == torch.float32
        assert all(slope.isfinite().all() for slope in slopes)

    def test_half_equals_single_precision_under_autocast(self) -> None:
        logits, scores, target = batch(dtype=torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = PickAndLearnLoss(dice_and_cross_entropy())((logits, scores), target)
        expected = PickAndLearnLoss(dice_and_cross_entropy())((logits.float(), scores.float()), target)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)

    def test_meta_tensors(self) -> None:
        logits, scores, target = batch()
        value = PickAndLearnLoss(CrossEntropyLoss())((MetaTensor(logits), MetaTensor(scores)), MetaTensor(target))
        assert type(value) is Tensor


class TestErrors:
    @pytest.mark.parametrize("training", [True, False])
    def test_a_batch_of_one(self, training: bool) -> None:
        logits, scores, target = batch()
        with pytest.raises(ValueError, match=r"batch of 1 has the weight 1 .*drop_last=True"):
            PickAndLearnLoss(CrossEntropyLoss()).train(training)((logits[:1], scores[:1]), target[:1])

    @pytest.mark.parametrize("bound", [-0.1, 20.1, math.nan])
    def test_bound(self, bound: float) -> None:
        with pytest.raises(ValueError, match=f"bound must be from 0 to 20, got {bound}"):
            PickAndLearnLoss(CrossEntropyLoss(), bound)

    def test_warm_up(self) -> None:
        with pytest.raises(ValueError, match="warm_up must be 0 epochs or more, got -1"):
            PickAndLearnLoss(CrossEntropyLoss(), warm_up=-1)

    def test_forms(self) -> None:
        logits, scores, target = batch()
        cases: list[tuple[Any, type[Exception], str]] = [
            (logits, TypeError, r"logits and scores, as QualityAwareNetwork .*; got \(4, 3, 5, 7\)"),
            ({"logits": logits}, TypeError, "got dict"),
            ((logits, scores[:3]), ValueError, r"belong scores of the form \(4,\), got \(3,\)"),
            ((logits, scores[:, None]), ValueError, r"belong scores of the form \(4,\), got \(4, 1\)"),
        ]
        for input, kind, message in cases:
            with pytest.raises(kind, match=message):
                PickAndLearnLoss(CrossEntropyLoss())(input, target)

    def test_a_loss_that_is_not_reduced(self) -> None:
        logits, scores, target = batch()
        with pytest.raises(ValueError, match=r"CrossEntropyLoss gives the form \(1, 1, 5, 7\) .* reduction='mean'"):
            PickAndLearnLoss(CrossEntropyLoss(reduction="none"))((logits, scores), target)

    def test_no_joint_batch(self) -> None:
        require_joint_batch(2, 2)
        with pytest.raises(ValueError, match="the training set has 1"):
            require_joint_batch(8, 1)
        with pytest.raises(ValueError, match="got batch_size 1: set a larger one"):
            require_joint_batch(1, 100)


def test_one_loss_trains_both_networks_to_doubt_wrong_labels() -> None:
    """A quarter of the labels are inverted: after some steps they weigh less than every right one."""
    torch.manual_seed(0)
    image = (torch.rand(16, 1, 8, 8) > 0.5).float()
    label = image.long()
    label[:4] = 1 - label[:4]
    network = small_network()
    loss = PickAndLearnLoss(CrossEntropyLoss())
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        logits, quality = network(image, label=label)
        loss((logits, quality), label).backward()
        optimizer.step()
    assert loss.weights[:4].max() < 0.2
    assert loss.weights[4:].min() > 1


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(("first", "warm_up"), [(3, 0), (4, 0), (4, 1)])
def test_two_processes_equal_the_joint_batch(first: int, warm_up: int) -> None:
    """Also with shares of 4 and 1: neither process alone has what the gradient needs."""
    loss = PickAndLearnLoss(dice_and_cross_entropy(), warm_up=warm_up)
    whole = step_on_share(small_network().double(), loss, slice(None))
    parts = run_on_two(gradients_of_rank, first, warm_up)
    assert [part["value"] for part in parts] == pytest.approx([whole["value"]] * 2, rel=1e-9)
    assert parts[0]["weights"] + parts[1]["weights"] == pytest.approx(whole["weights"], rel=1e-9)
    for part in parts:
        assert part["slopes"].keys() == whole["slopes"].keys()
        for name, slope in whole["slopes"].items():
            np.testing.assert_allclose(part["slopes"][name], slope, rtol=1e-7, atol=1e-12, err_msg=name)
    assert abs(whole["slopes"]["quality.score.weight"]).max() > 1e-4


@pytest.mark.slow
@pytest.mark.distributed
def test_one_sample_in_each_of_two_processes_is_a_batch_of_two() -> None:
    assert run_on_two(refused_on_rank, 1) == ["1.0, [1.0]"] * 2
