"""Runs of voxels that fit a core's caches, so that no temporary of a loss is as large as the volume."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

__all__ = ["Block", "blocks", "cut"]

BLOCK_ON_CPU = 2**18
"""Values per block: a few MiB for all temporaries. A quarter of it is slower by a fifth, twice of it no faster."""
BLOCK_ON_DEVICE = 2**24

Block = tuple[slice, slice, slice]


def blocks(tensor: Tensor) -> Iterator[Block]:
    """Indices that cut a tensor (B, C, V) into blocks fit for its device: whole samples, or runs of voxels of one."""
    samples, _, voxels = tensor.shape
    values = BLOCK_ON_CPU if tensor.device.type == "cpu" else BLOCK_ON_DEVICE
    several, run = (max(1, values * size // max(1, tensor.numel())) for size in (samples, samples * voxels))
    for sample in range(0, samples, several):
        for voxel in range(0, voxels, run):
            yield slice(sample, sample + several), slice(None), slice(voxel, voxel + run)


def cut(weight: Tensor | None, block: Block) -> Tensor | None:
    """The block's part of a weight (B, 1, V) or (B, 1, 1)."""
    if weight is None or weight.shape[2] > 1:
        return None if weight is None else weight[block]
    return weight[block[0]]
