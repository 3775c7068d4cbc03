"""Robust losses as sums over classes and voxels, straight from their definitions.

Plain Python floats, one voxel at a time, with the label written out as a vector: independent of log-softmax,
gathering, blocks and derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import mpmath  # type: ignore[import-untyped]

VoxelLoss = Callable[[Sequence[float], int], float]


def softmax(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / sum(powers) for power in powers]


def one_hot(label: int, classes: int) -> list[float]:
    return [float(c == label) for c in range(classes)]


def cross_entropy(p: Sequence[float], label: int) -> float:
    return -math.log(p[label])


def mean_absolute_error(p: Sequence[float], label: int) -> float:
    return sum(abs(a - b) for a, b in zip(p, one_hot(label, len(p)), strict=True))


def reverse_cross_entropy(p: Sequence[float], label: int) -> float:
    return -sum(a * math.log(max(b, 1e-4)) for a, b in zip(p, one_hot(label, len(p)), strict=True))


def symmetric_cross_entropy(p: Sequence[float], label: int) -> float:
    return 0.1 * cross_entropy(p, label) + reverse_cross_entropy(p, label)


def generalized_cross_entropy(p: Sequence[float], label: int, q: float = 0.7) -> float:
    return (1 - p[label] ** q) / q


def truncated(p: Sequence[float], label: int, k: float = 0.5) -> float:
    return generalized_cross_entropy(p if p[label] > k else [k] * len(p), label)


def normalized(loss: VoxelLoss, p: Sequence[float], label: int) -> float:
    return loss(p, label) / sum(loss(p, other) for other in range(len(p)))


def forward_corrected(transition: Sequence[Sequence[float]], p: Sequence[float], label: int) -> float:
    noisy = [sum(p[i] * transition[i][j] for i in range(len(p))) for j in range(len(p))]
    return cross_entropy(noisy, label)


def backward_corrected(transition: Sequence[Sequence[float]], p: Sequence[float], label: int) -> float:
    inverse = mpmath.matrix(transition) ** -1
    return float(sum(inverse[label, j] * cross_entropy(p, j) for j in range(len(p))))


def student_t_nll(squared_error: float, nu: float, dimensions: float, digits: int = 60) -> mpmath.mpf:
    """The printed equation with as many digits as its cancellation needs."""
    with mpmath.workdps(digits):
        error, nu, d = mpmath.mpf(squared_error), mpmath.mpf(nu), mpmath.mpf(dimensions)
        return (
            -mpmath.loggamma((nu + d) / 2)
            + mpmath.loggamma(nu / 2)
            + d / 2 * mpmath.log(mpmath.pi * nu)
            + (nu + d) / 2 * mpmath.log(1 + error / nu)
        )
