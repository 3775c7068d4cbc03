"""Confident learning's counts as loops over all voxels at once, from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence


def thresholds(probabilities: Sequence[Sequence[float]], labels: Sequence[int], classes: int) -> list[float]:
    """Mean p_c over the voxels labelled c; infinite for a class without any."""
    means = []
    for c in range(classes):
        own = [p[c] for p, label in zip(probabilities, labels, strict=True) if label == c]
        means.append(math.fsum(own) / len(own) if own else math.inf)
    return means


def joint_counts(probabilities: Sequence[Sequence[float]], labels: Sequence[int], classes: int) -> list[list[int]]:
    """Counts of (given class, the most probable of the classes whose threshold is reached)."""
    limits = thresholds(probabilities, labels, classes)
    counts = [[0] * classes for _ in range(classes)]
    for p, label in zip(probabilities, labels, strict=True):
        reached = [c for c in range(classes) if p[c] >= limits[c]]
        if reached:
            counts[label][max(reached, key=lambda c: p[c])] += 1
    return counts


def calibrated(counts: Sequence[Sequence[int]], labels: Sequence[int]) -> list[list[float]]:
    """Rows scaled to the class counts, the whole to 1."""
    sizes = [sum(label == c for label in labels) for c in range(len(counts))]
    rows = []
    for c, row in enumerate(counts):
        share = [n / sum(row) for n in row] if sum(row) else [float(j == c) for j in range(len(counts))]
        rows.append([sizes[c] * s / sum(sizes) for s in share])
    return rows
