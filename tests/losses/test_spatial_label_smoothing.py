"""A label smoothed at suspect voxels only: closed form, limits, and what every loss of the package promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_noisylabel.losses import (
    CrossEntropyLoss,
    ForwardCorrectedLoss,
    GeneralizedCrossEntropyLoss,
    SpatialLabelSmoothingLoss,
    SymmetricCrossEntropyLoss,
    smoothed_label,
)

SPACES = [(5, 7), (3, 4, 5)]
BASES = [CrossEntropyLoss, GeneralizedCrossEntropyLoss, SymmetricCrossEntropyLoss]


def batch(space: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, the given label, and the seeming one, which differs at a fifth of the voxels."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(2, 3, *space, generator=generator, dtype=torch.float64)
    given = torch.randint(0, 3, (2, 1, *space), generator=generator)
    suspect = torch.rand(2, 1, *space, generator=generator) < 0.2
    seeming = torch.where(suspect, (given + 1) % 3, given)
    return logits.to(dtype).requires_grad_(), given, seeming


def one_hot(label: Tensor) -> Tensor:
    return torch.cat([label == c for c in range(3)], 1).float()


def weights(space: tuple[int, ...]) -> Tensor:
    return torch.rand(2, 1, *space, generator=torch.Generator().manual_seed(4))


def gradient(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value, logits)[0]


def test_closed_form() -> None:
    # p = (0.7, 0.2, 0.1); y = 1; y' = 0 in the second voxel: 0.6 (-log 0.2) + 0.4 (-log 0.7)
    logits = torch.tensor([0.7, 0.2, 0.1]).log().view(1, 3, 1).expand(1, 3, 2)
    target = torch.tensor([[[1, 1], [1, 0]]])
    loss = SpatialLabelSmoothingLoss(CrossEntropyLoss(reduction="none"), epsilon=0.4)
    expected = [-math.log(0.2), -0.6 * math.log(0.2) - 0.4 * math.log(0.7)]
    torch.testing.assert_close(loss(logits, target).squeeze(), torch.tensor(expected))


@pytest.mark.parametrize("epsilon", [0, 0.1, 0.25, 0.7, 1])
def test_undoubted_voxels_keep_a_whole_label(epsilon: float) -> None:
    _, given, seeming = batch((5, 7))
    shares = smoothed_label(given, seeming, epsilon, 3)
    same = given == seeming
    assert torch.equal(shares.masked_select(same), one_hot(given).masked_select(same))
    torch.testing.assert_close(shares, (1 - epsilon) * one_hot(given) + epsilon * one_hot(seeming))


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
class TestMixture:
    @pytest.mark.parametrize("flags", [{}, {"reduction": "sum"}, {"reduction": "none"}, {"sigmoid": True}], ids=str)
    def test_is_the_mixture_of_both_losses(self, base: Any, space: tuple[int, ...], flags: dict[str, Any]) -> None:
        logits, given, seeming = batch(space)
        plain, weight = base(**flags), weights(space)
        value = SpatialLabelSmoothingLoss(plain)(logits, torch.cat([given, seeming], 1), weight)
        expected = 0.75 * plain(logits, given, weight) + 0.25 * plain(logits, seeming, weight)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient(value.sum(), logits), gradient(expected.sum(), logits))

    def test_limits(self, base: Any, space: tuple[int, ...]) -> None:
        logits, given, seeming = batch(space)
        target = torch.cat([given, seeming], 1)
        assert torch.equal(SpatialLabelSmoothingLoss(base(), 0)(logits, target), base()(logits, given))
        assert torch.equal(SpatialLabelSmoothingLoss(base(), 1)(logits, target), base()(logits, seeming))
        same = torch.cat([given, given], 1)
        torch.testing.assert_close(SpatialLabelSmoothingLoss(base())(logits, same), base()(logits, given))

    def test_indices_equal_one_hot(self, base: Any, space: tuple[int, ...]) -> None:
        logits, given, seeming = batch(space)
        for flags in ({}, {"include_background": False}, {"sigmoid": True}):
            loss = SpatialLabelSmoothingLoss(base(**flags))
            by_index = loss(logits, torch.cat([given, seeming], 1), weights(space))
            by_channel = loss(logits, torch.cat([one_hot(given), one_hot(seeming)], 1), weights(space))
            torch.testing.assert_close(by_index, by_channel)

    def test_weights(self, base: Any, space: tuple[int, ...]) -> None:
        logits, given, seeming = batch(space)
        loss, target = SpatialLabelSmoothingLoss(base()), torch.cat([given, seeming], 1)
        torch.testing.assert_close(loss(logits, target, torch.ones(2)), loss(logits, target))
        weight = torch.ones(2, 1, *space)
        weight[0, :, 1:] = 0
        slope = gradient(loss(logits, target, weight), logits)
        assert not slope[0, :, 1:].any()
        assert slope[0, :, 0].any()
        assert loss(logits, target, torch.zeros(2)).item() == 0

    def test_any_type_of_target_and_meta_tensors(self, base: Any, space: tuple[int, ...]) -> None:
        logits, given, seeming = batch(space)
        loss, target = SpatialLabelSmoothingLoss(base()), torch.cat([given, seeming], 1)
        for same in (target.float(), target.to(torch.uint8), MetaTensor(target.float())):
            assert torch.equal(loss(logits, same), loss(logits, target))
        assert type(loss(MetaTensor(logits.detach()), MetaTensor(target))) is Tensor


def test_one_channel() -> None:
    # two labels of a single structure: q = 1, 0.75 at the suspect voxel
    logits, target = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1, 1], [1, 0]]])
    value = SpatialLabelSmoothingLoss(CrossEntropyLoss(sigmoid=True, reduction="none"))(logits, target)
    soft = torch.tensor([[[1.0, 0.75]]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_extreme_logits_stay_finite(dtype: torch.dtype, sigmoid: bool) -> None:
    extremes = torch.tensor([-200.0, 0.0, 200.0], dtype=dtype)
    logits = torch.cartesian_prod(extremes, extremes, extremes).T.reshape(1, 3, 3, 9).requires_grad_()
    target = torch.tensor([0, 2]).view(1, 2, 1, 1).expand(1, 2, 3, 9)
    value = SpatialLabelSmoothingLoss(CrossEntropyLoss(sigmoid=sigmoid))(logits, target)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert gradient(value, logits).isfinite().all()


def test_derivatives() -> None:
    logits, given, seeming = batch((2, 2), torch.float64)
    loss, target = SpatialLabelSmoothingLoss(epsilon=0.1), torch.cat([given, seeming], 1)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)
    plain = CrossEntropyLoss()
    exact = 0.9 * plain(logits, given) + 0.1 * plain(logits, seeming)
    torch.testing.assert_close(loss(logits, target), exact, rtol=1e-14, atol=0)


def test_what_does_not_fit_is_refused() -> None:
    logits, given, seeming = batch((5, 7))
    for epsilon in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="epsilon must be between 0"):
            SpatialLabelSmoothingLoss(epsilon=epsilon)
    with pytest.raises(TypeError, match="MSELoss cannot be a part"):
        SpatialLabelSmoothingLoss(torch.nn.MSELoss())
    with pytest.raises(TypeError, match="ForwardCorrectedLoss cannot be a part"):
        SpatialLabelSmoothingLoss(ForwardCorrectedLoss([[0.9, 0.1], [0.1, 0.9]]))
    with pytest.raises(ValueError, match="Leave to_onehot_y of the loss unset"):
        SpatialLabelSmoothingLoss(CrossEntropyLoss(to_onehot_y=True))
    with pytest.raises(ValueError, match=r"one after the other .* got the form \(2, 3, 5, 7\)"):
        SpatialLabelSmoothingLoss()(logits, one_hot(given))
    for wrong in (-1, 3):
        for labels in ([given, seeming * 0 + wrong], [given * 0 + wrong, seeming]):
            with pytest.raises(ValueError, match=f"target holds {wrong}"):
                SpatialLabelSmoothingLoss()(logits, torch.cat(labels, 1))
