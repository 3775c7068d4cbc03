"""Binary cross entropy of affinities between voxels, block of rows by block of rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .voxel_target import precise

__all__ = ["affinity_loss", "sampled_rows"]

LEAST = 1e-6
"""Probabilities below it count as it and have no gradient."""
BLOCK_ON_CPU = 2**17
"""Pairs per block: a MiB for all temporaries. Half or twice of it is not faster."""
BLOCK_ON_DEVICE = 2**24


def affinity_loss(
    features: Tensor,
    label: Tensor,
    transition: Tensor | None = None,
    weight: Tensor | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    r"""Mean over pairs of voxels of the cross entropy between their affinity and whether their labels are the same.

    .. math::
        L = -\frac{1}{N^2} \sum_{ij} \log q_{ij}^{[y_i = y_j]} (1 - q_{ij})^{[y_i \ne y_j]}, \qquad
        q = (1 - a) T_{01} + a T_{11}, \quad a_{ij} = x_i \cdot x_j

    with T the matrix by which pairs are mislabelled, if one is given, and q = a otherwise. Half as many pairs are wrong
    as voxels are, roughly, so the pairs tell the truth about features more often than the labels do about voxels. Not
    for structures of less than a cell of the grid.

    Value and gradient are computed together, one block of rows after the other and each unordered pair once; an N x N
    matrix is never held, and the backward pass only hands the gradient over: O(N (d + block)) memory, O(N^2 d) time.

    Args:
        features: non-negative vectors of length 1 or 0.
        label: class of each voxel.
        transition: T, rows: pairs of different classes, of one class; columns: the same, of noisy labels. Rows sum
            to 1: the first column is not read.
        weight: per voxel; a pair counts as the product.
        rows: indices of voxels whose pairs (with all voxels) are to be taken, for an estimate without bias where N^2
            is too many (:func:`sampled_rows`); None for all.

    Shape:
        features (n, N, d); label (n, N); transition (n, 2, 2); weight (n, N); rows (M,); result: a scalar in float32,
        or float64 for float64 features. The mean over all n (weighted by their pairs' weights); 0 without weight.

    Raises:
        RuntimeError: if its gradient is to be differentiable itself.

    Example:
        >>> features = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]])  # a = 0.6
        >>> affinity_loss(features, torch.tensor([[1, 1]])).item()  # two of four pairs at -log 0.6
        0.2554
        >>> affinity_loss(features, torch.tensor([[1, 2]])).item()  # at -log 0.4
        0.4581

    References:
        X. Guo and Y. Yuan, Joint class-affinity loss correction for robust medical image segmentation with noisy
        labels, MICCAI 2022.
    """
    features = features.to(precise(features.dtype))
    kept = torch.ones_like(label, dtype=features.dtype) if weight is None else weight.to(features.dtype)
    chosen = kept if rows is None else kept[:, rows]
    pairs = (chosen.sum(1, dtype=torch.float64) * kept.sum(1, dtype=torch.float64)).sum()
    noise = torch.eye(2, device=features.device).expand(len(label), 2, 2) if transition is None else transition
    total: Tensor = _AffinityLoss.apply(
        features, label, noise.to(features.dtype), None if weight is None else kept, rows
    )
    return total / torch.where(pairs > 0, pairs, 1).to(total.dtype)


def sampled_rows(voxels: int, max_pairs: int, generator: torch.Generator) -> Tensor | None:
    """Indices of as many voxels, drawn without repetition, as have ``max_pairs`` pairs with all; None if all do.

    Example:
        >>> sampled_rows(4096, 2**24, torch.Generator()) is None
        True
        >>> len(sampled_rows(32**3, 2**24, torch.Generator()))
        512
    """
    count = max(1, max_pairs // voxels)
    return None if count >= voxels else torch.randperm(voxels, generator=generator)[:count]


class _AffinityLoss(torch.autograd.Function):
    """Sum over pairs; the gradient is kept for the backward pass, for an upstream gradient of 1."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, label: Tensor, transition: Tensor, weight: Tensor | None, rows: Tensor | None
    ) -> Tensor:
        ctx.by_features = torch.zeros_like(features) if ctx.needs_input_grad[0] else None
        by_noise = torch.zeros(len(label), 2, dtype=torch.float64, device=features.device)
        sums = []
        for n in range(len(label)):
            problem = _Pairs(features[n], label[n], transition[n, :, 1], None if weight is None else weight[n])
            by_vectors = None if ctx.by_features is None else ctx.by_features[n]
            sums += problem.sum(rows, by_vectors, by_noise[n])
        ctx.by_transition = torch.stack([torch.zeros_like(by_noise), by_noise], -1).to(transition.dtype)
        return torch.stack(sums).sum().to(features.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph; the gradient that is kept would count as a constant
            raise RuntimeError("affinity_loss has no second derivatives: do not set create_graph.")
        by_features = None if ctx.by_features is None else ctx.by_features * upstream
        return by_features, None, ctx.by_transition * upstream, None, None


class _Pairs:
    """The pairs of one image.

    Args:
        vectors: (N, d).
        label: (N,).
        noise: T01 and T11, (2,).
        weight: (N,), or None.
    """

    def __init__(self, vectors: Tensor, label: Tensor, noise: Tensor, weight: Tensor | None) -> None:
        self.vectors, self.label, self.weight = vectors, label, weight
        self.low, self.rise = noise[0], noise[1] - noise[0]

    def sum(self, rows: Tensor | None, by_vectors: Tensor | None, by_noise: Tensor) -> list[Tensor]:
        """Sums of blocks in float64; gradients are added to those given."""
        voxels = len(self.label)
        values = BLOCK_ON_CPU if self.label.device.type == "cpu" else BLOCK_ON_DEVICE
        step = max(1, values // voxels)
        sums = []
        for start in range(0, voxels if rows is None else len(rows), step):
            if rows is None:  # pairs with earlier rows were counted twice there
                ahead, columns = slice(start, start + step), slice(start, None)
                sums.append(self._block(ahead, columns, step, by_vectors, by_noise))
            else:
                sums.append(self._block(rows[start : start + step], slice(None), voxels, by_vectors, by_noise))
        return sums

    def _block(
        self, rows: slice | Tensor, columns: slice, once: int, by_vectors: Tensor | None, by_noise: Tensor
    ) -> Tensor:
        """Sum over rows and columns, of which those from number ``once`` on count twice."""
        ours, theirs = self.vectors[rows], self.vectors[columns]
        affinity = (ours @ theirs.t()).clamp_(max=1)
        differs = self.label[rows, None] != self.label[columns]
        signed = torch.addcmul(self.low, affinity, self.rise).sub_(
            differs.to(affinity.dtype)
        )  # q, or q - 1 where labels differ
        chosen = signed.abs()
        slope = torch.where(chosen > LEAST, signed, torch.inf).reciprocal_()
        losses = chosen.clamp_(min=LEAST).log_()
        for values in (losses, slope):
            values[:, once:].mul_(2)
            if self.weight is not None:
                values.mul_(self.weight[rows, None]).mul_(self.weight[columns])
        if by_vectors is not None:
            through = slope * -self.rise
            by_vectors[rows] += through @ theirs
            by_vectors[columns] += through.t() @ ours
        with_affinity, alone = (slope * affinity).sum(dtype=torch.float64), slope.sum(dtype=torch.float64)
        by_noise -= torch.stack([alone - with_affinity, with_affinity])
        return -losses.sum(dtype=torch.float64)
