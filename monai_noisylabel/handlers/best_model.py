"""The B-model: the weights that did best on the validation set."""

from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_noisylabel.handlers.atomic import save_atomically
from monai_noisylabel.handlers.processes import is_main
from monai_noisylabel.handlers.run_history import RunHistory

__all__ = ["BestModel", "load_weights", "plain_network"]


def plain_network(network: nn.Module) -> nn.Module:
    """The network itself, without the wrappers of DistributedDataParallel and torch.compile."""
    network = getattr(network, "module", network)
    return getattr(network, "_orig_mod", network)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Put a plain state dict, as a bundle's ``models/model.pt``, into ``network``.

    Raises:
        FileNotFoundError: if there is no such file, with what writes it.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"No weights at {path}: train the bundle first, or name its folder with --ckpt_dir.")
    plain_network(network).load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


class BestModel:
    """Saves a plain state dict whenever an evaluator's metric rises.

    Args:
        network: the network that is evaluated.
        path: file of the weights, by convention ``models/model.pt``.
        history: remembers the best value and its epoch, also over an interruption.
        metric: name in ``engine.state.metrics``; larger is better.
    """

    def __init__(
        self, network: nn.Module, path: str | Path, history: RunHistory, metric: str = "val_mean_dice"
    ) -> None:
        self.network = network
        self.path = Path(path)
        self.history = history
        self.metric = metric

    def attach(self, engine: Engine) -> None:
        """Look at the metric after every epoch of the evaluator ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save if this is the best so far; an undefined value (NaN) never is, nor one of another network."""
        if engine.state.epoch < self.history.first_epoch:
            return
        value = engine.state.metrics[self.metric]
        if not value > (-1.0 if self.history.best is None else self.history.best):
            return
        self.history.best, self.history.best_epoch = value, engine.state.epoch
        if is_main():
            save_atomically(plain_network(self.network).state_dict(), self.path)
