"""Batches of images with good and bad labels, and what two processes make of their shares."""

from __future__ import annotations

from typing import Any

import torch
from handler_fakes import fake_trainer
from monai.losses import DiceFocalLoss
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from monai_noisylabel.handlers import CaseWeights
from monai_noisylabel.losses import PickAndLearnLoss
from monai_noisylabel.networks import QualityAwareNetwork, QualityNetwork


def images_and_labels(samples: int = 5, space: tuple[int, ...] = (8, 12)) -> tuple[Tensor, Tensor]:
    """Images that show their labels of three classes."""
    generator = torch.Generator().manual_seed(3)
    label = torch.randint(0, 3, (samples, 1, *space), generator=generator)
    return label + torch.rand(samples, 1, *space, generator=generator), label


def small_network(seed: int = 0, dims: int = 2) -> QualityAwareNetwork:
    torch.manual_seed(seed)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 1))
    if dims == 3:
        plain = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv3d(4, 3, 1))
    quality = QualityNetwork(dims, 1, 3, channels=(4, 4))
    nn.init.normal_(quality.score.weight, std=3.0)  # or all scores are alike in the beginning
    return QualityAwareNetwork(plain, quality)


def dice_and_cross_entropy() -> nn.Module:
    return DiceFocalLoss(to_onehot_y=True, softmax=True, batch=True, gamma=0.0, lambda_focal=3.0)


def step_on_share(network: nn.Module, loss: PickAndLearnLoss, share: slice) -> dict[str, Any]:
    """Value, gradients and weights of one step of a network in double precision on a share of the batch."""
    image, label = images_and_labels()
    value = loss(network(image.double()[share], label=label[share]), label[share])
    value.backward()
    slopes = {
        name.removeprefix("module."): p.grad.numpy() for name, p in network.named_parameters() if p.grad is not None
    }
    return {"value": value.item(), "slopes": slopes, "weights": loss.weights.tolist()}


def gradients_of_rank(rank: int, first: int, warm_up: int) -> dict[str, Any]:
    """The step of a rank that has the first samples, or the others, of the batch of five."""
    share = slice(None, first) if rank == 0 else slice(first, None)
    loss = PickAndLearnLoss(dice_and_cross_entropy(), warm_up=warm_up)
    return step_on_share(DistributedDataParallel(small_network().double()), loss, share)


def refused_on_rank(rank: int, samples: int) -> str:
    """What a rank with so many samples is told."""
    loss = PickAndLearnLoss(nn.L1Loss())
    try:
        value = loss((torch.zeros(samples, 1, 2), torch.zeros(samples)), torch.ones(samples, 1, 2))
    except ValueError as error:
        return str(error)
    return f"{value.item()}, {loss.weights.tolist()}"


def weights_of_share(rank: int) -> tuple[dict[str, float], dict[str, float]]:
    """Means and published values of a rank whose cases the other one does not have."""
    loss = PickAndLearnLoss(nn.L1Loss())
    loss.weights = torch.tensor([[0.5, 1.0], [1.5, 4.0]][rank])
    handler = CaseWeights(loss)
    batches = [[{"case": name} for name in ("ab", "cd")[rank]]]
    trainer = fake_trainer(2, [handler], lambda engine, batch: [{"loss": 0.0}] * 2, batches)
    trainer.run()
    return handler.means(), dict(trainer.state.metrics)
