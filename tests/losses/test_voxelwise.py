"""The common form: every member against loops, two classes against sigmoid, weights, background, own equations."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from reference import voxel_losses as reference
from torch import Tensor
from torch.nn import functional as F

from monai_noisylabel import losses
from monai_noisylabel.losses.falls import ClassTotal
from monai_noisylabel.losses.probabilities import ClassProbabilities, ClassSums, Probabilities
from monai_noisylabel.losses.voxelwise import VoxelwiseLoss, weighted_mean

TRANSITION = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.0, 0.1, 0.9]]
MEMBERS: dict[str, tuple[VoxelwiseLoss, reference.VoxelLoss]] = {
    "CE": (losses.CrossEntropyLoss(reduction="none"), reference.cross_entropy),
    "MAE": (losses.MeanAbsoluteErrorLoss(reduction="none"), reference.mean_absolute_error),
    "RCE": (losses.ReverseCrossEntropyLoss(reduction="none"), reference.reverse_cross_entropy),
    "SCE": (losses.SymmetricCrossEntropyLoss(reduction="none"), reference.symmetric_cross_entropy),
    "GCE": (losses.GeneralizedCrossEntropyLoss(reduction="none"), reference.generalized_cross_entropy),
    "GCE, truncated": (
        losses.GeneralizedCrossEntropyLoss(truncation=0.5, reduction="none"),
        reference.truncated,
    ),
    "NCE": (
        losses.NormalizedCrossEntropyLoss(reduction="none"),
        partial(reference.normalized, reference.cross_entropy),
    ),
    "NGCE": (
        losses.NormalizedGeneralizedCrossEntropyLoss(reduction="none"),
        partial(reference.normalized, reference.generalized_cross_entropy),
    ),
    "forward": (
        losses.ForwardCorrectedLoss(TRANSITION, losses.CrossEntropyLoss(reduction="none")),
        partial(reference.forward_corrected, TRANSITION),
    ),
    "backward": (
        losses.BackwardCorrectedLoss(TRANSITION, losses.CrossEntropyLoss(reduction="none")),
        partial(reference.backward_corrected, TRANSITION),
    ),
}


def of_log(log_p: Tensor) -> ClassProbabilities:
    return ClassProbabilities(log_p.shape[1], lambda: log_p, log_p.exp)


def class_losses(loss: VoxelwiseLoss, log_p: Tensor) -> Tensor:
    classes = of_log(log_p)
    return loss.equation(classes, loss.class_total(classes).value)


EQUATIONS = [name for name in MEMBERS if name not in ("forward", "backward")]


@pytest.mark.parametrize("space", [(4, 5), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("name", MEMBERS)
def test_every_voxel_equals_the_definition_in_plain_python(name: str, space: tuple[int, ...]) -> None:
    loss, definition = MEMBERS[name]
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(2, 3, *space, dtype=torch.float64, generator=generator)
    target = torch.randint(0, 3, (2, 1, *space), generator=generator)
    value = loss(logits, target)
    flat = zip(logits.flatten(2).movedim(1, 2).flatten(0, 1), target.flatten(), value.flatten(), strict=True)
    for voxel, label, found in flat:
        assert found.item() == pytest.approx(definition(reference.softmax(voxel.tolist()), int(label)), rel=1e-9)


@pytest.mark.parametrize("name", EQUATIONS)
def test_falls_are_those_of_the_equation(name: str) -> None:
    # autograd of the equation, which a subclass gets for free, against what the member writes down
    loss = MEMBERS[name][0]
    log_p = torch.randn(2, 3, 6, dtype=torch.float64).log_softmax(1)
    total, label = loss.class_total(of_log(log_p)).value, of_log(log_p[:, :1])
    given, free = loss.falls(label, total), VoxelwiseLoss.falls(loss, label, total)
    torch.testing.assert_close(given.value, free.value)
    torch.testing.assert_close(given.by_log_p, free.by_log_p)
    assert (given.by_total is None) == (free.by_total is None)
    if given.by_total is not None:
        torch.testing.assert_close(given.by_total, free.by_total)


@pytest.mark.parametrize("name", EQUATIONS)
def test_equation_gives_the_losses_with_each_label(name: str) -> None:
    loss = MEMBERS[name][0]
    logits = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(2))
    by_label = [loss(logits, torch.full((2, 1, 6), label)) for label in range(3)]
    torch.testing.assert_close(class_losses(loss, logits.log_softmax(1)), torch.cat(by_label, 1))


@pytest.mark.parametrize(
    ("name", "total"),
    # C = 3: MAE 2 (C - 1) = 4; RCE (C - 1) log 10^4 = 18.42; normalised losses 1
    [("MAE", 4.0), ("RCE", 8 * math.log(10)), ("NCE", 1.0), ("NGCE", 1.0)],
)
def test_symmetric_losses_sum_to_a_constant_over_the_labels(name: str, total: float) -> None:
    log_p = (4 * torch.randn(3, 3, 50, dtype=torch.float64)).log_softmax(1)
    summed = class_losses(MEMBERS[name][0], log_p).sum(1)
    torch.testing.assert_close(summed, torch.full_like(summed, total))


@pytest.mark.parametrize("name", ["CE", "GCE", "SCE"])
def test_the_others_do_not(name: str) -> None:
    log_p = (4 * torch.randn(3, 3, 50, dtype=torch.float64)).log_softmax(1)
    assert class_losses(MEMBERS[name][0], log_p).sum(1).std() > 0.1


@pytest.mark.parametrize("name", EQUATIONS)
def test_sigmoid_is_the_softmax_of_0_and_the_logit(name: str) -> None:
    one, _ = MEMBERS[name]
    logits = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 2, (2, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    expected = one(torch.cat([torch.zeros_like(logits), logits], 1), target)
    settings: dict[str, Any] = {"truncation": 0.5} if "truncated" in name else {}
    many = type(one)(reduction="none", sigmoid=True, **settings)
    torch.testing.assert_close(many(logits, target), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("name", EQUATIONS)
def test_two_classes_by_index_equal_two_classes_by_channel(name: str, scale: float, dtype: torch.dtype) -> None:
    # written-down gradient of the difference of two logits against autograd through softmax
    loss = MEMBERS[name][0]
    logits = (scale * torch.randn(3, 2, 40, generator=torch.Generator().manual_seed(0))).to(dtype).requires_grad_()
    target = torch.randint(0, 2, (3, 1, 40), generator=torch.Generator().manual_seed(1))
    weight = torch.rand(3, 1, 40, generator=torch.Generator().manual_seed(2))
    one_hot = torch.cat([target == 0, target == 1], 1)
    by_index, by_channel = loss(logits, target, weight), loss(logits, one_hot, weight)
    torch.testing.assert_close(by_index, by_channel, rtol=1e-5, atol=2e-6)
    upstream = torch.rand(by_index.shape, generator=torch.Generator().manual_seed(3)).to(by_index.dtype)
    slopes = [torch.autograd.grad(value, logits, upstream)[0] for value in (by_index, by_channel)]
    torch.testing.assert_close(*slopes, rtol=2e-2 if dtype == torch.bfloat16 else 1e-5, atol=2e-6)


def test_cross_entropy_is_that_of_torch_with_soft_labels_and_with_sigmoid() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    soft = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)).softmax(1)
    torch.testing.assert_close(losses.CrossEntropyLoss()(logits, soft), F.cross_entropy(logits, soft))
    expected = F.binary_cross_entropy_with_logits(logits, soft)
    torch.testing.assert_close(losses.CrossEntropyLoss(sigmoid=True)(logits, soft), expected)


def test_weighted_mean_by_hand() -> None:
    # p_y = 1/2, 1/4 (logits 0, log 3 against 0): CE log 2, log 4 = 2 log 2; weights 1, 1/2:
    # (log 2 + log 2) / 1.5 = 4/3 log 2
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]])
    target, weight = torch.tensor([[[1, 1]]]), torch.tensor([[[1.0, 0.5]]])
    loss = losses.CrossEntropyLoss()
    assert loss(logits, target, weight).item() == pytest.approx(4 / 3 * math.log(2))
    # each sample has the mean (1 + 2) / 2 log 2; sample weights 1/4 and 3/4 of losses 3/2 log 2 and (of the first
    # voxel twice) log 2: (3/8 + 3/4) log 2
    batch = torch.cat([logits, logits[..., :1].expand(1, 2, 2)])
    both = loss(batch, target.expand(2, 1, 2), torch.tensor([0.25, 0.75]))
    assert both.item() == pytest.approx(9 / 8 * math.log(2))


def test_without_background_only_voxels_labelled_as_foreground_count() -> None:
    # CE of the two voxels: log 2 (label 1), log 4 (label 0)
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]])
    target = torch.tensor([[[1, 0]]])
    assert losses.CrossEntropyLoss(include_background=False)(logits, target).item() == pytest.approx(math.log(2))
    assert losses.CrossEntropyLoss()(logits, target).item() == pytest.approx(1.5 * math.log(2))
    # and given weights still choose among them
    weight = torch.tensor([[[0.0, 1.0]]])
    assert losses.CrossEntropyLoss(include_background=False)(logits, target, weight).item() == 0
    # a soft label counts by its share of foreground: 1/2 log 2 + 1/2 (log 4 + log(4/3)) / 2, over 1
    soft = torch.full((1, 2, 2), 0.5)
    expected = (math.log(2) + math.log(4 * 4 / 3) / 2) / 2
    assert losses.CrossEntropyLoss(include_background=False)(logits, soft).item() == pytest.approx(expected)


def test_without_any_foreground_the_loss_is_0() -> None:
    logits = torch.randn(1, 2, 3, requires_grad=True)
    value = losses.CrossEntropyLoss(include_background=False)(logits, torch.zeros(1, 1, 3))
    assert value.item() == 0
    assert not torch.autograd.grad(value, logits)[0].any()


def test_a_loss_of_ones_own_needs_its_equation_only() -> None:
    class LogitMargin(VoxelwiseLoss):
        def equation(self, label: Probabilities, total: Tensor) -> Tensor:
            return label.log_p**2

    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3, (2, 1, 4))
    assert torch.autograd.gradcheck(lambda z: LogitMargin()(z, target), logits)
    expected = F.log_softmax(logits, 1).gather(1, target).square().mean()
    torch.testing.assert_close(LogitMargin()(logits, target), expected)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_normalised_loss_of_ones_own(classes: int) -> None:
    # (1 - p_y) / sum of (1 - p_c) = (1 - p_y) / (C - 1)
    class NormalizedAbsoluteError(VoxelwiseLoss):
        def class_total(self, classes: ClassSums) -> ClassTotal:
            value = classes.sum(lambda one: 1 - one.log_p.exp())
            return ClassTotal(value, lambda one: one.log_p.exp(), torch.ones_like(value))

        def equation(self, label: Probabilities, total: Tensor) -> Tensor:
            return (1 - label.p) / total

    logits = torch.randn(2, classes, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, classes, (2, 1, 4))
    assert torch.autograd.gradcheck(lambda z: NormalizedAbsoluteError()(z, target), logits)
    expected = losses.MeanAbsoluteErrorLoss()(logits, target) / (2 * (classes - 1))
    torch.testing.assert_close(NormalizedAbsoluteError()(logits, target), expected)


def test_the_base_has_no_equation() -> None:
    with pytest.raises(NotImplementedError):
        VoxelwiseLoss()(torch.randn(1, 2, 3), torch.zeros(1, 1, 3))


def test_settings_are_printed() -> None:
    text = repr(losses.CrossEntropyLoss(sigmoid=True, reduction="sum"))
    assert "sigmoid=True" in text
    assert "reduction=sum" in text


def test_weighted_mean_broadcasts_samples() -> None:
    value = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]])
    assert weighted_mean(value, torch.tensor([1.0, 0.0])[:, None, None]).item() == 2
    assert weighted_mean(value, torch.tensor([1.0, 3.0])[:, None, None]).item() == pytest.approx((2 + 18) / 4)
