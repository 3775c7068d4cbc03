"""Confident learning's calibration and pruning rules by sorting all voxels at once, from their definitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from reference.confident_counting import joint_counts, thresholds

Rows = Sequence[Sequence[float]]


def calibrated(counts: Sequence[Sequence[int]], sizes: Sequence[int]) -> list[list[int]]:
    """Rows that sum to the class sizes; one voxel after the other goes to the entry that lacks most."""
    result = []
    for own, (row, size) in enumerate(zip(counts, sizes, strict=True)):
        if sum(row) == 0:
            row = [int(j == own) for j in range(len(row))]
        exact = [Fraction(size * n, sum(row)) for n in row]
        whole = [int(value) for value in exact]
        while sum(whole) < size:
            lack = [value - count for value, count in zip(exact, whole, strict=True)]
            most = [j for j in range(len(row)) if lack[j] == max(lack)]
            whole[own if own in most else most[0]] += 1
        result.append(whole)
    return result


def last_of(scores: Sequence[float], number: int) -> Callable[[float], bool]:
    """Whether a score is among the largest ``number``, ties with the last of them included."""
    limit = sorted(scores, reverse=True)[number - 1] if number else float("inf")
    return lambda score: score >= limit


def errors(probabilities: Rows, labels: Sequence[int], classes: int, rule: str) -> list[bool]:
    """The verdict on every voxel."""
    joint = calibrated(joint_counts(probabilities, labels, classes), [labels.count(c) for c in range(classes)])
    voxels = list(zip(probabilities, labels, strict=True))
    low = {
        i: last_of([-p[i] for p, label in voxels if label == i], labels.count(i) - joint[i][i]) for i in range(classes)
    }
    wide = {
        (i, j): last_of([p[j] - p[i] for p, label in voxels if label == i], joint[i][j])
        for i in range(classes)
        for j in range(classes)
        if i != j
    }
    limits = thresholds(probabilities, labels, classes)
    return [
        p[label] < max(p)
        and {
            "prune_by_class": lambda p=p, i=label: low[i](-p[i]),
            "prune_by_noise_rate": lambda p=p, i=label: any(wide[i, j](p[j] - p[i]) for j in range(classes) if j != i),
            "both": lambda p=p, i=label: (
                low[i](-p[i]) and any(wide[i, j](p[j] - p[i]) for j in range(classes) if j != i)
            ),
            "off_diagonal": lambda p=p, i=label: off_diagonal(p, i, limits),
        }[rule]()
        for p, label in voxels
    ]


def off_diagonal(p: Sequence[float], label: int, limits: Sequence[float]) -> bool:
    """Whether the most probable of the classes that reach their threshold is another one than the label."""
    reached = [c for c in range(len(p)) if p[c] >= limits[c]]
    return bool(reached) and max(reached, key=lambda c: p[c]) != label
