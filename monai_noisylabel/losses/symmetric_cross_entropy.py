"""Symmetric cross entropy: cross entropy to learn, reverse cross entropy to resist."""

from __future__ import annotations

import math

from torch import Tensor

from .falls import Falls
from .probabilities import Probabilities
from .reverse_cross_entropy import require_clip
from .voxelwise import VoxelwiseLoss

__all__ = ["SymmetricCrossEntropyLoss"]


class SymmetricCrossEntropyLoss(VoxelwiseLoss):
    r"""Weighted sum of cross entropy and reverse cross entropy.

    .. math:: L_{SCE} = \alpha L_{CE} + \beta L_{RCE} = -\alpha \log p_y - \beta A (1 - p_y)

    Robust as far as the reverse term outweighs the other; the cross entropy in it still grows without bound on
    wrong labels, so long trainings on heavy noise memorise them.

    Args:
        alpha: weight of cross entropy, at least 0; released code: 0.1 (CIFAR-10), 6 (CIFAR-100).
        beta: weight of reverse cross entropy, at least 0; released code: 1 (CIFAR-10), 0.1 (CIFAR-100).
        clip: epsilon in A = log epsilon, in (0, 1); the released code: 1e-4.
        include_background: see :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`, here and below.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: if alpha or beta is negative, clip is not in (0, 1), or as
            :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> SymmetricCrossEntropyLoss(reduction="none")(logits, torch.tensor([[[0, 1]]])).squeeze().tolist()
        [1.8644, 4.6745]

    References:
        Y. Wang et al., Symmetric cross entropy for robust learning with noisy labels, ICCV 2019.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 1.0,
        clip: float = 1e-4,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            include_background=include_background,
            to_onehot_y=to_onehot_y,
            sigmoid=sigmoid,
            softmax=softmax,
            reduction=reduction,
        )
        if alpha < 0 or beta < 0:
            raise ValueError(f"alpha and beta must not be negative, got {alpha} and {beta}.")
        self.alpha = alpha
        self.reverse_scale = -beta * math.log(require_clip(clip))

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """-alpha log p_y - beta A (1 - p_y)."""
        return -self.alpha * label.log_p + self.reverse_scale * (1 - label.p)

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """With the derivative -alpha + beta A p_y."""
        log_p, reverse = label.log_p, self.reverse_scale * label.p
        value = (self.reverse_scale - reverse).sub_(log_p, alpha=self.alpha)
        return Falls(value, reverse.add_(self.alpha))
