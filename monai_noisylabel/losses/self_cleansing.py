"""The hybrid loss of deep self-cleansing: from the given labels to the cleansed ones over the course of training."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

__all__ = ["SelfCleansingLoss", "pseudo_label_weight"]


def pseudo_label_weight(epoch: float, ramp_start: float, ramp_end: float) -> float:
    r"""Weight of the pseudo-labels, eq. 8: 0 up to ``ramp_start``, 1 from ``ramp_end``, linear in between.

    .. math:: \lambda_2(e) = \min(1, \max(0, (e - E_1) / (E_2 - E_1)))

    Args:
        epoch: training epoch e, counted from 0.
        ramp_start: E1, the end of the warm-up.
        ramp_end: E2; equal to ``ramp_start`` for a step.

    Raises:
        ValueError: if ``ramp_end`` comes before ``ramp_start``.

    Example:
        >>> [pseudo_label_weight(e, 50, 250) for e in (0, 50, 150, 250, 499)]
        [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    if ramp_end < ramp_start:
        raise ValueError(f"The ramp ends (epoch {ramp_end}) before it starts (epoch {ramp_start}).")
    if epoch >= ramp_end:
        return 1.0
    if epoch <= ramp_start:
        return 0.0
    return (epoch - ramp_start) / (ramp_end - ramp_start)


class SelfCleansingLoss(_Loss):
    r"""A loss on the given labels that hands over, epoch by epoch, to the same loss on the pseudo-labels.

    .. math:: L(e) = \lambda_1(e) L(z, y) + \lambda_2(e) L(z, y'), \quad \lambda_1 = 1 - \lambda_2 \quad (7)

    Robust to wrong annotations as far as the pseudo-labels are: it does not weigh or reject anything itself, so it
    belongs with a schedule that cleanses labels (:class:`~monai_noisylabel.handlers.LabelCleansing`).

    The attribute :attr:`epoch` (from 0) must follow the training;
    :class:`~monai_noisylabel.handlers.EpochStart` sets it.

    Args:
        base: loss of logits and one label, called as ``base(input, target)`` and, when a weight is given,
            ``base(input, target, weight)``. The paper uses Dice: ``DiceLoss(softmax=True, to_onehot_y=True,
            include_background=False)``.
        max_epochs: E, length of the training; the paper: 500.
        ramp_start: E1 as a fraction of E; the paper: 0.1.
        ramp_end: E2 as a fraction of E; the paper: 0.5.

    Shape:
        input (B, C, \*S) logits; target (B, 2 M, \*S), the M channels of the given label followed by the M channels
        of the pseudo-label (M = 1 for multi-class, C for multi-label); result as ``base`` reduces.

    Raises:
        ValueError: if the target's channels cannot be halved, or the fractions are out of order.

    Example:
        >>> import torch
        >>> loss = SelfCleansingLoss(nn.MSELoss(), max_epochs=100)
        >>> target = torch.cat([torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)], dim=1)
        >>> for loss.epoch in (0, 30, 99):
        ...     print(loss(torch.full((1, 1, 2, 2), 2.0), target).item())
        1.0
        2.5
        4.0

    References:
        Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels, 2024.
    """

    def __init__(self, base: nn.Module, max_epochs: int, ramp_start: float = 0.1, ramp_end: float = 0.5) -> None:
        super().__init__()
        if not 0 <= ramp_start <= ramp_end <= 1:
            raise ValueError(f"Need 0 <= ramp_start <= ramp_end <= 1, got {ramp_start} and {ramp_end}.")
        self.base = base
        self.ramp_start = ramp_start * max_epochs
        self.ramp_end = ramp_end * max_epochs
        self.epoch = 0

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The hybrid loss of the current epoch; see the class."""
        if target.shape[1] % 2:
            raise ValueError(
                "The target must hold the given label and the pseudo-label, one after the other along the channels; "
                f"got {target.shape[1]} channels."
            )
        given, pseudo = target.chunk(2, dim=1)
        extra = () if weight is None else (weight,)
        share = pseudo_label_weight(self.epoch, self.ramp_start, self.ramp_end)
        if share == 0:
            return self.base(input, given, *extra)
        if share == 1:
            return self.base(input, pseudo, *extra)
        return (1 - share) * self.base(input, given, *extra) + share * self.base(input, pseudo, *extra)
