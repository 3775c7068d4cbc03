"""Superpixel-guided learning of Li et al., equations 1 to 8, as loops over superpixels and pixels.

Plain Python numbers and numpy indexing, one image at a time, no sums over anything but a list of pixels: an
independent check of the vectorised form, and, with the one-hot mean, its opponent in the benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Losses = dict[int, float]


def members(ids: np.ndarray) -> dict[int, list[tuple[int, ...]]]:
    """Pixels of every superpixel; negative ids are outside."""
    found: dict[int, list[tuple[int, ...]]] = {}
    for position in np.ndindex(ids.shape):
        if ids[position] >= 0:
            found.setdefault(int(ids[position]), []).append(position)
    return found


def means(values: np.ndarray, ids: np.ndarray) -> dict[int, list[float]]:
    """Equation 1 for maps (C, *S)."""
    return {
        k: [sum(float(channel[position]) for position in pixels) / len(pixels) for channel in values]
        for k, pixels in members(ids).items()
    }


def soft_labels(label: np.ndarray, ids: np.ndarray, num_classes: int) -> dict[int, list[float]]:
    """Equation 1 for a label (*S)."""
    return means(np.stack([label == c for c in range(num_classes)]), ids)


def joint_loss(p: Sequence[float], q: Sequence[float], y: Sequence[float], lam: float) -> float:
    """Equation 2 for one superpixel or one pixel."""
    ce = -sum(y_c * math.log(p_c) for p_c, y_c in zip(p, y, strict=True) if y_c)
    ce += -sum(y_c * math.log(q_c) for q_c, y_c in zip(q, y, strict=True) if y_c)
    kl = sum(p_c * math.log(p_c / q_c) + q_c * math.log(q_c / p_c) for p_c, q_c in zip(p, q, strict=True))
    return (1 - lam) * ce + lam * kl


def superpixel_losses(p: np.ndarray, q: np.ndarray, label: np.ndarray, ids: np.ndarray, lam: float = 0.65) -> Losses:
    """Equation 2 for every superpixel of an image."""
    first, second, labels = means(p, ids), means(q, ids), soft_labels(label, ids, len(p))
    return {k: joint_loss(first[k], second[k], labels[k], lam) for k in labels}


def select(losses: Losses, sizes: dict[int, int], keep_rate: Fraction) -> set[int]:
    """Equation 3: superpixels of smallest loss, one after the other, until they hold the share."""
    wanted, held, chosen = keep_rate * sum(sizes.values()), 0, set()
    for k in sorted(losses, key=lambda k: (losses[k], k)):
        if held >= wanted:
            break
        chosen.add(k)
        held += sizes[k]
    return chosen


def training_loss(
    p: np.ndarray, q: np.ndarray, label: np.ndarray, ids: np.ndarray, chosen: set[int], lam: float = 0.65
) -> float:
    """Equation 4: mean over the pixels of the chosen superpixels."""
    values = []
    for position in np.ndindex(ids.shape):
        if int(ids[position]) in chosen:
            one_hot = [float(label[position] == c) for c in range(len(p))]
            values.append(joint_loss(p[(slice(None), *position)], q[(slice(None), *position)], one_hot, lam))
    return sum(values) / len(values)


def gap(losses: Losses, chosen: set[int]) -> float:
    """Equation 5."""
    rest = [loss for k, loss in losses.items() if k not in chosen]
    selected = [losses[k] for k in chosen]
    return sum(rest) / len(rest) - sum(selected) / len(selected)


def unreliable(losses: Losses, sizes: dict[int, int], keep_rate: Fraction) -> set[int]:
    """Equation 6: superpixels of largest loss, one after the other, as long as they hold no more than the share."""
    allowed, held, chosen = (1 - keep_rate) * sum(sizes.values()), 0, set()
    for k in sorted(losses, key=lambda k: (losses[k], k), reverse=True):
        if held + sizes[k] > allowed:
            break
        chosen.add(k)
        held += sizes[k]
    return chosen


def refined(p: np.ndarray, q: np.ndarray, label: np.ndarray, ids: np.ndarray, chosen: set[int]) -> np.ndarray:
    """Equations 7 and 8."""
    first, second = means(p, ids), means(q, ids)
    result = label.copy()
    for position in np.ndindex(ids.shape):
        k = int(ids[position])
        if k in chosen:
            averaged = [(a + b) / 2 for a, b in zip(first[k], second[k], strict=True)]
            result[position] = averaged.index(max(averaged))
    return result


def one_hot_means(values: Tensor, ids: Tensor) -> Tensor:
    """Equation 1 by an array of all pixels times all superpixels, (B, C, *S) and (B, 1, *S) to (B, C, K)."""
    rows = []
    for value, index in zip(values.flatten(2), ids.flatten(1).long(), strict=True):
        one_hot = F.one_hot(index).to(value.dtype)
        rows.append(torch.stack([(channel[:, None] * one_hot).sum(0) for channel in value]) / one_hot.sum(0))
    return torch.stack(rows)
