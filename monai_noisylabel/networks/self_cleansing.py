"""The residual encoder-decoder used as segmentation backbone by deep self-cleansing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import nn

Norm = str | tuple[str, dict[str, object]]

# 3x3 convolutions in the encoder's residual blocks, finest first (Table 1); the decoder mirrors them.
_DEPTHS = (1, 2, 3)


class SelfCleansingNet(nn.Module):
    """Residual encoder-decoder of Table 1 of the deep self-cleansing paper, in 2D and 3D.

    A small V-Net-like network: a first convolution, three residual blocks that each halve the grid by a 2x2
    convolution of stride 2, three that double it again by a 2x2 transposed convolution, with the encoder's
    output of the same grid concatenated, and a head of a 3x3 and a 1x1 convolution. In 3D every kernel gets a
    third axis of the same size. The submodules carry the table's names. The network is not robust to label
    noise by itself: it memorises wrong labels as any network of its size does. It is the default source of
    the features that label correction compares, because its last block is non-negative (cosines stay in [0,
    1]) and has the resolution of the image.

    Any grid is accepted. Where a block meets an odd axis it repeats the last plane before halving, and the
    matching decoder block drops it again; axes that are multiples of 8 are never padded. In training at least
    one axis should be longer than 8 voxels, else normalisation finds a single value per channel on the
    coarsest grid.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of image channels (paper: 1).
        out_channels: number of logits per voxel: 1 for one structure with a sigmoid (paper), C for C classes
            with a softmax, K for K structures that may overlap.
        channels: widths of the four levels, finest first (paper: 16, 32, 64, 128). The features have twice
            the first.
        norm: normalisation after each convolution by its MONAI name, ``"batch"`` or ``"instance"``, or a name
            with arguments such as ``("group", {"num_groups": 4})``. The paper does not name one. Batch
            statistics become unreliable below about four images per batch: take ``"instance"`` there, as for
            most 3D training.

    Shape:
        - Input: (B, in_channels, *S) with S = (H, W) or (H, W, D), voxels, any size.
        - Output: (B, out_channels, *S), logits; apply sigmoid or softmax outside.
        - Features, the output of the submodule named by ``feature_layer``: (B, 2 * channels[0], *S),
          non-negative; of ``shallow_feature_layer``: (B, 2 * channels[1], *S) at half of the resolution.

    Raises:
        ValueError: when ``spatial_dims`` is not 2 or 3, a channel count is not positive, ``channels`` has not
            four entries, or an input has another rank or number of channels than the network was built for.

    Example:
        >>> net = SelfCleansingNet(spatial_dims=2, in_channels=1, out_channels=2)
        >>> net(torch.zeros(1, 1, 50, 61)).shape
        torch.Size([1, 2, 50, 61])
        >>> sum(p.numel() for p in net.parameters())
        1151070

    Deviation:
        The published table has lost rows (the halving convolution of the third block among them) and its head
        is printed for one class. The blocks here have one, two and three 3x3 convolutions going down and
        three, two and one going up, which explains every printed row. The head's 3x3 convolution has ``2 *
        out_channels`` channels, the printed 2 for one class. The table names neither normalisation nor
        activation: here each convolution is followed by normalisation and ReLU, except the head, which has a
            leaky ReLU between its two convolutions and no
        normalisation, so that an image without foreground is not stretched to look as if it had some. The
        output is logits; the table ends with the sigmoid.

    References:
        Jiahua Dong, Yue Zhang, Qiuli Wang, Ruofeng Tong, Shihong Ying, Shaolin Gong, Xuanpu Zhang, Lanfen
        Lin, Yen-Wei Chen, S. Kevin Zhou. Deep Self-cleansing for Medical Image Segmentation with Noisy
        Labels. 2024.
    """

    feature_layer: ClassVar[str] = "residual_block_6"
    shallow_feature_layer: ClassVar[str] = "residual_block_5"
    bottleneck_layer: ClassVar[str] = "residual_block_3"

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (16, 32, 64, 128),
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        _check_arguments(spatial_dims, in_channels, out_channels, channels)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        c1, c2, c3, c4 = channels
        conv = Conv[Conv.CONV, spatial_dims]
        self.conv_1 = _conv_norm(spatial_dims, in_channels, c1, norm)
        self.conv_1.append(nn.ReLU(inplace=True))
        self.residual_block_1 = _DownBlock(spatial_dims, c1, c2, _DEPTHS[0], norm)
        self.residual_block_2 = _DownBlock(spatial_dims, c2, c3, _DEPTHS[1], norm)
        self.residual_block_3 = _DownBlock(spatial_dims, c3, c4, _DEPTHS[2], norm)
        self.residual_block_4 = _UpBlock(spatial_dims, c4, c3, _DEPTHS[2], norm)
        self.residual_block_5 = _UpBlock(spatial_dims, 2 * c3, c2, _DEPTHS[1], norm)
        self.residual_block_6 = _UpBlock(spatial_dims, 2 * c2, c1, _DEPTHS[0], norm)
        self.conv_2 = nn.Sequential(
            conv(2 * c1, 2 * out_channels, kernel_size=3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            conv(2 * out_channels, out_channels, kernel_size=1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of an image batch.

        Args:
            image: (B, in_channels, *S).

        Returns:
            Logits (B, out_channels, *S).
        """
        if image.ndim != self.spatial_dims + 2 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"expected images (B, {self.in_channels}, *S) with {self.spatial_dims} spatial axes, "
                f"got {tuple(image.shape)}. Change in_channels or spatial_dims, or the preprocessing."
            )
        level_1 = self.conv_1(image)
        level_2 = self.residual_block_1(level_1)
        level_3 = self.residual_block_2(level_2)
        x = self.residual_block_3(level_3)
        x = self.residual_block_4(x, level_3)
        x = self.residual_block_5(x, level_2)
        x = self.residual_block_6(x, level_1)
        return self.conv_2(x)


