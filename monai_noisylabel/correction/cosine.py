"""Cosine similarity of feature maps in float32 or wider, whatever type the network computes in."""

from __future__ import annotations

import torch

__all__ = ["check_features", "cosines", "unit_vectors", "widened"]


def widened(values: torch.Tensor) -> torch.Tensor:
    """The same values as a plain tensor of float32, or of float64 where they are float64."""
    return values.as_subclass(torch.Tensor).to(torch.promote_types(values.dtype, torch.float32))


def unit_vectors(vectors: torch.Tensor) -> torch.Tensor:
    """Rows of (N, d) scaled to length one; zero rows stay zero."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths.clamp_min(torch.finfo(vectors.dtype).tiny)


def cosines(features: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    r"""Inner products of the unit feature of every voxel with each direction.

    Args:
        features: feature map of one sample; a voxel with a zero feature has product 0 with everything.
        directions: vectors that are not normalised here: unit vectors give cosines, mean unit vectors mean
            cosines.

    Shape:
        features (d, \*S), directions (K, d); result (K, N) over the N voxels.

    Raises:
        ValueError: if a feature is not finite or too large to be squared.

    Example:
        >>> features = torch.tensor([[3.0, 0.0], [4.0, 0.0]]).view(2, 1, 2)
        >>> cosines(features, torch.tensor([[1.0, 0.0], [0.0, 1.0]])).numpy().round(3).tolist()
        [[0.6, 0.0], [0.8, 0.0]]
    """
    flat = widened(features).flatten(1)
    squares = flat.new_zeros(flat.shape[1])
    for channel in flat:  # accumulating channels is several times faster than a norm across the strided axis
        squares.addcmul_(channel, channel)
    if not torch.isfinite(squares).all():
        raise ValueError("features holds NaN, infinity or values too large to square: the network has diverged.")
    with torch.autocast(flat.device.type, enabled=False):
        products = directions.to(flat.dtype) @ flat
    return products.mul_(squares.clamp_min_(torch.finfo(flat.dtype).tiny).rsqrt_())


def check_features(features: torch.Tensor) -> None:
    """ValueError unless the features are a floating-point map (d, *S)."""
    if features.ndim < 2 or not features.is_floating_point():
        shape = tuple(features.shape)
        raise ValueError(f"features must be floating point of shape (d, *S), got {features.dtype} {shape}.")
