"""Normalised losses: any loss divided by its sum over all labels is robust to symmetric noise."""

from __future__ import annotations

from torch import Tensor

from .falls import ClassTotal, Falls
from .generalized_cross_entropy import require_exponent
from .probabilities import ClassSums, Probabilities
from .voxelwise import VoxelwiseLoss

__all__ = ["NormalizedCrossEntropyLoss", "NormalizedGeneralizedCrossEntropyLoss"]


class NormalizedCrossEntropyLoss(VoxelwiseLoss):
    r"""Cross entropy over the sum of the cross entropies with every label.

    .. math:: L_{NCE} = \frac{\log p_y}{\sum_c \log p_c}

    Between 0 and 1, and 1 when summed over all labels, hence not biased by symmetric noise below (C - 1) / C. It
    underfits on its own (raising the other classes' losses lowers it without learning the label): see
    :class:`~monai_noisylabel.losses.ActivePassiveLoss`.

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
        >>> NormalizedCrossEntropyLoss(reduction="none")(logits, torch.tensor([[[0, 1]]])).squeeze().tolist()
        [0.1218, 0.5]

    References:
        X. Ma et al., Normalized loss functions for deep learning with noisy labels, ICML 2020.
    """

    def class_total(self, classes: ClassSums) -> ClassTotal:
        """Sum over classes of -log p_c, each with the derivative -1."""
        value = -classes.sum(lambda one: one.log_p)
        return ClassTotal(value, lambda one: one.log_p.new_ones(()), value.new_full((), classes.count))

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """-log p_y over the sum."""
        return -label.log_p / total

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """With the derivatives -1 / S and log p_y / S^2."""
        inverse = total.reciprocal()
        value = (label.log_p * inverse).neg_()
        return Falls(value, inverse, value * inverse)


class NormalizedGeneralizedCrossEntropyLoss(VoxelwiseLoss):
    r"""Generalized cross entropy over the sum of its values with every label.

    .. math:: L_{NGCE} = \frac{1 - p_y^q}{\sum_c (1 - p_c^q)}

    Between 0 and 1 / (C - 1), and 1 when summed over all labels; see
    :class:`~monai_noisylabel.losses.NormalizedCrossEntropyLoss` for what that is worth.

    Args:
        q: exponent in (0, 1]; the released code: 0.7 by default, 0.1 in its configurations.
        include_background: see :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`, here and below.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: if q is not in (0, 1], or as :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> loss = NormalizedGeneralizedCrossEntropyLoss(reduction="none")
        >>> loss(logits, torch.tensor([[[0, 1]]])).squeeze().tolist()
        [0.1763, 0.5]

    References:
        X. Ma et al., Normalized loss functions for deep learning with noisy labels, ICML 2020.
    """

    def __init__(
        self,
        q: float = 0.7,
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
        self.q = require_exponent(q)

    def class_total(self, classes: ClassSums) -> ClassTotal:
        """Sum over classes of (1 - p_c^q) / q, each with the derivative -p_c^q."""
        power_sum = classes.sum(self._power)
        return ClassTotal((classes.count - power_sum).div_(self.q), self._power, power_sum)

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """(1 - p_y^q) / q over the sum."""
        return (1 - label.power(self.q)) / (self.q * total)

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """With the derivatives -p_y^q / S and (p_y^q - 1) / (q S^2)."""
        inverse = total.reciprocal()
        by_log_p = label.power(self.q) * inverse
        value = (inverse - by_log_p).div_(self.q)
        return Falls(value, by_log_p, inverse * value)

    def _power(self, classes: Probabilities) -> Tensor:
        return classes.power(self.q)
