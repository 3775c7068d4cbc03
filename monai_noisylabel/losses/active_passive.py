"""Active-passive losses: a robust loss that learns and a robust loss that does not forget the other classes."""

from __future__ import annotations

import torch
from torch import Tensor

from .falls import ClassTotal, Falls
from .mean_absolute_error import MeanAbsoluteErrorLoss
from .normalized import NormalizedCrossEntropyLoss, NormalizedGeneralizedCrossEntropyLoss
from .probabilities import ClassSums, Probabilities
from .reverse_cross_entropy import ReverseCrossEntropyLoss
from .voxel_target import TargetFlags
from .voxelwise import VoxelwiseLoss, require_equation

__all__ = ["ActivePassiveLoss", "NCEandMAELoss", "NCEandRCELoss", "NGCEandMAELoss", "NGCEandRCELoss"]


class ActivePassiveLoss(VoxelwiseLoss):
    r"""Weighted sum of an active and a passive loss.

    .. math:: L_{APL} = \alpha L_{active} + \beta L_{passive}

    An active loss raises the label's probability only (cross entropy and its normalised forms); a passive one also
    lowers those of the other classes (mean absolute error, reverse cross entropy). Both being symmetric, the sum is
    as robust, and it fits better than either. Both are computed from one log-softmax.

    Flags and reduction are those of the two losses, which must agree.

    Args:
        active: the loss that learns, of this family.
        passive: the other one; it may not be normalised by a sum over classes.
        alpha: weight of the active loss, at least 0; the released code: 1 (CIFAR-10), 10 (CIFAR-100).
        beta: weight of the passive loss, at least 0; the released code: 1 (CIFAR-10), 0.1 (CIFAR-100).

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        TypeError: if a loss is not of this family, or corrected.
        ValueError: if a weight is negative, the two losses' flags differ, or the passive loss is normalised.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> loss = ActivePassiveLoss(NormalizedCrossEntropyLoss(), MeanAbsoluteErrorLoss(), beta=0.5)
        >>> loss(logits, torch.tensor([[[0, 1]]])).item()  # (0.1218 + 0.2 + 0.5 + 0.5) / 2
        0.6609

    References:
        X. Ma et al., Normalized loss functions for deep learning with noisy labels, ICML 2020.
    """

    def __init__(self, active: VoxelwiseLoss, passive: VoxelwiseLoss, alpha: float = 1.0, beta: float = 1.0) -> None:
        active, passive = require_equation(active), require_equation(passive)
        if (active.flags, active.reduction) != (passive.flags, passive.reduction):
            raise ValueError(
                f"Both losses must have the same flags, got {active.extra_repr()} and {passive.extra_repr()}."
            )
        if type(passive).class_total is not VoxelwiseLoss.class_total:
            raise ValueError(f"{type(passive).__name__} is normalised: it can be the active loss, not the passive one.")
        if alpha < 0 or beta < 0:
            raise ValueError(f"alpha and beta must not be negative, got {alpha} and {beta}.")
        super().__init__(**vars(active.flags), reduction=active.reduction)
        self.active, self.passive = active, passive
        self.alpha, self.beta = alpha, beta

    def class_total(self, classes: ClassSums) -> ClassTotal:
        """The active loss's."""
        return self.active.class_total(classes)

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """Alpha active + beta passive."""
        return self.alpha * self.active.equation(label, total) + self.beta * self.passive.equation(label, total)

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """With the same sums of both losses' derivatives."""
        active, passive = self.active.falls(label, total), self.passive.falls(label, total)
        active = active.weighted(None if self.alpha == 1 else self.alpha)
        value = torch.add(active.value, passive.value, alpha=self.beta)
        by_log_p = torch.add(active.by_log_p, passive.by_log_p, alpha=self.beta)
        return Falls(value, by_log_p, active.by_total)


