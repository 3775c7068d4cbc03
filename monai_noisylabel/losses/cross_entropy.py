"""Cross entropy with weights: what the robust losses are compared with and built from."""

from __future__ import annotations

from torch import Tensor

from .falls import Falls
from .probabilities import Probabilities
from .voxelwise import VoxelwiseLoss

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(VoxelwiseLoss):
    r"""Cross entropy, in the form and with the weights of this family.

    .. math:: L_{CE} = -\log p_y

    Not robust: the gradient by the label's probability, -1/p_y, is largest where the network contradicts the label,
    so wrong labels are memorised. It is the baseline, and the loss that forward and backward correction mend.

    Args:
        include_background: see :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`, here and below.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: as :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> CrossEntropyLoss(reduction="none")(logits, torch.tensor([[[0, 1]]])).squeeze().tolist()
        [0.2231, 0.6931]
    """

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """-log p_y."""
        return -label.log_p

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """With the derivative -1."""
        return Falls(-label.log_p, label.log_p.new_ones(()).expand_as(label.log_p))
