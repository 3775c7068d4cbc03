"""Noise as the public code makes it, in plain steps: one image, one structure, one iteration after the other.

Dilation, erosion and affine noise after the description of the code of Li et al. (2021), the Markov chain after that
of Yao et al. (2023). An independent check of the fast forms, and their opponent in the benchmark.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import transform


def relative_boundary(mask: np.ndarray, ratio: float) -> np.ndarray:
    """Repeat a step to the face neighbours until the area has changed enough; of the last two, the nearer mask."""
    grow = ratio > 0
    area = int(mask.sum())
    target = area + int(area * abs(ratio)) * (1 if grow else -1)
    forbidden = mask.size if grow else 0
    current = previous = mask.copy()
    while (current.sum() < target if grow else current.sum() > target) and current.sum() != forbidden:
        previous = current.copy()
        current = ndimage.binary_dilation(current) if grow else ndimage.binary_erosion(current)
    if current.sum() == forbidden or abs(previous.sum() - target) < abs(current.sum() - target):
        return previous
    return current


def affine(mask: np.ndarray, angle: float, direction: tuple[int, int], ratio: float) -> np.ndarray:
    """Rotate with truncated interpolation, then search a whole number of steps down and to the right."""
    turned = transform.rotate(mask.astype(float), angle).astype(np.uint8)
    height, width = mask.shape
    left, right, moved = 0, 100, turned
    while left < right:
        step = (left + right) // 2
        moved = np.zeros_like(turned)
        for row in range(height):
            for column in range(width):
                source = (row - step * direction[0], column - step * direction[1])
                if min(source) >= 0:
                    moved[row, column] = turned[source]
        rate = (moved != mask).sum() / mask.sum()
        if rate == ratio:
            break
        if rate > ratio:
            right = step - 1
        else:
            left = step + 1
    return moved.astype(bool)


def wander(mask: np.ndarray, outwards: list[bool], generator: np.random.Generator, flip: float) -> np.ndarray:
    """The Markov chain on the whole grid: at every step the shell by a distance transform, then a coin per voxel."""
    current = mask.copy()
    for outward in outwards:
        inside = ~current if outward else current
        shell = ndimage.distance_transform_edt(inside) == 1
        changed = shell & (generator.random(mask.shape) < flip)
        if (current ^ changed).any():
            current = current ^ changed
    return current
