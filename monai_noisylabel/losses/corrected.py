"""Loss correction with a known transition matrix, forward (of the prediction) and backward (of the loss)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .cross_entropy import CrossEntropyLoss
from .falls import AtLabel, ClassTotal, Falls
from .probabilities import ClassProbabilities, ClassSums, Probabilities
from .voxelwise import VoxelwiseLoss, require_equation

__all__ = ["BackwardCorrectedLoss", "ForwardCorrectedLoss"]

SMALLEST = 1e-30
"""Noisy probabilities below it count as it: their reciprocals stay finite in float32."""


class _CorrectedLoss(VoxelwiseLoss):
    """A loss of this family with a transition matrix; flags and reduction are the loss's."""

    corrected = True
    transition: Tensor

    def __init__(self, transition: Tensor | Sequence[Sequence[float]], loss: VoxelwiseLoss | None = None) -> None:
        loss = CrossEntropyLoss() if loss is None else require_equation(loss)
        super().__init__(**vars(loss.flags), reduction=loss.reduction)
        self.loss = loss
        self.register_buffer("transition", _transition_matrix(transition))

    def classes(self, logits: Tensor) -> ClassProbabilities:
        """The probabilities of the clean classes, as many as the matrix has."""
        classes = super().classes(logits)
        if classes.count != len(self.transition):
            raise ValueError(
                f"The transition matrix is for {len(self.transition)} classes, the input has {classes.count}."
            )
        return classes

    def class_total(self, classes: ClassSums) -> ClassTotal:
        """That of the loss that is corrected."""
        return self.loss.class_total(classes)

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """The loss that is corrected."""
        return self.loss.equation(label, total)

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """Those of the loss that is corrected."""
        return self.loss.falls(label, total)


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
        A noisy label's probability below 1e-30 counts as that and has no gradient.
    """

    def classes(self, logits: Tensor) -> ClassProbabilities:
        """The probabilities of the noisy classes."""
        return _NoisyProbabilities(super().classes(logits), self.transition)


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

    def shares(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """The inverse's row of the label."""
        rows = self.inverse.to(dtype).t()
        return _columns(rows, label) if label.shape[1] == 1 else _product(rows, label)


class _NoisyProbabilities(ClassProbabilities):
    """Probabilities of the noisy classes, T^T p.

    Args:
        clean: p.
        transition: T.
    """

    def __init__(self, clean: ClassProbabilities, transition: Tensor) -> None:
        transition = transition.to(clean.p.dtype)
        noisy = _product(transition.t(), clean.p)
        super().__init__(clean.count, lambda: noisy.clamp(min=SMALLEST).log(), lambda: noisy.clamp(min=SMALLEST))
        self.clean, self.transition, self.noisy = clean, transition, noisy

    def of_label(self, label: Tensor) -> Probabilities:
        """Those of the noisy labels, class indices (B, 1, V)."""
        noisy = self.noisy.gather(1, label).clamp(min=SMALLEST)
        return Probabilities(noisy.log, noisy)

    def logit_gradient(self, falls: Falls, at_label: AtLabel, total: ClassTotal, out: Tensor | None) -> Tensor:
        """The gradient by the logits of the clean classes, by way of their probabilities p."""
        p, label = self.clean.p, at_label.label
        if label.shape[1] == 1 and falls.by_total is None:
            noisy = at_label.probabilities.p
            fall = _by_noisy(falls.by_log_p, noisy)
            slope = torch.addcmul(fall * noisy, _columns(self.transition, label), fall, value=-1)
            return torch.mul(slope, p, out=out)
        by_log_noisy = torch.zeros_like(p)
        if total.fall is not None and falls.by_total is not None:
            by_log_noisy.addcmul_(total.fall(self), falls.by_total)
        slope = _product(self.transition, _by_noisy(at_label.take_from(by_log_noisy), self.p)).mul_(p)
        return torch.addcmul(slope, p, slope.sum(1, keepdim=True), value=-1, out=out)


def _by_noisy(by_log: Tensor, noisy: Tensor) -> Tensor:
    """Derivatives by the noisy probabilities out of those by their logarithms; 0 where they count as the smallest."""
    counts = torch.gt(noisy, SMALLEST, out=torch.empty_like(noisy))
    return counts.mul_(by_log).div_(noisy)


def _columns(matrix: Tensor, label: Tensor) -> Tensor:
    """The matrix's column, (B, C, V), for every class index (B, 1, V)."""
    return matrix.index_select(1, label.flatten()).unflatten(1, (len(label), -1)).transpose(0, 1)


def _product(matrix: Tensor, classes: Tensor) -> Tensor:
    with torch.autocast(classes.device.type, enabled=False):
        return torch.matmul(matrix, classes)


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
