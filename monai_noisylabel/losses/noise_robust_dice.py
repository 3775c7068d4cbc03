"""Noise-robust Dice: between Dice loss and mean absolute error, for errors of whole regions."""

from __future__ import annotations

from torch import Tensor
from torch.nn.modules.loss import _Loss

from .regions import region_sums
from .voxel_target import TargetFlags
from .voxelwise import require_reduction, weighted_mean

__all__ = ["NoiseRobustDiceLoss"]


class NoiseRobustDiceLoss(_Loss):
    r"""Dice loss with the exponent of the error between that of Dice (2) and that of mean absolute error (1).

    .. math:: L = \frac{\sum_u w_u |p_u - g_u|^\gamma}{\sum_u w_u (p_u^2 + g_u^2) + \epsilon}

    per sample and class, averaged over both. With gamma = 2 it is Dice loss with squares in the denominator; with
    gamma = 1 every wrong voxel of a region counts alike. Robust to boundaries that err and to class imbalance; not
    to whole structures that are missing, whose denominator is small.

    The weight enters every sum, and a sample counts in the mean by the sum of its weights.

    Args:
        gamma: exponent in [1, 2]; the paper: 1.5.
        epsilon: added to the denominator, above 0; the authors' toolkit PyMIC: 1e-5.
        include_background: whether channel 0 counts.
        to_onehot_y: the target must hold class indices; never needed, see
            :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``; ``"sum"`` over samples and classes; or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,) in
        [0, 1]. Result: a scalar, or (B, C, 1, ..., 1) for ``"none"``, with C - 1 without the background.

    Raises:
        ValueError: if gamma is not in [1, 2], epsilon is not positive, sigmoid and softmax are both set, the
            reduction is unknown, or shapes do not go together.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> NoiseRobustDiceLoss(reduction="none")(logits, torch.tensor([[[0, 1]]])).squeeze().tolist()
        [0.2344, 0.3434]

    References:
        G. Wang et al., A noise-robust framework for automatic segmentation of COVID-19 pneumonia lesions from CT
        images, IEEE Transactions on Medical Imaging, 2020, doi:10.1109/TMI.2020.3000314.

    Deviation:
        Sums run over each sample, not over the batch.
    """

    def __init__(
        self,
        gamma: float = 1.5,
        epsilon: float = 1e-5,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=require_reduction(reduction))
        self.flags = TargetFlags(include_background, to_onehot_y, sigmoid, softmax)
        if not 1 <= gamma <= 2:
            raise ValueError(f"gamma must be from 1 (mean absolute error) to 2 (Dice), got {gamma}.")
        if epsilon <= 0:
            raise ValueError(f"epsilon must be positive, got {epsilon}.")
        self.gamma, self.epsilon = gamma, epsilon

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The reduced loss; see the class."""
        logits, label, weight = self.flags.read(input, target, weight)
        sums = region_sums(logits, label, weight, gamma=self.gamma, sizes=True, sigmoid=self.flags.sigmoid)
        error, size = sums[..., self.flags.skipped_classes :].unbind(1)
        value = error / (size + self.epsilon)
        if self.reduction == "none":
            return value[(...,) + (None,) * (input.ndim - 2)]
        if self.reduction == "sum":
            return value.sum()
        if weight is None:
            return value.mean()
        return weighted_mean(value, weight.expand(-1, 1, logits.shape[2]).sum(2))
