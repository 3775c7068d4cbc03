"""Sums of errors over the voxels of every sample and class, and their gradients, block by block."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .blocks import blocks, cut
from .voxel_target import precise

__all__ = ["region_sums"]


def region_sums(
    logits: Tensor, label: Tensor, weight: Tensor | None, *, gamma: float, sizes: bool, sigmoid: bool
) -> Tensor:
    r"""Weighted sums of errors, and of sizes if wanted, over the voxels of every sample and class.

    .. math:: \sum_u w_u |p_u - g_u|^\gamma, \qquad \sum_u w_u (p_u^2 + g_u^2)

    The probabilities and :math:`e = |p - g|^{\gamma - 1} \mathrm{sign}(p - g)`, of which the error e (p - g) and its
    slope gamma e are made, are kept for the backward pass; everything else goes block by block. Second derivatives,
    derivatives by a soft label or by the weight, and compiled code take the plain sums instead.

    Args:
        logits: any floating type; half precision is computed in float32.
        label: class indices, int64, or values per class.
        weight: per voxel or per sample, or None.
        gamma: exponent from 1 to 2.
        sizes: whether to give the second sum.
        sigmoid: whether the channels are independent; otherwise they exclude one another.

    Shape:
        logits (B, C, V); label (B, 1, V) or (B, C, V); weight (B, 1, V) or (B, 1, 1); result (B, K, C), K sums.
    """
    if torch.compiler.is_compiling():
        return _plain_sums(logits, label, weight, gamma, sizes, sigmoid)
    return _RegionSums.apply(logits, label, weight, gamma, sizes, sigmoid)


def _plain_sums(
    logits: Tensor, label: Tensor, weight: Tensor | None, gamma: float, sizes: bool, sigmoid: bool
) -> Tensor:
    p = _probabilities(logits, sigmoid)
    g = label.to(p.dtype) if label.shape == p.shape else torch.zeros_like(p).scatter_(1, label, 1.0)
    terms = [(p - g).abs() ** gamma, *([p * p + g * g] if sizes else [])]
    return torch.stack([_weighted_sum(term, weight) for term in terms], 1)


def _probabilities(logits: Tensor, sigmoid: bool) -> Tensor:
    dtype = precise(logits.dtype)
    return logits.to(dtype).sigmoid() if sigmoid else torch.softmax(logits, 1, dtype=dtype)


def _weighted_sum(term: Tensor, weight: Tensor | None) -> Tensor:
    return (term if weight is None else term * weight).sum(2)


class _RegionSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, label: Tensor, weight: Tensor | None, gamma: float, sizes: bool, sigmoid: bool
    ) -> Tensor:
        p = _probabilities(logits, sigmoid)
        errors = torch.empty_like(p)
        sums: dict[int, list[Tensor]] = {}
        for block in blocks(p):
            terms = _terms(p[block], label[block], gamma, sizes, errors[block])
            parts = torch.stack([_weighted_sum(term, cut(weight, block)) for term in terms], 1)
            sums.setdefault(block[0].start, []).append(parts)
        ctx.save_for_backward(logits, label, weight, p)
        ctx.settings = gamma, sizes, sigmoid
        ctx.errors = errors if ctx.needs_input_grad[0] else None
        return torch.cat([torch.stack(parts).sum(0) for parts in sums.values()])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, label, weight, p = ctx.saved_tensors
        if torch.is_grad_enabled() or any(ctx.needs_input_grad[1:3]):
            return *_plain_gradients(ctx, upstream), None, None, None
        gamma, sizes, sigmoid = ctx.settings
        errors, ctx.errors = ctx.errors, None
        if errors is None:  # handed over as the gradient by an earlier call
            errors = torch.empty_like(p)
            for block in blocks(p):
                _terms(p[block], label[block], gamma, sizes, errors[block])
        by_error, by_size = gamma * upstream[:, 0, :, None], 2 * upstream[:, -1, :, None]
        for block in blocks(p):
            slope = errors[block].mul_(by_error[block[0]])
            if sizes:
                slope.addcmul_(p[block], by_size[block[0]])
            slope.mul_(p[block])
            if weight is not None:
                slope.mul_(cut(weight, block))
            slope.addcmul_(p[block], slope if sigmoid else slope.sum(1, keepdim=True), value=-1)
        return errors.to(logits.dtype), None, None, None, None, None


def _terms(p: Tensor, label: Tensor, gamma: float, sizes: bool, errors: Tensor) -> list[Tensor]:
    """What is to be summed over one block; ``errors`` is overwritten by e of :func:`region_sums`."""
    if label.shape == p.shape:
        difference = torch.sub(p, label.to(p.dtype), out=errors)
    else:
        difference = errors.copy_(p).scatter_add_(1, label, p.new_full((1, 1, 1), -1.0).expand_as(label))
    terms = []
    if sizes:
        g = p - difference
        terms = [torch.addcmul(p * p, g, g)]
    if gamma == 2:
        return [difference * difference, *terms]
    size = difference.abs()
    power = size ** (gamma - 1)
    torch.copysign(power, difference, out=errors)
    return [size.mul_(power), *terms]


def _plain_gradients(ctx: Any, upstream: Tensor) -> list[Tensor | None]:
    """Gradients by logits, label and weight, where needed, left to autograd."""
    logits, label, weight, *_ = ctx.saved_tensors
    with torch.enable_grad():
        value = _plain_sums(logits, label, weight, *ctx.settings)
    wanted = [tensor for tensor, needed in zip((logits, label, weight), ctx.needs_input_grad, strict=False) if needed]
    found = iter(torch.autograd.grad(value, wanted, upstream, create_graph=torch.is_grad_enabled()))
    return [next(found) if needed else None for needed in ctx.needs_input_grad[:3]]
