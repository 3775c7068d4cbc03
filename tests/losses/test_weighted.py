"""The adapter that gives weights to other packages' voxel-wise losses."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss, FocalLoss, MaskedLoss
from torch import nn
from torch.nn import functional as F

from monai_noisylabel.losses import CrossEntropyLoss, WeightedLoss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 3, 4, 5, generator=GENERATOR)
TARGET = torch.randint(0, 3, (2, 1, 4, 5), generator=GENERATOR)
WEIGHT = torch.rand(2, 1, 4, 5, generator=GENERATOR)
OTHERS = {
    "FocalLoss": FocalLoss(use_softmax=True, to_onehot_y=True),
    "BCEWithLogitsLoss": nn.BCEWithLogitsLoss(),
    "CrossEntropyLoss": nn.CrossEntropyLoss(),
    "MSELoss": nn.MSELoss(),
}


def target_of(name: str) -> torch.Tensor:
    return TARGET if name in ("FocalLoss", "CrossEntropyLoss") else TARGET.expand(2, 3, 4, 5).float()


def plain(name: str) -> torch.Tensor:
    target = target_of(name)
    return OTHERS[name](LOGITS, target[:, 0] if name == "CrossEntropyLoss" else target)


@pytest.mark.parametrize("name", OTHERS)
def test_without_weights_it_is_the_loss(name: str) -> None:
    torch.testing.assert_close(WeightedLoss(OTHERS[name])(LOGITS, target_of(name)), plain(name))
    torch.testing.assert_close(WeightedLoss(OTHERS[name])(LOGITS, target_of(name), torch.ones(2)), plain(name))


@pytest.mark.parametrize("name", OTHERS)
def test_weights_choose_voxels(name: str) -> None:
    # weight 1 on the left half, 0 on the right: the loss of the left half
    weight = torch.zeros(2, 1, 4, 5)
    weight[..., :2] = 1
    left = WeightedLoss(OTHERS[name])(LOGITS[..., :2], target_of(name)[..., :2])
    torch.testing.assert_close(WeightedLoss(OTHERS[name])(LOGITS, target_of(name), weight), left)


def test_masking_is_not_weighting() -> None:
    # what the docstring says: a masked voxel's loss is log 2, not 0
    mask, logits, target = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[1.0, 1.0]]])
    kept = F.binary_cross_entropy_with_logits(logits[..., :1], target[..., :1])
    assert WeightedLoss(nn.BCEWithLogitsLoss())(logits, target, mask).item() == pytest.approx(kept.item())
    assert MaskedLoss(nn.BCEWithLogitsLoss())(logits, target, mask).item() > 3 * kept.item()


def test_torch_cross_entropy_equals_our_own() -> None:
    ours, theirs = CrossEntropyLoss(), WeightedLoss(nn.CrossEntropyLoss())
    torch.testing.assert_close(theirs(LOGITS, TARGET, WEIGHT), ours(LOGITS, TARGET, WEIGHT))


def test_reductions() -> None:
    none = WeightedLoss(nn.BCEWithLogitsLoss(reduction="none"))(LOGITS, target_of("MSELoss"), WEIGHT)
    assert none.shape == LOGITS.shape
    total = WeightedLoss(nn.BCEWithLogitsLoss(reduction="sum"))(LOGITS, target_of("MSELoss"), WEIGHT)
    torch.testing.assert_close(none.sum(), total)
    mean = WeightedLoss(nn.BCEWithLogitsLoss())(LOGITS, target_of("MSELoss"), WEIGHT)
    torch.testing.assert_close(mean, none.sum() / (3 * WEIGHT.sum()))
    assert WeightedLoss(nn.CrossEntropyLoss(reduction="none"))(LOGITS, TARGET).shape == (2, 1, 4, 5)


def test_weights_of_0_give_0() -> None:
    logits = LOGITS.clone().requires_grad_()
    value = WeightedLoss(nn.MSELoss())(logits, target_of("MSELoss"), torch.zeros(2))
    assert value.item() == 0
    assert not torch.autograd.grad(value, logits)[0].any()


def test_the_given_loss_is_not_changed() -> None:
    given = nn.MSELoss()
    WeightedLoss(given)
    assert given.reduction == "mean"


def test_losses_of_regions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"DiceLoss gives the form \(2, 3, 1, 1\).*not voxel-wise"):
        WeightedLoss(DiceLoss(softmax=True, to_onehot_y=True))(LOGITS, TARGET)


def test_losses_without_reduction_are_refused() -> None:
    with pytest.raises(TypeError, match="Identity has no reduction"):
        WeightedLoss(nn.Identity())  # type: ignore[arg-type]


def test_weight_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"form \(2,\) or \(2, 1, 4, 5\), got \(2, 3, 4, 5\)"):
        WeightedLoss(nn.MSELoss())(LOGITS, target_of("MSELoss"), torch.ones(2, 3, 4, 5))
