"""What must be set anew at the start of every epoch, so that an epoch depends on the seed and its number alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from ignite.engine import Engine, Events

__all__ = ["EpochStart", "FollowsEpoch"]

_EPOCH_STRIDE = 100_003


class FollowsEpoch(Protocol):
    """Anything whose behaviour depends on the training epoch (from 0)."""

    epoch: int


class EpochStart:
    """Seeds the random generators from (seed, epoch) and tells the epoch to those that follow it.

    A training interrupted after epoch n and resumed then shuffles, drops out and augments in epoch n + 1 exactly as
    it would have without the interruption.

    Args:
        seed: seed of the run.
        followers: objects with an ``epoch`` attribute, counted from 0: a loss with a schedule, an augmentation.

    Example:
        >>> from types import SimpleNamespace
        >>> loss = SimpleNamespace(epoch=None)
        >>> engine = Engine(lambda engine, batch: None)
        >>> EpochStart(seed=0, followers=[loss]).attach(engine)
        >>> _ = engine.run([0], max_epochs=3)
        >>> loss.epoch
        2
    """

    def __init__(self, seed: int, followers: Sequence[FollowsEpoch] = ()) -> None:
        self.seed = seed
        self.followers = followers

    def attach(self, engine: Engine) -> None:
        """Run at the start of every epoch of ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed and announce the epoch."""
        epoch = engine.state.epoch - 1
        seed = (self.seed * _EPOCH_STRIDE + epoch) % 2**32
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (MONAI and scikit-learn draw from the global generator)
        torch.manual_seed(seed)
        for follower in self.followers:
            follower.epoch = epoch
