"""Losses of peers that choose voxels for each other, one voxel after the other in plain Python.

Independent of sorting on tensors, masks, log-softmax and gathering.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

Values = Sequence[float]
Choice = Callable[[Values], list[bool]]


@dataclass(frozen=True)
class Voxel:
    """One voxel of one problem of exclusive classes: p of every peer and class, its label, and where it belongs."""

    p: list[list[float]]
    label: int
    weight: float
    channel: int
    sample: int


def exclusive(logits: Tensor, target: Tensor, peers: int, weight: Tensor | None = None) -> list[Voxel]:
    """Voxels of logits (B, N C, *S) and class indices (B, 1, *S)."""
    flat, labels, weights = _flat(logits), _flat(target), None if weight is None else _flat(weight)
    classes = len(flat[0]) // peers
    voxels = []
    for sample, channels in enumerate(flat):
        for v in range(len(channels[0])):
            p = [_softmax([channels[n * classes + c][v] for c in range(classes)]) for n in range(peers)]
            share = 1.0 if weights is None else weights[sample][0][v]
            voxels.append(Voxel(p, int(labels[sample][0][v]), share, 0, sample))
    return voxels


def independent(logits: Tensor, target: Tensor, peers: int, weight: Tensor | None = None) -> list[Voxel]:
    """Voxels of logits (B, N K, *S) and binary channels (B, K, *S), a two-class problem per channel."""
    flat, labels, weights = _flat(logits), _flat(target), None if weight is None else _flat(weight)
    structures = len(flat[0]) // peers
    voxels = []
    for sample, channels in enumerate(flat):
        for k in range(structures):
            for v in range(len(channels[0])):
                p = [_softmax([0.0, channels[n * structures + k][v]]) for n in range(peers)]
                share = 1.0 if weights is None else weights[sample][0][v]
                voxels.append(Voxel(p, int(labels[sample][k][v]), share, k, sample))
    return voxels


def smallest(values: Values, voxels: Sequence[Voxel], forget: Sequence[Sequence[float]], scope: str) -> list[bool]:
    """Sort the counted voxels of every class by value, the earlier of equal ones first, and cut the head off."""
    members = defaultdict(list)
    for number, voxel in enumerate(voxels):
        if voxel.weight > 0:
            members[voxel.channel, voxel.label, voxel.sample if scope == "image" else None].append(number)
    keep = [voxel.weight > 0 for voxel in voxels]
    for (channel, label, _), numbers in members.items():
        ranked = sorted(numbers, key=lambda number: (-values[number], number))
        for number in ranked[: int(forget[channel][label] * len(numbers))]:
            keep[number] = False
    return keep


def class_balanced(values: Values, voxels: Sequence[Voxel], keep: Sequence[bool]) -> float:
    sums: dict[tuple[int, int], float] = defaultdict(float)
    weights: dict[tuple[int, int], float] = defaultdict(float)
    for value, voxel, kept in zip(values, voxels, keep, strict=True):
        if kept:
            sums[voxel.channel, voxel.label] += voxel.weight * value
            weights[voxel.channel, voxel.label] += voxel.weight
    means = [sums[group] / weights[group] for group in sums]
    return sum(means) / len(means) if means else 0.0


def cross_entropies(voxels: Sequence[Voxel], peer: int) -> list[float]:
    return [-math.log(voxel.p[peer][voxel.label]) for voxel in voxels]


def kl(p: Values, q: Values) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def co_teaching(voxels: Sequence[Voxel], small: Choice) -> float:
    first, second = cross_entropies(voxels, 0), cross_entropies(voxels, 1)
    return class_balanced(first, voxels, small(second)) + class_balanced(second, voxels, small(first))


def jocor(voxels: Sequence[Voxel], small: Choice, lam: float) -> float:
    values = []
    for voxel in voxels:
        p, q = voxel.p
        supervised = -math.log(p[voxel.label]) - math.log(q[voxel.label])
        values.append((1 - lam) * supervised + lam * (kl(p, q) + kl(q, p)))
    return class_balanced(values, voxels, small(values))


def tri_network(voxels: Sequence[Voxel], small: Choice, rule: str) -> float:
    losses = [cross_entropies(voxels, peer) for peer in range(3)]
    total = 0.0
    for own in range(3):
        one, other = (losses[peer] for peer in range(3) if peer != own)
        if rule == "agreement":
            keep = small([abs(a - b) for a, b in zip(one, other, strict=True)])
        else:
            keep = [a and b for a, b in zip(small(one), small(other), strict=True)]
        total += class_balanced(losses[own], voxels, keep)
    return total


def _softmax(logits: Values) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / sum(powers) for power in powers]


def _flat(tensor: Tensor) -> list[list[list[float]]]:
    return tensor.detach().double().flatten(2).tolist()
