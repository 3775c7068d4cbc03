"""Losses by the probability of the label, and their gradients, block of voxels by block of voxels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from .blocks import Block, blocks, cut
from .falls import AtLabel, ClassTotal, Falls
from .probabilities import ClassProbabilities, ClassSums, LabelAndOther, Probabilities
from .voxel_target import precise

__all__ = ["LabelEquation", "label_loss"]


class LabelEquation(Protocol):
    """A loss that depends on the label's probability, and perhaps on one sum over the classes."""

    corrected: bool
    """Whether probabilities are not those of softmax, or labels not as given."""

    def classes(self, logits: Tensor) -> ClassProbabilities:
        """The probabilities of the classes."""
        ...

    def shares(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """The label, as indices (B, 1, V) or each class's share in it (B, C, V)."""
        ...

    def class_total(self, classes: ClassSums) -> ClassTotal:
        """The sum over the classes."""
        ...

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """The loss, element by element."""
        ...

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """The same with its derivatives."""
        ...


def label_loss(logits: Tensor, label: Tensor, weight: Tensor | None, loss: LabelEquation, *, summed: bool) -> Tensor:
    r"""Weight times the loss of every voxel, or the sum of that.

    With t_c the label's share of class c, u_c = log p_c, and S the sum over classes of f(u_c), the gradient of
    the sum of t_c l(u_c, S) is written down directly,

    .. math:: \frac{\partial L}{\partial z_c} = p_c \Big(\sum_k t_k a_k - b \sum_k f_k\Big) + b f_c - t_c a_c,
              \quad a_c = -\frac{\partial l}{\partial u_c}, \ b = -\sum_c t_c \frac{\partial l}{\partial S},
              \ f_c = -f'(u_c),

    together with the value, one block after the other. It is kept in one array of the size of the logits, which the
    backward pass hands over as its result (a second backward pass computes it again). Second derivatives, derivatives
    by the label or the weight, and compiled code take the plain equation instead.

    Args:
        logits: any floating type; half precision is computed in float32. A single channel z means two classes with
            the logits 0 and z.
        label: class indices, int64, or shares; for a single channel bool, or the share of the second class.
        weight: per voxel or per sample, or None.
        loss: the equation.
        summed: whether to return the sum over all voxels.

    Shape:
        logits (B, C, V); label (B, 1, V) or (B, C, V); weight (B, 1, V) or (B, 1, 1); result (B, 1, V) or a scalar.
    """
    weight = None if weight is None else weight.to(precise(logits.dtype))
    if torch.compiler.is_compiling() or label.requires_grad or (weight is not None and weight.requires_grad):
        value = _plain_losses(logits, label, weight, loss)
        return value.sum() if summed else value
    return _LabelLoss.apply(logits, label, weight, loss, summed)


def _plain_losses(logits: Tensor, label: Tensor, weight: Tensor | None, loss: LabelEquation) -> Tensor:
    """Weight times loss, (B, 1, V), left to autograd."""
    classes = loss.classes(logits)
    label, total = _readable(label, logits, loss), loss.class_total(classes).value
    if label.shape[1] == 1:
        value = loss.equation(classes.of_label(label), total)
    else:
        value = (label * loss.equation(classes, total)).sum(1, keepdim=True)
    return value if weight is None else weight * value


def _readable(label: Tensor, logits: Tensor, loss: LabelEquation) -> Tensor:
    """The label as the loss takes it: int64 indices (B, 1, V), or shares (B, C, V) of the probabilities' type."""
    dtype = precise(logits.dtype)
    if label.shape[1] == 1 and not label.is_floating_point():
        return loss.shares(label.long(), dtype)
    label = label.to(dtype)
    return loss.shares(torch.cat([1 - label, label], 1) if label.shape[1] == 1 else label, dtype)


class _LabelLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, label: Tensor, weight: Tensor | None, loss: LabelEquation, summed: bool
    ) -> Tensor:
        ctx.save_for_backward(logits, label, weight)
        ctx.loss, ctx.summed = loss, summed
        ctx.gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        parts = _losses(logits, label, weight, loss, ctx.gradient)
        if summed:
            return torch.stack([part.sum() for _, part in parts]).sum()
        value = logits.new_empty((logits.shape[0], 1, logits.shape[2]), dtype=precise(logits.dtype))
        for block, part in parts:
            value[block] = part
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, label, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient itself is to be differentiable
            value = _plain_losses(logits, label, weight, ctx.loss)
            value = value.sum() if ctx.summed else value
            return *torch.autograd.grad(value, logits, upstream, create_graph=True), None, None, None, None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # handed over by an earlier call
            gradient = torch.empty_like(logits)
            for _ in _losses(logits, label, weight, ctx.loss, gradient):
                pass
        return gradient.mul_(upstream), None, None, None, None


def _losses(
    logits: Tensor, label: Tensor, weight: Tensor | None, loss: LabelEquation, gradient: Tensor | None
) -> Iterator[tuple[Block, Tensor]]:
    """Every block with its losses; their derivatives by the logits are written to ``gradient``."""
    losses_of = _losses_of_two_classes if _two_classes(logits, label, loss) else _losses_of_classes
    for block in blocks(logits):
        part = logits[block], label[block], cut(weight, block)
        yield block, _plain_losses(*part, loss) if gradient is None else losses_of(*part, loss, gradient[block])


def _two_classes(logits: Tensor, label: Tensor, loss: LabelEquation) -> bool:
    """Whether :func:`_losses_of_two_classes` serves: not for indices that gather must check, without waiting."""
    checked = logits.shape[1] == 1 or (logits.shape[1] == 2 and logits.device.type == "cpu")
    return checked and label.shape[1] == 1 and not label.is_floating_point() and not loss.corrected


def _losses_of_classes(
    logits: Tensor, label: Tensor, weight: Tensor | None, loss: LabelEquation, gradient: Tensor
) -> Tensor:
    classes, label = loss.classes(logits), _readable(label, logits, loss)
    total = loss.class_total(classes)
    if label.shape[1] == 1:
        given, shares = classes.of_label(label), weight
    else:
        given, shares = classes, label if weight is None else weight * label
    at_label = AtLabel(label, given, loss.falls(given, total.value).weighted(shares))
    falls = at_label.falls if label.shape[1] == 1 else at_label.falls.summed()
    fits = gradient.dtype == falls.value.dtype and gradient.shape[1] == classes.count
    result = classes.logit_gradient(falls, at_label, total, gradient if fits else None)
    if not fits:
        gradient.copy_(result[:, -gradient.shape[1] :])
    return falls.value


def _losses_of_two_classes(
    logits: Tensor, label: Tensor, weight: Tensor | None, loss: LabelEquation, gradient: Tensor
) -> Tensor:
    """The same for class indices, out of the difference of the two logits: nothing has to be gathered."""
    logits = logits.to(precise(logits.dtype))
    side = label.to(logits.dtype).mul_(2).sub_(1)
    classes = LabelAndOther((logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]) * side)
    given, total = classes.label, loss.class_total(classes)
    falls = loss.falls(given, total.value).weighted(weight)
    fall = torch.addcmul(falls.by_log_p, given.p, falls.share_of_p(total), value=-1)
    if total.fall is not None and falls.by_total is not None:
        fall.addcmul_(total.fall(given), falls.by_total, value=-1)
    torch.mul(fall, side, out=gradient[:, :1])
    torch.neg(gradient[:, :1], out=gradient[:, -1:])
    return falls.value
