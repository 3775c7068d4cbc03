"""Training steps of the bundles' network, to compare what methods cost."""

from __future__ import annotations

from collections.abc import Callable

import torch
from measuring import Step
from monai.losses import DiceFocalLoss
from torch import Tensor, nn

from monai_noisylabel.networks import SelfCleansingNet

CLASSES = 3
BATCHES = [(8, 1, 128, 128), (2, 1, 40, 56, 40)]
"""The bundles' network as it is in 2D, and with half the width on volumes of the hippocampus."""


def backbone(shape: tuple[int, ...]) -> SelfCleansingNet:
    """The bundles' network for batches of the shape."""
    widths = (16, 32, 64, 128) if len(shape) == 4 else (8, 16, 32, 64)
    return SelfCleansingNet(len(shape) - 2, 1, CLASSES, channels=widths)


def training_step(
    network: nn.Module,
    loss: Callable[..., Tensor],
    shape: tuple[int, ...],
    optimizer: torch.optim.Optimizer | None = None,
) -> Step:
    """Forward, backward and update on one batch; by Adam for the network's weights if no optimizer is given."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(shape, generator=generator)
    label = torch.randint(0, CLASSES, shape, generator=generator)
    updates = optimizer or torch.optim.Adam(network.parameters(), lr=1e-3)

    def run() -> None:
        updates.zero_grad(set_to_none=True)
        loss(network(image), label).backward()
        updates.step()

    return run


def baseline_step(shape: tuple[int, ...]) -> Step:
    """The step that the bundle ``baseline`` takes."""
    loss = DiceFocalLoss(to_onehot_y=True, softmax=True, batch=True, gamma=0.0, lambda_focal=float(CLASSES))
    return training_step(backbone(shape), loss, shape)
