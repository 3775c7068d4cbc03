"""Weights for the voxel-wise losses of MONAI and torch."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from .voxel_target import flat_weight
from .voxelwise import require_reduction, weighted_mean

__all__ = ["WeightedLoss"]


class WeightedLoss(_Loss):
    r"""Weighted mean of a voxel-wise loss that knows no weights.

    .. math:: L = \frac{\sum_u w_u \, l_u}{\sum_u w_u}

    over voxels and, if the loss keeps them apart, channels. As robust as the weights. Masking input and target
    instead is not the same: the loss of a masked voxel is not 0.

    Args:
        loss: called as ``loss(input, target)``; with a ``reduction`` of its own, which is taken over here, and
            ``"none"`` of which gives a value per voxel (MONAI's ``FocalLoss``, torch's ``BCEWithLogitsLoss``,
            ``CrossEntropyLoss``, ...). It is copied, not changed. Not for losses of regions, such as Dice.

    Shape:
        input, target as the loss wants them; for torch's ``CrossEntropyLoss`` the target may be (B, 1, \*S).
        weight (B, 1, \*S) or (B,) in [0, 1]. Result: a scalar, or for ``"none"`` the loss's form, (B, 1, \*S) if
        it has no channels.

    Raises:
        TypeError: if the loss has no reduction.
        ValueError: if its result is not one value per voxel, or the weight's shape is wrong.

    Example:
        >>> import torch
        >>> loss = WeightedLoss(nn.BCEWithLogitsLoss())
        >>> logits, target = torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[1.0, 0.0]]])
        >>> loss(logits, target, torch.tensor([[[1.0, 0.0]]])).item()  # log 2, of the first voxel
        0.6931
    """

    def __init__(self, loss: _Loss) -> None:
        if not hasattr(loss, "reduction"):
            raise TypeError(f"{type(loss).__name__} has no reduction: it cannot give a value per voxel.")
        super().__init__(reduction=require_reduction(loss.reduction))
        self.loss = copy.deepcopy(loss)
        self.loss.reduction = "none"

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The reduced loss; see the class."""
        if isinstance(self.loss, nn.CrossEntropyLoss) and target.ndim == input.ndim and target.shape[1] == 1:
            target = target[:, 0].long()
        value = self.loss(input, target)
        if value.ndim == input.ndim - 1:
            value = value[:, None]
        if value.ndim != input.ndim or value.shape[2:] != input.shape[2:]:
            raise ValueError(
                f"{type(self.loss).__name__} gives the form {tuple(value.shape)} for an input {tuple(input.shape)}: it "
                "is not voxel-wise. A weight for a loss of regions must enter its sums, see NoiseRobustDiceLoss."
            )
        value = value.flatten(2)
        flat = None if weight is None else flat_weight(weight, input)
        if self.reduction == "mean":
            return value.mean() if flat is None else weighted_mean(value, flat)
        weighted = value if flat is None else flat * value
        return weighted.sum() if self.reduction == "sum" else weighted.unflatten(2, input.shape[2:])
