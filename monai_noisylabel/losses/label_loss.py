"""Losses by the probability of the label, and their gradients, block of voxels by block of voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .blocks import Block, blocks, cut
from .probabilities import ClassSums, LabelAndOther, Probabilities, class_probabilities
from .voxel_target import precise

__all__ = ["ClassTotal", "Falls", "LabelEquation", "label_loss"]


class ClassTotal(NamedTuple):
    """A sum over the classes of f(log p_c), falling functions, which a loss may be normalised by."""

    value: Tensor
    """S, of shape (B, 1, V); 1 for a loss without."""
    fall: Callable[[Probabilities], Tensor] | None = None
    """-f'(log p_c), element by element."""
    fall_sum: Tensor | None = None
    """Its sum over the classes, to be broadcast to (B, 1, V)."""


class Falls(NamedTuple):
    """A loss of every voxel, and how fast it falls: its derivatives with the sign changed."""

    value: Tensor
    by_log_p: Tensor
    by_total: Tensor | None = None
    """None where the loss does not depend on a sum over the classes."""

    def weighted(self, weight: Tensor | float | None) -> Falls:
        """Those of the weight times the loss."""
        if weight is None:
            return self
        by_total = None if self.by_total is None else weight * self.by_total
        return Falls(weight * self.value, weight * self.by_log_p, by_total)


class LabelEquation(Protocol):
    """A loss that depends on the label's probability, and perhaps on one sum over the classes."""

    def class_total(self, classes: ClassSums) -> ClassTotal:
        """The sum over the classes."""
        ...

    def equation(self, label: Probabilities, total: Tensor) -> Tensor:
        """The loss of every voxel."""
        ...

    def falls(self, label: Probabilities, total: Tensor) -> Falls:
        """The same with its derivatives."""
        ...


def label_loss(logits: Tensor, label: Tensor, weight: Tensor | None, loss: LabelEquation, *, summed: bool) -> Tensor:
    r"""Weight times the loss of every voxel under softmax, for class indices, or the sum of that.

    With u = log p_y and S the sum over classes of f(log p_c), the gradient of l(u, S) is written down directly,

    .. math:: \partial l / \partial z_c = p_c (a - b \sum_k f_k) + b f_c - a [c = y],
              \quad a = -\partial l / \partial u, \ b = -\partial l / \partial S, \ f_c = -f'(\log p_c),

    together with the value, one block after the other. It is kept in one array of the size of the logits, which the
    backward pass hands over as its result (a second backward pass computes it again). Second derivatives, derivatives
    by the weight, and compiled code take the plain equation instead.

    Args:
        logits: any floating type; half precision is computed in float32. A single channel z means two classes with
            the logits 0 and z.
        label: class indices, int64 or bool.
        weight: per voxel or per sample, or None.
        loss: the equation.
        summed: whether to return the sum over all voxels.

    Shape:
        logits (B, C, V); label (B, 1, V); weight (B, 1, V) or (B, 1, 1); result (B, 1, V) or a scalar.
    """
    weight = None if weight is None else weight.to(precise(logits.dtype))
    if torch.compiler.is_compiling() or (weight is not None and weight.requires_grad):
        return _plain_loss(logits, label, weight, loss, summed)
    return _LabelLoss.apply(logits, label, weight, loss, summed)


def _plain_loss(logits: Tensor, label: Tensor, weight: Tensor | None, loss: LabelEquation, summed: bool) -> Tensor:
    """The same as :func:`label_loss`, left to autograd."""
    classes = class_probabilities(logits)
    value = loss.equation(classes.of_label(label.long()), loss.class_total(classes).value)
    value = value if weight is None else weight * value
    return value.sum() if summed else value


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
            value = _plain_loss(logits, label, weight, ctx.loss, ctx.summed)
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
    # two classes, but for indices that only gather checks without waiting for a device
    two_classes = logits.shape[1] == 1 or (logits.shape[1] == 2 and logits.device.type == "cpu")
    losses_of = _losses_of_two_classes if two_classes else _losses_of_classes
    for block in blocks(logits):
        part = None if gradient is None else gradient[block]
        yield block, losses_of(logits[block], label[block], cut(weight, block), loss, part)


def _losses_of_classes(
    logits: Tensor, label: Tensor, weight: Tensor | None, loss: LabelEquation, gradient: Tensor | None
) -> Tensor:
    classes = class_probabilities(logits)
    given, total = classes.of_label(label), loss.class_total(classes)
    if gradient is None:
        value = loss.equation(given, total.value)
        return value if weight is None else weight * value
    falls = loss.falls(given, total.value).weighted(weight)
    class_falls = None if total.fall is None else total.fall(classes)
    p = classes.take_p()
    result = gradient if gradient.dtype == p.dtype else torch.empty_like(p)
    torch.mul(p, _share_of_p(falls, total), out=result)
    if class_falls is not None and falls.by_total is not None:
        result.addcmul_(class_falls, falls.by_total)
    result.scatter_add_(1, label, -falls.by_log_p)
    if result is not gradient:
        gradient.copy_(result)
    return falls.value


def _losses_of_two_classes(
    logits: Tensor, label: Tensor, weight: Tensor | None, loss: LabelEquation, gradient: Tensor | None
) -> Tensor:
    """The same out of the difference of the two logits: nothing has to be gathered."""
    logits = logits.to(precise(logits.dtype))
    side = label.to(logits.dtype).mul_(2).sub_(1)
    classes = LabelAndOther((logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]) * side)
    given, total = classes.label, loss.class_total(classes)
    if gradient is None:
        value = loss.equation(given, total.value)
        return value if weight is None else weight * value
    falls = loss.falls(given, total.value).weighted(weight)
    fall = torch.addcmul(falls.by_log_p, given.p, _share_of_p(falls, total), value=-1)
    if total.fall is not None and falls.by_total is not None:
        fall.addcmul_(total.fall(given), falls.by_total, value=-1)
    torch.mul(fall, side, out=gradient[:, :1])
    torch.neg(gradient[:, :1], out=gradient[:, -1:])
    return falls.value


def _share_of_p(falls: Falls, total: ClassTotal) -> Tensor:
    """What p_c is multiplied by in the gradient: a - b sum of f_k."""
    if total.fall_sum is None or falls.by_total is None:
        return falls.by_log_p
    return torch.addcmul(falls.by_log_p, total.fall_sum, falls.by_total, value=-1)
