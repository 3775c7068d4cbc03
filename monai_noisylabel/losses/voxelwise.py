"""The common form of losses that judge every voxel by the probability of its label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from .blocks import ClassTotal, Slopes, label_loss
from .voxel_target import TargetFlags, precise

__all__ = ["VoxelwiseLoss", "require_equation", "require_reduction", "weighted_mean"]


class VoxelwiseLoss(_Loss):
    r"""A loss that is a function of the log-probability of each voxel's label, linear in the label.

    .. math:: L = \frac{\sum_u w_u \sum_c t_{uc} \, l(\log p_{uc}, S_u)}{\sum_u w_u},
              \qquad S_u = \sum_c f(\log p_{uc}),

    with t the one-hot label or a soft one. A subclass writes the equation l; a normalised loss also gives the sum
    S (:meth:`class_total`). Class indices are used as they are, without one-hot expansion. Independent channels
    (``sigmoid``) are two-class problems, one per channel. Everything is computed from log-softmax in float32 or
    better, whatever the input's type.

    ``include_background=False`` gives voxels labelled as background (their share t_0, for a soft label) the
    weight 0; for independent channels it leaves channel 0 out.

    To write a loss of one's own, override :meth:`equation` (and :meth:`class_total`).

    Args:
        include_background: whether voxels labelled 0 (channel 0) count.
        to_onehot_y: the target must hold class indices; see Shape for why it need not be set.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"`` (the weighted mean above), ``"sum"`` (its numerator) or ``"none"`` (w times loss).

    Shape:
        input (B, C, \*S) logits. target (B, 1, \*S) class indices (of any type, when C > 1), or (B, C, \*S) one-hot
        or soft. weight (B, 1, \*S) or (B,) in [0, 1]. Result: a scalar, or (B, 1, \*S) for ``"none"`` ((B, C, \*S)
        with ``sigmoid``).

    Raises:
        ValueError: if sigmoid and softmax are both set, the reduction is unknown, or shapes do not go together.
    """

    def __init__(
        self,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=require_reduction(reduction))
        self.flags = TargetFlags(include_background, to_onehot_y, sigmoid, softmax)

    def equation(self, log_p: Tensor, total: Tensor) -> Tensor:
        """The loss of a voxel whose label has the log-probability ``log_p``, element by element.

        Args:
            log_p: log-probability of the label.
            total: the sum S over the classes; 1 for a loss without one.
        """
        raise NotImplementedError

    def class_total(self, log_p: Tensor) -> ClassTotal:
        """The sum S over the classes, with its slopes; 1 for a loss without one."""
        return ClassTotal(log_p.new_ones(1, 1, 1))

    def slopes(self, log_p: Tensor, total: Tensor) -> Slopes:
        """The equation and its derivatives; override where they are known, it is faster."""
        log_p, total = log_p.detach().requires_grad_(), total.detach().requires_grad_()
        with torch.enable_grad():
            value = self.equation(log_p, total)
        arguments = (log_p, total)
        return Slopes(value.detach(), *torch.autograd.grad(value, arguments, torch.ones_like(value), allow_unused=True))

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The reduced loss; see the class."""
        logits, label, weight = self.flags.read(input, target, weight)
        value = self._two_class_loss(logits, label) if self.flags.sigmoid else self.voxel_loss(logits, label)
        if self.flags.skipped_classes:
            weight = _foreground_weight(label, weight)
        if self.reduction == "none":
            weighted = value if weight is None else weight * value
            return weighted.unflatten(2, input.shape[2:])
        if self.reduction == "sum":
            return value.sum() if weight is None else (weight * value).sum()
        return value.mean() if weight is None else weighted_mean(value, weight)

    def voxel_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """The loss (B, 1, V) of every voxel under softmax, for class indices (B, 1, V) or soft labels (B, C, V)."""
        if label.shape[1] == 1:
            return label_loss(logits, label, self)
        log_p = F.log_softmax(logits, 1, dtype=precise(logits.dtype))
        return (label * self.class_losses(log_p)).sum(1, keepdim=True)

    def class_losses(self, log_p: Tensor) -> Tensor:
        """The loss (B, C, V) that every voxel would have under each of the labels."""
        return self.equation(log_p, self.class_total(log_p).value)

    def _two_class_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Every channel as a problem of two classes, whose logits are 0 and z: (B, C, V)."""
        pairs = torch.stack([torch.zeros_like(logits), logits], 1).flatten(2)
        if label.dtype.is_floating_point:
            labels = torch.stack([1 - label, label], 1).flatten(2)
        else:
            labels = label.flatten(1)[:, None].long()
        return self.voxel_loss(pairs, labels).view(logits.shape)

    def extra_repr(self) -> str:
        """The settings, as printed."""
        settings: dict[str, Any] = {**vars(self.flags), "reduction": self.reduction}
        return ", ".join(f"{name}={value}" for name, value in settings.items())


def require_equation(loss: object) -> VoxelwiseLoss:
    """A loss that is given by its equation, and can be a part of another one, if it is one.

    Raises:
        TypeError: if it is not of this family, or corrected.
    """
    if not isinstance(loss, VoxelwiseLoss) or type(loss).voxel_loss is not VoxelwiseLoss.voxel_loss:
        raise TypeError(
            f"{type(loss).__name__} cannot be a part of another loss: give one of this package's voxel-wise losses "
            "that is not itself corrected."
        )
    return loss


def require_reduction(reduction: str) -> str:
    """The name of a reduction, if it is one; MONAI's ``LossReduction`` members are.

    Raises:
        ValueError: if it is not ``"mean"``, ``"sum"`` or ``"none"``.
    """
    name = str(getattr(reduction, "value", reduction))
    if name not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {name!r}.")
    return name


def weighted_mean(value: Tensor, weight: Tensor) -> Tensor:
    r"""Sum of weight times value over the sum of weights; 0, with gradient 0, when all weights are 0.

    Args:
        value: losses.
        weight: weights that broadcast to the values.

    Example:
        >>> weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 0.5])).item()
        2.0
        >>> weighted_mean(torch.tensor([1.0, 4.0]), torch.zeros(2)).item()
        0.0
    """
    weight_sum = weight.expand_as(value).sum()
    return (weight * value).sum() / torch.where(weight_sum > 0, weight_sum, torch.ones_like(weight_sum))


def _foreground_weight(label: Tensor, weight: Tensor | None) -> Tensor:
    foreground = (label != 0).float() if label.shape[1] == 1 else 1 - label[:, :1]
    return foreground if weight is None else weight * foreground
