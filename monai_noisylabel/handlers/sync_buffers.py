"""One set of normalisation statistics for all ranks of a distributed run."""

from __future__ import annotations

import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import nn

__all__ = ["SyncBuffers"]


class SyncBuffers:
    """Copies the network's buffers of rank 0 to all ranks at the end of every epoch.

    DistributedDataParallel lets the running statistics of batch normalisation drift apart within a step; ranks that
    then evaluate a part of the data each would evaluate slightly different networks. Does nothing in a single process.

    Args:
        network: the trained network. List this handler before those that evaluate.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Act at the end of every epoch of ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Broadcast the buffers."""
        if dist.is_available() and dist.is_initialized():
            for buffer in self.network.buffers():
                dist.broadcast(buffer, src=0)
