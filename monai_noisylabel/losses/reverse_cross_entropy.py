"""Reverse cross entropy: the label is measured by the prediction."""

from __future__ import annotations

import math

from torch import Tensor

from .falls import Falls
from .probabilities import Probabilities
from .voxelwise import VoxelwiseLoss

__all__ = ["ReverseCrossEntropyLoss", "require_clip"]


class ReverseCrossEntropyLoss(VoxelwiseLoss):
    r"""Cross entropy with prediction and label exchanged; log 0 of the one-hot label is cut at A.

    .. math:: L_{RCE} = -\sum_c p_c \log \max([c = y], \epsilon) = -A (1 - p_y), \qquad A = \log \epsilon

    Robust as the mean absolute error, of which it is a multiple (-A / 2): the sum over all labels is constant. On
    its own it learns as slowly; its use is in sums, see :class:`~monai_noisylabel.losses.SymmetricCrossEntropyLoss`.

    Args:
        clip: epsilon, in (0, 1); the released code: 1e-4, so A = -9.21.
        include_background: see :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`, here and below.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: if clip is not in (0, 1), or as :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> ReverseCrossEntropyLoss(reduction="none")(logits, torch.tensor([[[0, 1]]])).squeeze().tolist()
        [1.8421, 4.6052]

    References:
        Y. Wang et al., Symmetric cross entropy for robust learning with noisy labels, ICCV 2019.

    Deviation:
        A soft label gives the expected loss sum_c t_c (-A) (1 - p_c), linear in the label as all of this family.
    """

    def __init__(
        self,
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
        self.scale = -math.log(require_clip(clip))

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """-A (1 - p_y)."""
        return self.scale - self.scale * label.p

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """With the derivative A p_y."""
        fall = self.scale * label.p
        return Falls(self.scale - fall, fall)


def require_clip(clip: float) -> float:
    """The value under which a one-hot label's zeros are raised, if it is one.

    Raises:
        ValueError: if it is not between 0 and 1.
    """
    if not 0 < clip < 1:
        raise ValueError(f"clip must be between 0 and 1 (released code: 1e-4), got {clip}.")
    return clip
