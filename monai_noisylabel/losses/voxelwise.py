"""The common form of losses that judge every voxel by the probability of its label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

from .falls import ClassTotal, Falls
from .label_loss import label_loss
from .probabilities import ClassProbabilities, ClassSums, Probabilities, class_probabilities
from .voxel_target import TargetFlags

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

    To write a loss of one's own, override :meth:`equation` (and :meth:`class_total`), as in the example.

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
        ValueError: if sigmoid and softmax are both set, the reduction is unknown, shapes do not go together, or the
            target holds an index of no class.

    Example:
        >>> class FocalLoss(VoxelwiseLoss):
        ...     def equation(self, label, total):
        ...         return -((1 - label.p) ** 2) * label.log_p
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> FocalLoss(reduction="none")(logits, torch.tensor([[[0, 1]]])).squeeze().tolist()
        [0.0089, 0.1733]
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

    corrected = False

    def classes(self, logits: Tensor) -> ClassProbabilities:
        """The probabilities that the loss is a function of: softmax; of 0 and z for a single channel z."""
        return class_probabilities(logits)

    def shares(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """The label that the loss is taken with, class indices (B, 1, V) or shares (B, C, V): as given."""
        return label

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """The loss, element by element.

        Args:
            label: probability ``p`` of the label and its logarithm ``log_p``.
            total: the sum S over the classes; 1 for a loss without one.
        """
        raise NotImplementedError

    def class_total(self, classes: ClassSums) -> ClassTotal:
        """The sum S over the classes, with its derivatives; 1 for a loss without one."""
        return ClassTotal(torch.ones(()))

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """The equation and its derivatives; override where they are known, it is faster."""
        log_p, total = label.log_p.detach().requires_grad_(), total.detach().requires_grad_()
        with torch.enable_grad():
            value = self.equation(Probabilities(lambda: log_p, log_p.exp), total)
        falling = torch.full_like(value, -1.0)
        return Falls(value.detach(), *torch.autograd.grad(value, (log_p, total), falling, allow_unused=True))

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The reduced loss; see the class."""
        logits, label, weight = self.flags.read(input, target, weight)
        if self.flags.skipped_classes:
            weight = _foreground_weight(label, weight)
        channels = logits.shape[1]
        if self.flags.sigmoid:  # one problem of two classes after the other
            logits, label = logits.flatten(1)[:, None], label.flatten(1)[:, None]
            if weight is not None and weight.shape[2] > 1:
                weight = weight.expand(-1, channels, -1).flatten(1)[:, None]
        value = label_loss(logits, label, weight, self, summed=self.reduction != "none")
        if self.reduction == "none":
            return value.view(len(logits), channels if self.flags.sigmoid else 1, *input.shape[2:])
        if self.reduction == "sum":
            return value
        if weight is None:
            return value / (len(logits) * logits.shape[2])
        return value / _positive_or_1(weight.expand(-1, 1, logits.shape[2]).sum())

    def extra_repr(self) -> str:
        """The settings, as printed."""
        settings: dict[str, Any] = {**vars(self.flags), "reduction": self.reduction}
        return ", ".join(f"{name}={value}" for name, value in settings.items())


def require_equation(loss: object) -> VoxelwiseLoss:
    """A loss that is given by its equation, and can be a part of another one, if it is one.

    Raises:
        TypeError: if it is not of this family, or corrected.
    """
    if not isinstance(loss, VoxelwiseLoss) or loss.corrected:
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
    return (weight * value).sum() / _positive_or_1(weight.expand_as(value).sum())


def _positive_or_1(weight_sum: Tensor) -> Tensor:
    return torch.where(weight_sum > 0, weight_sum, torch.ones_like(weight_sum))


def _foreground_weight(label: Tensor, weight: Tensor | None) -> Tensor:
    foreground = (label != 0).float() if label.shape[1] == 1 else 1 - label[:, :1]
    return foreground if weight is None else weight * foreground