class _Residual(nn.Module):
    """``depth`` 3x3 convolutions of equal width around which the input is added before the last ReLU."""

    def __init__(self, spatial_dims: int, width: int, depth: int, norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(depth):
            if index > 0:
                layers.append(nn.ReLU(inplace=True))
            layers.extend(_conv_norm(spatial_dims, width, width, norm))
        self.convs = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.convs(x), inplace=True)


class _DownBlock(nn.Module):
    """Halve the grid (rounding up), then a residual stack."""

    def __init__(self, spatial_dims: int, c_in: int, c_out: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.down = nn.Sequential(
            Conv[Conv.CONV, spatial_dims](c_in, c_out, kernel_size=2, stride=2, bias=False),
            get_norm_layer(norm, spatial_dims, c_out),
            nn.ReLU(inplace=True),
        )
        self.residual = _Residual(spatial_dims, c_out, depth, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.residual(self.down(_repeat_odd_end(x)))


class _UpBlock(nn.Module):
    """Double the grid, cut it to the skip's, concatenate the skip, then a residual stack twice as wide."""

    def __init__(self, spatial_dims: int, c_in: int, c_out: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.up = nn.Sequential(
            Conv[Conv.CONVTRANS, spatial_dims](c_in, c_out, kernel_size=2, stride=2, bias=False),
            get_norm_layer(norm, spatial_dims, c_out),
            nn.ReLU(inplace=True),
        )
        self.residual = _Residual(spatial_dims, 2 * c_out, depth, norm)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        for axis in range(2, x.ndim):
            x = x.narrow(axis, 0, skip.shape[axis])
        return self.residual(torch.cat([x, skip], dim=1))


def _conv_norm(spatial_dims: int, c_in: int, c_out: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        Conv[Conv.CONV, spatial_dims](c_in, c_out, kernel_size=3, padding=1, bias=False),
        get_norm_layer(norm, spatial_dims, c_out),
    )


def _repeat_odd_end(x: torch.Tensor) -> torch.Tensor:
    """Repeat the last plane of every axis of odd length."""
    pad = [amount for size in reversed(x.shape[2:]) for amount in (0, size % 2)]
    return F.pad(x, pad, mode="replicate") if any(pad) else x


def _check_arguments(spatial_dims: int, in_channels: int, out_channels: int, channels: Sequence[int]) -> None:
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
    if in_channels < 1 or out_channels < 1:
        raise ValueError(f"in_channels and out_channels must be at least 1, got {in_channels} and {out_channels}.")
    if len(channels) != 4 or min(channels) < 1:
        raise ValueError(
            "channels must be four positive widths, finest level first, such as (16, 32, 64, 128); "
            f"got {tuple(channels)}."
        )
