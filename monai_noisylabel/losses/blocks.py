"""Losses and their gradients block of voxels by block of voxels, so that no temporary is as large as the volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .voxel_target import precise

__all__ = ["ClassTotal", "LabelEquation", "Slopes", "label_loss"]

BLOCK_ON_CPU = 2**16
"""Values per block: a handful of temporaries of float32 stays in a core's cache."""
BLOCK_ON_DEVICE = 2**24


class ClassTotal(NamedTuple):
    """A sum over the classes of f(log p_c), falling functions, which a loss may be normalised by."""

    value: Tensor
    """S, of shape (B, 1, V); 1 for a loss without."""
    falls: Tensor | None = None
    """-f'(log p_c), to be broadcast to (B, C, V)."""
    fall_sum: Tensor | None = None
    """Their sum over the classes, to be broadcast to (B, 1, V)."""


class Slopes(NamedTuple):
    """A loss of every voxel and its derivatives."""

    value: Tensor
    by_log_p: Tensor
    by_total: Tensor | None = None
    """None where the loss does not depend on a sum over the classes."""


class LabelEquation(Protocol):
    """A loss that depends on the label's log-probability, and perhaps on one sum over the classes."""

    def class_total(self, log_p: Tensor) -> ClassTotal:
        """The sum over the classes."""
        ...

    def equation(self, log_p: Tensor, total: Tensor) -> Tensor:
        """The loss of a voxel whose label has the log-probability ``log_p``."""
        ...

    def slopes(self, log_p: Tensor, total: Tensor) -> Slopes:
        """The same with its derivatives."""
        ...


def label_loss(logits: Tensor, label: Tensor, loss: LabelEquation) -> Tensor:
    r"""The loss of every voxel under softmax, for class indices.

    With u = log p_y and S the sum over classes of f(log p_c), the gradient of l(u, S) is written down directly,

    .. math:: \partial l / \partial z_c = a ([c = y] - p_c) + b (f'_c - p_c \sum_k f'_k),
              \quad a = \partial l / \partial u, \ b = \partial l / \partial S,

    together with the value, one block after the other, which leaves one array of the size of the logits between
    forward and backward. Second derivatives and compiled code take the plain equation instead.

    Args:
        logits: any floating type; half precision is computed in float32.
        label: int64 class indices.
        loss: the equation.

    Shape:
        logits (B, C, V); label (B, 1, V); result (B, 1, V).
    """
    if torch.compiler.is_compiling():
        return plain_label_loss(logits, label, loss)
    return _LabelLoss.apply(logits, label, loss)


def plain_label_loss(logits: Tensor, label: Tensor, loss: LabelEquation) -> Tensor:
    """The same as :func:`label_loss`, left to autograd."""
    log_p = F.log_softmax(logits, 1, dtype=precise(logits.dtype))
    return loss.equation(log_p.gather(1, label), loss.class_total(log_p).value)


class _LabelLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, loss: LabelEquation) -> Tensor:
        value = logits.new_empty((logits.shape[0], 1, logits.shape[2]), dtype=precise(logits.dtype))
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        for block in blocks(logits):
            log_p, given = F.log_softmax(logits[block], 1, dtype=value.dtype), label[block]
            total = loss.class_total(log_p)
            if gradient is None:
                value[block] = loss.equation(log_p.gather(1, given), total.value)
            else:
                slopes = loss.slopes(log_p.gather(1, given), total.value)
                value[block] = slopes.value
                _write_gradient(gradient[block], log_p, given, slopes, total)
        ctx.save_for_backward(logits, label, gradient)
        ctx.loss = loss
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        logits, label, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient itself is to be differentiable
            value = plain_label_loss(logits, label, ctx.loss)
            return torch.autograd.grad(value, logits, upstream, create_graph=True)[0], None, None
        return torch.mul(gradient, upstream, out=torch.empty_like(gradient)), None, None


def _write_gradient(gradient: Tensor, log_p: Tensor, label: Tensor, slopes: Slopes, total: ClassTotal) -> None:
    """The gradient of :func:`label_loss` by the logits of one block; overwrites the log-probabilities."""
    result = gradient if gradient.dtype == log_p.dtype else torch.empty_like(log_p)
    if total.falls is None or total.fall_sum is None or slopes.by_total is None:
        torch.mul(log_p.exp_(), -slopes.by_log_p, out=result)
    else:
        scale = torch.addcmul(slopes.by_log_p, total.fall_sum, slopes.by_total, value=-1).neg_()
        torch.mul(log_p.exp_(), scale, out=result)
        result.addcmul_(total.falls, slopes.by_total, value=-1)
    result.scatter_add_(1, label, slopes.by_log_p)
    if result is not gradient:
        gradient.copy_(result)


def blocks(tensor: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Indices that cut a tensor (B, C, V) into blocks fit for its device: whole samples, or runs of voxels of one."""
    samples, _, voxels = tensor.shape
    values = BLOCK_ON_CPU if tensor.device.type == "cpu" else BLOCK_ON_DEVICE
    several, run = (max(1, values * size // max(1, tensor.numel())) for size in (samples, samples * voxels))
    for sample in range(0, samples, several):
        for voxel in range(0, voxels, run):
            yield slice(sample, sample + several), slice(None), slice(voxel, voxel + run)
