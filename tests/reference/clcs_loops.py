"""CLCS voxel by voxel in plain Python: thresholds, vote, and the loss of both sets.

Independent of masks, gathering, bin counts and log-softmax. Voxels are those of ``peer_losses``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .peer_losses import Voxel

Counts = dict[tuple[int, int, int], tuple[float, float]]
"""By branch, structure and class: voxels predicted so, and those of them with confidence."""


def running_counts(before: Counts, voxels: Sequence[Voxel], tau: float, momentum: float) -> Counts:
    """A batch taken in."""
    found: dict[tuple[int, int, int], list[float]] = {}
    for voxel in voxels:
        if voxel.weight > 0:
            for branch, p in enumerate(voxel.p):
                entry = found.setdefault((branch, voxel.channel, p.index(max(p))), [0.0, 0.0])
                entry[0] += 1
                entry[1] += max(p) > tau
    after = {}
    for key in {*before, *found}:
        old, new = before.get(key, (0.0, 0.0)), found.get(key, [0.0, 0.0])
        after[key] = tuple(momentum * o + (1 - momentum) * n for o, n in zip(old, new, strict=True))
    return after


def threshold(counts: Counts, branch: int, channel: int, label: int, status: str, tau: float) -> float:
    """Of one class, beside all of its structure."""

    def learned(c: int) -> float:
        predicted, confident = counts.get((branch, channel, c), (0.0, 0.0))
        if status == "count":
            return confident
        return confident / predicted if predicted else 0.0

    best = max(learned(c) for _, k, c in [*counts, (branch, channel, label)] if k == channel)
    beta = learned(label) / best if best else 0.0
    return tau * beta / (2 - beta)


def is_clean(voxel: Voxel, limits: Sequence[float]) -> bool:
    """Whether both branches predict the label, each above its threshold for it."""
    return all(p.index(max(p)) == voxel.label and max(p) > limit for p, limit in zip(voxel.p, limits, strict=True))


def loss(
    voxels: Sequence[Voxel], clean: Sequence[bool], noise_weight: float, mix: str, g: float, clip: float = 1e-4
) -> float:
    """Both sets, without the discrepancy."""
    total = 0.0
    for share, part in ((1.0, True), (noise_weight, False)):
        chosen = [voxel for voxel, is_one in zip(voxels, clean, strict=True) if is_one == part]
        weight = sum(voxel.weight for voxel in chosen)
        for voxel in chosen:
            if mix == "confidence":
                w = 1 - sum(max(p) for p in voxel.p) / 2
            else:
                w = sum(p[voxel.label] for p in voxel.p) / 2
            for p in voxel.p:
                ce, rce = -math.log(p[voxel.label]), -math.log(clip) * (1 - p[voxel.label])
                value = ce if part else w * ce + (1 - w) * g * rce
                total += share * voxel.weight * value / weight / 2
    return total


def discrepancy(first: Tensor, second: Tensor) -> float:
    """1 + the mean cosine of two feature maps (B, d, *S)."""
    cosines = []
    for a, b in zip(first.flatten(2).tolist(), second.flatten(2).tolist(), strict=True):
        for v in range(len(a[0])):
            x, y = [row[v] for row in a], [row[v] for row in b]
            lengths = math.hypot(*x) * math.hypot(*y)
            cosines.append(sum(i * j for i, j in zip(x, y, strict=True)) / lengths if lengths else 0.0)
    return 1 + sum(cosines) / len(cosines)
