"""Maps of three classes flipped by a known matrix, and what two processes count of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monai_noisylabel.losses import NoiseMatrices
from monai_noisylabel.networks import AffinityNetwork

SHARES = (0.6, 0.25, 0.15)


def flipped_maps(
    transition: Tensor, shares: Sequence[float] = SHARES, count: int = 24, size: int = 24
) -> tuple[Tensor, Tensor, Tensor]:
    """Images (n, 2, S, S), clean and noisy labels (n, 1, S, S): blobs of three classes with these shares."""
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(count, 1, size + 8, size + 8, generator=generator)
    field = nn.functional.avg_pool2d(field, 9, 1)
    rank = field.flatten().argsort().argsort().view(field.shape).double() / field.numel()
    clean = torch.bucketize(rank, torch.tensor(shares).cumsum(0)[:-1].double())
    draw = torch.rand(clean.shape, generator=generator)
    noisy = (draw[..., None] > transition.cumsum(1)[clean]).sum(-1).clamp(max=2)
    means = nn.functional.one_hot(clean[:, 0], 3).movedim(-1, 1)[:, :2]
    return means + 0.35 * torch.randn(means.shape, generator=generator), clean, noisy


def small_network() -> AffinityNetwork:
    """Two convolutions and a classifier."""
    layers = [nn.Conv2d(2, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    network = nn.Sequential(*layers, nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 3, 1))
    return AffinityNetwork(network, "5", spatial_dims=2, in_channels=2, out_channels=3, cell=2)


def counts_of_a_share(rank: int) -> list[list[int]]:
    """Counts of class values after two batches, of which this process sees its part."""
    matrices = NoiseMatrices(classes=3)
    for batch in (torch.tensor([[0, 0, 1], [2, 2, 2]]), torch.tensor([[1, 1, 1], [0, 0, 0]])):
        matrices.count(batch[rank][None, None])
    return matrices.class_counts.tolist()
