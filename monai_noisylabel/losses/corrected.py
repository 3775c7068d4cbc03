"""Loss correction with a known transition matrix, forward (of the prediction) and backward (of the loss)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .cross_entropy import CrossEntropyLoss
from .probabilities import ClassProbabilities, Probabilities, class_probabilities
from .voxelwise import VoxelwiseLoss, loss_of_label, require_equation

__all__ = ["BackwardCorrectedLoss", "ForwardCorrectedLoss"]


class _CorrectedLoss(VoxelwiseLoss):
    """A loss of this family with a transition matrix; flags and reduction are the loss's."""

    transition: Tensor

    def __init__(self, transition: Tensor | Sequence[Sequence[float]], loss: VoxelwiseLoss | None = None) -> None:
        loss = CrossEntropyLoss() if loss is None else require_equation(loss)
        super().__init__(**vars(loss.flags), reduction=loss.reduction)
        self.loss = loss
        self.register_buffer("transition", _transition_matrix(transition))

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """The loss that is corrected."""
        return self.loss.equation(label, total)

    def voxel_loss(self, logits: Tensor, label: Tensor, weight: Tensor | None, *, summed: bool) -> Tensor:
        """Weight times the corrected loss of every voxel, or the sum of that."""
        classes, channels = len(self.transition), logits.shape[1]
        if classes != max(channels, 2):
            raise ValueError(f"The transition matrix is for {classes} classes, the input has {max(channels, 2)}.")
        with torch.autocast(logits.device.type, enabled=False):
            losses = self._corrected_class_losses(class_probabilities(logits))
        return loss_of_label(losses, label, weight, summed=summed)

    def _corrected_class_losses(self, classes: ClassProbabilities) -> Tensor:
        """The corrected loss (B, C, V) under each of the labels."""
        raise NotImplementedError


class ForwardCorrectedLoss(_CorrectedLoss):
    r"""A loss of the probability of the NOISY label, which the transition matrix predicts from the clean one's.

    .. math:: L^{\rightarrow} = l(T^\top p, y), \qquad T_{ij} = P(\text{noisy} = j \mid \text{clean} = i)

    With the true matrix and cross entropy the minimum is that of training on clean labels. Not robust to noise that
    depends on the image (boundaries), which no single matrix describes. Use log-likelihood losses only; a bounded
    loss has another minimum.

    Args:
        transition: T, one row per clean class, rows summing to 1; 2 x 2 for independent channels.
        loss: the loss to correct, with its flags and reduction; cross entropy with softmax if None.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        TypeError: if the loss is not of this family, or corrected itself.
        ValueError: if the matrix is not square, has negative entries or rows that do not sum to 1, or is not for
            the input's number of classes.

    Example:
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> loss = ForwardCorrectedLoss([[0.9, 0.1], [0.3, 0.7]])
        >>> loss(logits[..., :1], torch.tensor([[[1]]])).item()  # -log(0.8 * 0.1 + 0.2 * 0.7)
        1.5141

    References:
        G. Patrini et al., Making deep neural networks robust to label noise: a loss correction approach, CVPR 2017.

    Deviation:
        A noisy label's probability below the smallest normal float32 (1e-38) counts as that and has no gradient.
    """

    def _corrected_class_losses(self, classes: ClassProbabilities) -> Tensor:
        noisy = torch.matmul(self.transition.to(classes.p.dtype).t(), classes.p)
        noisy = noisy.clamp(min=torch.finfo(noisy.dtype).tiny)
        return self.loss.class_losses(ClassProbabilities(classes.count, noisy.log, lambda: noisy))


class BackwardCorrectedLoss(_CorrectedLoss):
    r"""A loss whose expectation over the noise is the loss with the clean label.

    .. math:: L^{\leftarrow} = \sum_j (T^{-1})_{yj} \, l(p, j),
              \qquad T_{ij} = P(\text{noisy} = j \mid \text{clean} = i)

    Unbiased for every loss, at the price of a variance that grows as T nears singularity; single values may be
    negative. Not robust to noise that depends on the image. Prefer the forward correction where it applies.

    Args:
        transition: T, one row per clean class, rows summing to 1; 2 x 2 for independent channels.
        loss: the loss to correct, with its flags and reduction; cross entropy with softmax if None.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        TypeError: if the loss is not of this family, or corrected itself.
        ValueError: as :class:`ForwardCorrectedLoss`, or if the matrix cannot be inverted.

    Example:
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> loss = BackwardCorrectedLoss([[0.9, 0.1], [0.3, 0.7]])  # inverse: 7/6, -1/6; -1/2, 3/2
        >>> loss(logits[..., :1], torch.tensor([[[1]]])).item()  # (log 0.8 - 3 log 0.2) / 2
        2.3026

    References:
        G. Patrini et al., Making deep neural networks robust to label noise: a loss correction approach, CVPR 2017.
    """

    inverse: Tensor

    def __init__(self, transition: Tensor | Sequence[Sequence[float]], loss: VoxelwiseLoss | None = None) -> None:
        super().__init__(transition, loss)
        condition = float(torch.linalg.cond(self.transition))
        if not condition < 1e6:
            raise ValueError(
                f"The transition matrix cannot be inverted (condition number {condition:.1e}): two classes are "
                "mistaken for one another beyond recovery. Use ForwardCorrectedLoss."
            )
        self.register_buffer("inverse", torch.linalg.inv(self.transition))

    def _corrected_class_losses(self, classes: ClassProbabilities) -> Tensor:
        losses = self.loss.class_losses(classes)
        return torch.matmul(self.inverse.to(losses.dtype), losses)


def _transition_matrix(transition: Tensor | Sequence[Sequence[float]]) -> Tensor:
    matrix = torch.as_tensor(transition, dtype=torch.float64).detach().clone()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"The transition matrix must be square, got the form {tuple(matrix.shape)}.")
    row_sums = matrix.sum(1)
    if bool((matrix < 0).any()) or not torch.allclose(row_sums, torch.ones_like(row_sums), atol=1e-4):
        raise ValueError(
            "Each row of the transition matrix must hold the probabilities of the noisy classes given a clean one, "
            f"summing to 1; got rows that sum to {[round(value, 4) for value in row_sums.tolist()]}."
        )
    return matrix
