"""Active-passive losses: sums of two losses with one set of flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from monai_noisylabel import losses
from monai_noisylabel.losses.probabilities import class_probabilities
from monai_noisylabel.losses.voxelwise import VoxelwiseLoss

LOGITS, TARGET = torch.randn(2, 3, 50), torch.randint(0, 3, (2, 1, 50))
NAMED: dict[Callable[..., losses.ActivePassiveLoss], tuple[Callable[..., VoxelwiseLoss], ...]] = {
    losses.NCEandMAELoss: (losses.NormalizedCrossEntropyLoss, losses.MeanAbsoluteErrorLoss),
    losses.NCEandRCELoss: (losses.NormalizedCrossEntropyLoss, losses.ReverseCrossEntropyLoss),
    losses.NGCEandMAELoss: (losses.NormalizedGeneralizedCrossEntropyLoss, losses.MeanAbsoluteErrorLoss),
    losses.NGCEandRCELoss: (losses.NormalizedGeneralizedCrossEntropyLoss, losses.ReverseCrossEntropyLoss),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("flags", [{}, {"sigmoid": True}, {"include_background": False}], ids=str)
def test_named_sums(name: Callable[..., losses.ActivePassiveLoss], flags: dict[str, Any]) -> None:
    active, passive = (part(**flags)(LOGITS, TARGET) for part in NAMED[name])
    torch.testing.assert_close(name(alpha=3, beta=0.25, **flags)(LOGITS, TARGET), 3 * active + 0.25 * passive)


def test_settings_of_the_parts_are_passed_on() -> None:
    assert losses.NGCEandRCELoss(q=0.3).active.q == 0.3
    assert losses.NGCEandMAELoss(q=0.3).active.q == 0.3
    assert losses.NCEandRCELoss(clip=0.1).passive.scale == losses.ReverseCrossEntropyLoss(clip=0.1).scale
    assert losses.NGCEandRCELoss(clip=0.1).passive.scale == losses.ReverseCrossEntropyLoss(clip=0.1).scale


def test_robust_sums_are_constant_over_the_labels() -> None:
    # C = 3: NCE 1, MAE 4
    loss, classes = losses.NCEandMAELoss(alpha=2, beta=0.5), class_probabilities(LOGITS.double())
    summed = loss.equation(classes, loss.class_total(classes).value).sum(1)
    torch.testing.assert_close(summed, torch.full_like(summed, 2 * 1 + 0.5 * 4))


def test_an_active_loss_without_a_sum_over_classes() -> None:
    value = losses.ActivePassiveLoss(losses.CrossEntropyLoss(), losses.ReverseCrossEntropyLoss(), 0.1)(LOGITS, TARGET)
    torch.testing.assert_close(value, losses.SymmetricCrossEntropyLoss()(LOGITS, TARGET))


def test_flags_are_those_of_the_parts() -> None:
    parts = (
        losses.CrossEntropyLoss(sigmoid=True, reduction="sum"),
        losses.MeanAbsoluteErrorLoss(sigmoid=True, reduction="sum"),
    )
    loss = losses.ActivePassiveLoss(*parts)
    assert loss.flags == parts[0].flags
    assert loss.reduction == "sum"


@pytest.mark.parametrize("flags", [{"sigmoid": True}, {"reduction": "sum"}, {"include_background": False}], ids=str)
def test_parts_must_agree(flags: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Both losses must have the same flags"):
        losses.ActivePassiveLoss(losses.CrossEntropyLoss(), losses.MeanAbsoluteErrorLoss(**flags))


def test_passive_loss_may_not_be_normalised() -> None:
    with pytest.raises(ValueError, match="NormalizedCrossEntropyLoss is normalised: it can be the active loss"):
        losses.ActivePassiveLoss(losses.CrossEntropyLoss(), losses.NormalizedCrossEntropyLoss())


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must not be negative, got 1.0 and -1.0"):
        losses.NCEandMAELoss(beta=-1.0)


@pytest.mark.parametrize(
    "other", [nn.CrossEntropyLoss(), losses.BackwardCorrectedLoss(torch.eye(2)), losses.TLoss()], ids=str
)
def test_parts_must_be_given_by_an_equation(other: VoxelwiseLoss) -> None:
    with pytest.raises(TypeError, match=f"{type(other).__name__} cannot be a part of another loss"):
        losses.ActivePassiveLoss(losses.CrossEntropyLoss(), other)
