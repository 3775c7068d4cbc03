"""Sums of errors over the voxels of every sample and class, and their gradients, block by block."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from .blocks import blocks
from .voxel_target import precise

__all__ = ["RegionTerms", "region_sums"]


class RegionTerms(Protocol):
    """K functions of a probability p and its difference d = p - g to the label, to be summed over voxels."""

    def terms(self, p: Tensor, difference: Tensor) -> tuple[Tensor, ...]:
        """The K functions, element by element."""
        ...

    def slope(self, p: Tensor, difference: Tensor, upstream: Tensor) -> Tensor:
        """Their derivatives by p, times the K channels (B, K, C, 1) of upstream, added up, as a new tensor."""
        ...


def region_sums(logits: Tensor, label: Tensor, weight: Tensor | None, loss: RegionTerms, *, sigmoid: bool) -> Tensor:
    r"""Weighted sums over the voxels, of every sample and class.

    Probabilities and differences are kept for the backward pass; everything else goes block by block. Second
    derivatives, derivatives by a soft label or by the weight, and compiled code take the plain sums instead.

    Args:
        logits: any floating type; half precision is computed in float32.
        label: int64 class indices or values per class.
        weight: per voxel or per sample, or None.
        loss: the K functions.
        sigmoid: whether the channels are independent; otherwise they exclude one another.

    Shape:
        logits (B, C, V); label (B, 1, V) or (B, C, V); weight (B, 1, V) or (B, 1, 1); result (B, K, C).
    """
    if torch.compiler.is_compiling():
        return _plain_sums(logits, label, weight, loss, sigmoid)
    return _RegionSums.apply(logits, label, weight, loss, sigmoid)


def _plain_sums(logits: Tensor, label: Tensor, weight: Tensor | None, loss: RegionTerms, sigmoid: bool) -> Tensor:
    return _weighted_sums(loss.terms(*_errors(logits, label, sigmoid)), weight)


def _weighted_sums(terms: tuple[Tensor, ...], weight: Tensor | None) -> Tensor:
    return torch.stack([(term if weight is None else term * weight).sum(2) for term in terms], 1)


def _errors(logits: Tensor, label: Tensor, sigmoid: bool) -> tuple[Tensor, Tensor]:
    """Probabilities p and p - g."""
    dtype = precise(logits.dtype)
    p = logits.to(dtype).sigmoid() if sigmoid else torch.softmax(logits, 1, dtype=dtype)
    if label.shape[1] == logits.shape[1]:
        return p, p - label.to(dtype)
    return p, p.scatter_add(1, label, p.new_full((1, 1, 1), -1.0).expand_as(label))


class _RegionSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, label: Tensor, weight: Tensor | None, loss: RegionTerms, sigmoid: bool
    ) -> Tensor:
        p, difference = _errors(logits, label, sigmoid)
        sums: dict[int, list[Tensor]] = {}
        for block in blocks(logits):
            terms = loss.terms(p[block], difference[block])
            sums.setdefault(block[0].start, []).append(_weighted_sums(terms, _cut(weight, block)))
        ctx.save_for_backward(logits, label, weight, p, difference)
        ctx.loss, ctx.sigmoid = loss, sigmoid
        return torch.cat([torch.stack(parts).sum(0) for parts in sums.values()])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, _, weight, p, difference = ctx.saved_tensors
        if torch.is_grad_enabled() or any(ctx.needs_input_grad[1:3]):
            return *_plain_gradients(ctx, upstream), None, None
        gradient = torch.empty_like(logits)
        for block in blocks(logits):
            slope = ctx.loss.slope(p[block], difference[block], upstream[block[0], ..., None])
            w = _cut(weight, block)
            slope = slope.mul_(p[block]) if w is None else slope.mul_(p[block]).mul_(w)
            through = slope if ctx.sigmoid else slope.sum(1, keepdim=True)
            gradient[block] = torch.addcmul(slope, p[block], through, value=-1)
        return gradient, None, None, None, None


def _plain_gradients(ctx: Any, upstream: Tensor) -> list[Tensor | None]:
    """Gradients by logits, label and weight, where needed, left to autograd."""
    logits, label, weight, *_ = ctx.saved_tensors
    with torch.enable_grad():
        value = _plain_sums(logits, label, weight, ctx.loss, ctx.sigmoid)
    wanted = [tensor for tensor, needed in zip((logits, label, weight), ctx.needs_input_grad, strict=False) if needed]
    found = iter(torch.autograd.grad(value, wanted, upstream, create_graph=torch.is_grad_enabled()))
    return [next(found) if needed else None for needed in ctx.needs_input_grad[:3]]


def _cut(weight: Tensor | None, block: tuple[slice, slice, slice]) -> Tensor | None:
    if weight is None or weight.shape[2] > 1:
        return None if weight is None else weight[block]
    return weight[block[0]]
