"""Generalized cross entropy, between cross entropy and mean absolute error, and its truncated form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .falls import Falls
from .probabilities import Probabilities
from .voxelwise import VoxelwiseLoss

__all__ = ["GeneralizedCrossEntropyLoss", "require_exponent"]


class GeneralizedCrossEntropyLoss(VoxelwiseLoss):
    r"""Negative Box-Cox transform of the label's probability.

    .. math:: L_q = \frac{1 - p_y^q}{q}

    q -> 0 is cross entropy, q = 1 is 1 - p_y, half the mean absolute error. The gradient of cross entropy is
    weighed by p_y^q, so voxels whose label the network contradicts count less. With ``truncation`` k they do not
    count at all:

    .. math:: L_{trunc} = L_q(\max(p_y, k))

    Robust to moderate noise in exchange for slower learning as q grows. Truncation from the first epoch on leaves
    out whatever the untrained network contradicts: begin without it (the paper: 40 epochs of 120, for
    CIFAR-10).

    Args:
        q: exponent in (0, 1]; the paper: 0.7.
        truncation: k in (0, 1), the probability below which a label is not learned from; the paper: 0.5. None
            for the plain loss.
        include_background: see :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`, here and below.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: if q is not in (0, 1] or the truncation not in (0, 1), or as
            :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.8, 0.3], [0.2, 0.7]]).log()[None]
        >>> target = torch.tensor([[[0, 0]]])
        >>> GeneralizedCrossEntropyLoss(reduction="none")(logits, target).squeeze().tolist()
        [0.2066, 0.8136]
        >>> GeneralizedCrossEntropyLoss(truncation=0.5, reduction="none")(logits, target).squeeze().tolist()
        [0.2066, 0.5492]

    References:
        Z. Zhang and M. R. Sabuncu, Generalized cross entropy loss for training deep neural networks with noisy
        labels, NeurIPS 2018.

    Deviation:
        The paper finds the truncated loss by alternating between weights in {0, 1} and the network; for a given
        network its minimum over the weights is the expression above, which is used directly.
    """

    def __init__(
        self,
        q: float = 0.7,
        truncation: float | None = None,
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
        if truncation is not None and not 0 < truncation < 1:
            raise ValueError(f"truncation must be a probability between 0 and 1 (the paper: 0.5), got {truncation}.")
        self.q = require_exponent(q)
        self.lowest_log_p = -math.inf if truncation is None else math.log(truncation)

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """(1 - max(p_y, k)^q) / q."""
        return torch.expm1(self.q * label.log_p.clamp(min=self.lowest_log_p)) / -self.q

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """With the derivative -p_y^q, which is 0 where p_y < k."""
        value, fall = self.equation(label, total), label.power(self.q)
        return Falls(value, fall if math.isinf(self.lowest_log_p) else fall * (label.log_p >= self.lowest_log_p))


def require_exponent(q: float) -> float:
    """The exponent of generalized cross entropy, if it is one.

    Raises:
        ValueError: if it is not in (0, 1].
    """
    if not 0 < q <= 1:
        raise ValueError(f"q must be above 0 (cross entropy) and at most 1 (mean absolute error), got {q}.")
    return q
