"""How a network is laid out in memory, and how it is run over an image of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer

__all__ = ["ImageInferer", "memory_format"]


def memory_format(spatial_dims: int, channels_last: bool) -> torch.memory_format:
    """Memory format of a network's weights: channels last, in the variant of its dimension, or contiguous.

    Example:
        >>> memory_format(3, channels_last=True)
        torch.channels_last_3d
    """
    if not channels_last:
        return torch.contiguous_format
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


class ImageInferer(Inferer):
    """Runs a network over whole images: at once or patch by patch, and a 2D network over the slices of a volume.

    Args:
        spatial_dims: of the network, 2 or 3.
        patch_size: voxels per axis of the patches it was trained on; None runs the image at once.
        slices_at_once: slices of a volume in one pass of a 2D network.

    Shape:
        inputs (B, Cin, \\*S) with as many axes S as the network takes, or (B, Cin, H, W, D) for a 2D network, whose
        slices lie along the last axis; result (B, C, \\*S).

    Example:
        >>> network = torch.nn.Conv2d(1, 3, 1)
        >>> ImageInferer(spatial_dims=2)(torch.zeros(1, 1, 8, 8, 5), network).shape
        torch.Size([1, 3, 8, 8, 5])
    """

    def __init__(self, spatial_dims: int, patch_size: Sequence[int] | None = None, slices_at_once: int = 16) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.slices_at_once = slices_at_once
        self.plain: Inferer = SimpleInferer()
        if patch_size is not None:
            self.plain = SlidingWindowInferer(patch_size, sw_batch_size=4, overlap=0.25, mode="gaussian")

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Outputs of the network over the whole image."""
        if inputs.ndim - 2 == self.spatial_dims:
            return self.plain(inputs, network, *args, **kwargs)
        slices = inputs.movedim(-1, 1).flatten(0, 1)
        parts = [self.plain(part, network, *args, **kwargs) for part in slices.split(self.slices_at_once)]
        return torch.cat(parts).unflatten(0, (inputs.shape[0], inputs.shape[-1])).movedim(1, -1)
