"""Forward and backward correction: identity, expectation over the noise, minimum, settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_noisylabel.losses import (
    BackwardCorrectedLoss,
    CrossEntropyLoss,
    ForwardCorrectedLoss,
    GeneralizedCrossEntropyLoss,
    NormalizedCrossEntropyLoss,
    SymmetricCrossEntropyLoss,
)
from monai_noisylabel.losses.voxelwise import VoxelwiseLoss

TRANSITION = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.0, 0.1, 0.9]], dtype=torch.float64)
LOGITS = torch.randn(2, 3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.randint(0, 3, (2, 1, 20), generator=torch.Generator().manual_seed(1))
PLAIN = pytest.mark.parametrize(
    "loss", [CrossEntropyLoss(), GeneralizedCrossEntropyLoss(), NormalizedCrossEntropyLoss()], ids=str
)
BOTH = pytest.mark.parametrize("corrected", [ForwardCorrectedLoss, BackwardCorrectedLoss])


@BOTH
@PLAIN
def test_without_noise_nothing_is_corrected(
    corrected: type[ForwardCorrectedLoss | BackwardCorrectedLoss], loss: VoxelwiseLoss
) -> None:
    torch.testing.assert_close(corrected(torch.eye(3), loss)(LOGITS, TARGET), loss(LOGITS, TARGET))


@PLAIN
def test_backward_correction_is_unbiased(loss: VoxelwiseLoss) -> None:
    # the expected corrected loss under a clean label i: row i of T as a soft noisy label
    noisy = TRANSITION[TARGET[:, 0]].movedim(-1, 1)
    torch.testing.assert_close(BackwardCorrectedLoss(TRANSITION, loss)(LOGITS, noisy), loss(LOGITS, TARGET))


@BOTH
@PLAIN
@pytest.mark.parametrize("sigmoid", [False, True])
def test_derivatives(
    corrected: type[ForwardCorrectedLoss | BackwardCorrectedLoss], loss: VoxelwiseLoss, sigmoid: bool
) -> None:
    # with a sum over the classes and without, by index and by share, one logit and several
    logits = LOGITS[..., :3].clone().requires_grad_()
    transition = TRANSITION if not sigmoid else torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    corrected_loss = corrected(transition, type(loss)(sigmoid=sigmoid))
    one_hot = torch.cat([c == TARGET for c in range(3)], 1)
    for label in (TARGET, one_hot, 0.8 * one_hot + 0.1):
        assert torch.autograd.gradcheck(lambda z, y=label: corrected_loss(z, y[..., :3]), logits)


@pytest.mark.parametrize(
    "loss", [CrossEntropyLoss(), SymmetricCrossEntropyLoss(), NormalizedCrossEntropyLoss()], ids=str
)
def test_labels_that_the_matrix_excludes_have_no_gradient(loss: VoxelwiseLoss) -> None:
    # no noisy label 0 ever comes from class 2, of which the network is certain
    logits = torch.tensor([-300.0, -300.0, 300.0]).view(1, 3, 1).requires_grad_()
    target = torch.zeros(1, 1, 1, dtype=torch.int64)
    for label in (target, torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1)):
        value = ForwardCorrectedLoss(TRANSITION, loss)(logits, label)
        assert value.isfinite()
        assert not torch.autograd.grad(value, logits)[0].any()


def test_forward_correction_has_its_minimum_at_the_clean_posterior() -> None:
    # clean posterior pi, noisy labels distributed as T' pi: the gradient of the expected loss vanishes at p = pi
    clean = LOGITS.softmax(1)
    noisy = torch.einsum("ij,biv->bjv", TRANSITION, clean)
    logits = LOGITS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(ForwardCorrectedLoss(TRANSITION)(logits, noisy), logits)
    assert slope.abs().max() < 1e-12


def test_independent_channels_have_two_classes() -> None:
    loss = ForwardCorrectedLoss([[0.9, 0.1], [0.3, 0.7]], CrossEntropyLoss(sigmoid=True, reduction="none"))
    # p = 1/2: P(noisy = 1) = 0.05 + 0.35 = 0.4, P(noisy = 0) = 0.6
    value = loss(torch.zeros(1, 2, 1), torch.tensor([[[1.0], [0.0]]]))
    torch.testing.assert_close(value, -torch.tensor([[[0.4], [0.6]]]).log())


def test_matrix_moves_with_the_loss_and_is_a_copy() -> None:
    given = TRANSITION.clone()
    loss = BackwardCorrectedLoss(given)
    given.fill_(0)
    assert torch.equal(loss.transition, TRANSITION)
    assert set(loss.state_dict()) == {"transition", "inverse"}


@BOTH
@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0.9, 0.1]], r"must be square, got the form \(1, 2\)"),
        ([[0.9, 0.2], [0.3, 0.7]], r"rows that sum to \[1.1, 1.0\]"),
        ([[1.2, -0.2], [0.3, 0.7]], "must hold the probabilities"),
    ],
)
def test_what_is_no_transition_matrix_is_refused(
    corrected: type[ForwardCorrectedLoss | BackwardCorrectedLoss], matrix: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        corrected(matrix)


@BOTH
def test_matrix_must_fit_the_input(corrected: type[ForwardCorrectedLoss | BackwardCorrectedLoss]) -> None:
    with pytest.raises(ValueError, match="matrix is for 2 classes, the input has 3"):
        corrected(torch.eye(2))(LOGITS, TARGET)


def test_singular_matrix_cannot_be_corrected_backward() -> None:
    with pytest.raises(ValueError, match="cannot be inverted"):
        BackwardCorrectedLoss([[0.5, 0.5], [0.5, 0.5]])
    ForwardCorrectedLoss([[0.5, 0.5], [0.5, 0.5]])


@BOTH
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), ForwardCorrectedLoss(torch.eye(2))], ids=str)
def test_only_equations_are_corrected(
    corrected: type[ForwardCorrectedLoss | BackwardCorrectedLoss], loss: VoxelwiseLoss
) -> None:
    with pytest.raises(TypeError, match=f"{type(loss).__name__} cannot be a part of another loss"):
        corrected(torch.eye(2), loss)
