"""Mean absolute error of the class probabilities, the simplest loss that symmetric label noise does not bias."""

from __future__ import annotations

from torch import Tensor

from .falls import Falls
from .probabilities import Probabilities
from .voxelwise import VoxelwiseLoss

__all__ = ["MeanAbsoluteErrorLoss"]


class MeanAbsoluteErrorLoss(VoxelwiseLoss):
    r"""Mean absolute error between the class probabilities and the label.

    .. math:: L_{MAE} = \sum_c |p_c - [c = y]| = 2 (1 - p_y)

    Robust: summed over all labels it is the constant 2 (C - 1), so symmetric noise below (C - 1) / C does not move
    its minimum. It learns slowly, since its gradient vanishes where p_y is small, right or wrong: with many classes
    or few epochs prefer :class:`~monai_noisylabel.losses.GeneralizedCrossEntropyLoss` or an active-passive sum.

    Args:
        include_background: see :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`, here and below.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label; each is a two-class problem, so 2 |p - t|.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: as :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> MeanAbsoluteErrorLoss(reduction="none")(logits, torch.tensor([[[0, 1]]])).squeeze().tolist()
        [0.4, 1.0]

    References:
        A. Ghosh, H. Kumar and P. S. Sastry, Robust loss functions under label noise for deep neural networks,
        AAAI 2017.

    Deviation:
        The code released with normalised losses (Ma et al. 2020) drops the factor 2. A soft label gives the
        expected loss sum_c t_c 2 (1 - p_c), linear in the label as all of this family, not the absolute difference.
    """

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """2 (1 - p_y)."""
        return 2 - 2 * label.p

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """With the derivative -2 p_y."""
        fall = 2 * label.p
        return Falls(2 - fall, fall)
