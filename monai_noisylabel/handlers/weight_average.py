"""Keeping an averaged network up to date with the training."""

from __future__ import annotations

from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["WeightAverage"]


class WeightAverage:
    """Takes the network's weights into their average after every step of the training.

    Args:
        average: what :func:`~monai_noisylabel.networks.averaged_network` made of ``network``.
        network: the trained network.
    """

    def __init__(self, average: AveragedModel, network: nn.Module) -> None:
        self.average = average
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Act after every iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Take the present weights in."""
        self.average.update_parameters(self.network)
