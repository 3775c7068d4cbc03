"""Affinity losses and reasoning written as the paper does, over all pairs at once or one by one."""

from __future__ import annotations

import torch
from torch import Tensor


def affinity_counts(clean: Tensor, noisy: Tensor) -> Tensor:
    """How many ordered pairs of voxels, each with itself included, are (clean same?, noisy same?)."""
    counts = torch.zeros(2, 2, dtype=torch.float64)
    pairs = list(zip(clean.flatten().tolist(), noisy.flatten().tolist(), strict=True))
    for clean_i, noisy_i in pairs:
        for clean_j, noisy_j in pairs:
            counts[int(clean_i == clean_j), int(noisy_i == noisy_j)] += 1
    return counts


def dense_affinity(features: Tensor) -> Tensor:
    """Cosines (B, N, N) of unit features (B, N, d)."""
    return features @ features.mT


def dense_reasoning(values: Tensor, features: Tensor) -> Tensor:
    """Mean of P + A1 P and P - A0 P, with both N x N matrices written out; values (B, C, N)."""
    affinity = dense_affinity(features)
    within = torch.nn.functional.normalize(affinity, p=1, dim=2)
    between = torch.nn.functional.normalize(1 - affinity, p=1, dim=2)
    map_ = values.mT
    intra, inter = map_ + within @ map_, map_ - between @ map_
    return ((intra + inter) / 2).mT


def dense_affinity_loss(
    features: Tensor, label: Tensor, transition: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Mean over pairs of the binary cross entropy of [1 - a, a] T against the label's affinity."""
    affinity = dense_affinity(features)
    both = torch.stack([1 - affinity, affinity], -1)
    if transition is not None:
        both = torch.einsum("bijk,bkl->bijl", both, transition)
    same = (label[:, :, None] == label[:, None, :]).long()
    loss = -both.clamp(min=1e-6).log().gather(-1, same[..., None])[..., 0]
    if weight is None:
        return loss.mean()
    pairs = weight[:, :, None] * weight[:, None, :]
    return (pairs * loss).sum() / pairs.sum()