class NCEandMAELoss(ActivePassiveLoss):
    r"""The sum of normalised cross entropy and mean absolute error.

    .. math:: L = \alpha L_{NCE} + \beta L_{MAE}

    See :class:`ActivePassiveLoss` for what it is robust to, and the deviation of its mean absolute error.

    Args:
        alpha: weight of the active loss, at least 0.
        beta: weight of the passive loss, at least 0; half of the released code's, whose MAE is 1 - p_y.
        include_background: see :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`, here and below.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: for the reasons of the two losses and of their sum.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        reduction: str = "mean",
    ) -> None:
        flags = TargetFlags(include_background, to_onehot_y, sigmoid, softmax)
        super().__init__(
            NormalizedCrossEntropyLoss(**vars(flags), reduction=reduction),
            MeanAbsoluteErrorLoss(**vars(flags), reduction=reduction),
            alpha,
            beta,
        )


class NCEandRCELoss(ActivePassiveLoss):
    r"""The sum of normalised cross entropy and reverse cross entropy.

    .. math:: L = \alpha L_{NCE} + \beta L_{RCE}

    See :class:`ActivePassiveLoss` for what it is robust to.

    Args:
        alpha: weight of the active loss, at least 0.
        beta: weight of the passive loss, at least 0.
        clip: epsilon of reverse cross entropy, in (0, 1); the released code: 1e-4.
        include_background: see :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`, here and below.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: for the reasons of the two losses and of their sum.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        clip: float = 1e-4,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        reduction: str = "mean",
    ) -> None:
        flags = TargetFlags(include_background, to_onehot_y, sigmoid, softmax)
        super().__init__(
            NormalizedCrossEntropyLoss(**vars(flags), reduction=reduction),
            ReverseCrossEntropyLoss(clip, **vars(flags), reduction=reduction),
            alpha,
            beta,
        )


class NGCEandMAELoss(ActivePassiveLoss):
    r"""The sum of normalised generalized cross entropy and mean absolute error.

    .. math:: L = \alpha L_{NGCE} + \beta L_{MAE}

    See :class:`ActivePassiveLoss` for what it is robust to, and the deviation of its mean absolute error.

    Args:
        alpha: weight of the active loss, at least 0.
        beta: weight of the passive loss, at least 0; half of the released code's, whose MAE is 1 - p_y.
        q: exponent in (0, 1]; the released code: 0.7 by default, 0.1 in its configurations.
        include_background: see :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`, here and below.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: for the reasons of the two losses and of their sum.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        q: float = 0.7,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        reduction: str = "mean",
    ) -> None:
        flags = TargetFlags(include_background, to_onehot_y, sigmoid, softmax)
        super().__init__(
            NormalizedGeneralizedCrossEntropyLoss(q, **vars(flags), reduction=reduction),
            MeanAbsoluteErrorLoss(**vars(flags), reduction=reduction),
            alpha,
            beta,
        )


class NGCEandRCELoss(ActivePassiveLoss):
    r"""The sum of normalised generalized cross entropy and reverse cross entropy.

    .. math:: L = \alpha L_{NGCE} + \beta L_{RCE}

    See :class:`ActivePassiveLoss` for what it is robust to.

    Args:
        alpha: weight of the active loss, at least 0.
        beta: weight of the passive loss, at least 0.
        q: exponent in (0, 1]; the released code: 0.7 by default, 0.1 in its configurations.
        clip: epsilon of reverse cross entropy, in (0, 1); the released code: 1e-4.
        include_background: see :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`, here and below.
        to_onehot_y: the target must hold class indices.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Raises:
        ValueError: for the reasons of the two losses and of their sum.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        q: float = 0.7,
        clip: float = 1e-4,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        reduction: str = "mean",
    ) -> None:
        flags = TargetFlags(include_background, to_onehot_y, sigmoid, softmax)
        super().__init__(
            NormalizedGeneralizedCrossEntropyLoss(q, **vars(flags), reduction=reduction),
            ReverseCrossEntropyLoss(clip, **vars(flags), reduction=reduction),
            alpha,
            beta,
        )
