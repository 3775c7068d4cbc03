"""Label cleansing of Dong et al., equations 4 to 6, written as the paper's loops over grids and pixels.

Plain Python on float64 numpy vectors, one pair of vectors at a time, with no identity used: an independent
check of the linear form, and its opponent in the benchmark.
"""

from __future__ import annotations

import itertools
import math

import numpy as np


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    length = math.sqrt(float(first.dot(first)) * float(second.dot(second)))
    return float(first.dot(second)) / length if length > 0 else 0.0


def grids(shape: tuple[int, ...], cells: int) -> list[list[tuple[int, ...]]]:
    """The voxel positions of every grid, grids in the order of their first corner."""
    edge = max(1, round(max(shape) / cells))
    corners = itertools.product(*[range(0, size, edge) for size in shape])
    return [
        list(itertools.product(*[range(low, min(low + edge, size)) for low, size in zip(corner, shape, strict=True)]))
        for corner in corners
    ]


def grid_features(features: np.ndarray, region: np.ndarray, cells: int) -> list[np.ndarray]:
    """Equation 4 for the grids that hold voxels of the region."""
    result = []
    for grid in grids(region.shape, cells):
        inside = [features[(slice(None), *position)] for position in grid if region[position]]
        if inside:
            result.append(sum(inside) / len(inside))
    return result


def representation_degrees(grid_features: list[np.ndarray]) -> list[float]:
    """Equation 5: the double loop over pairs of grids."""
    return [sum(cosine(one, other) for other in grid_features) for one in grid_features]


def prototypes(features: np.ndarray, region: np.ndarray, cells: int, sigma: float) -> list[np.ndarray]:
    candidates = grid_features(features, region, cells)
    degrees = representation_degrees(candidates)
    low, high = min(degrees), max(degrees)
    return [
        candidate
        for candidate, degree in zip(candidates, degrees, strict=True)
        if high == low or (degree - low) / (high - low) > sigma
    ]


def foreground_probability(features: np.ndarray, prototypes: list[np.ndarray]) -> np.ndarray:
    """Equation 6: the double loop over pixels and prototypes."""
    probability = np.zeros(features.shape[1:])
    for position in np.ndindex(probability.shape):
        feature = features[(slice(None), *position)]
        probability[position] = sum(cosine(feature, prototype) for prototype in prototypes) / len(prototypes)
    return probability


def pseudo_label(
    features: np.ndarray, region: np.ndarray, cells: int = 64, sigma: float = 0.7, mu: float = 0.7
) -> np.ndarray:
    """The new binary mask of one structure, before post-processing."""
    features = features.astype(np.float64)
    return foreground_probability(features, prototypes(features, region, cells, sigma)) > mu
