"""An epoch depends on the seed and its number alone."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from handler_fakes import fake_trainer
from ignite.engine import Engine
from torch.utils.data import DataLoader

from monai_noisylabel.handlers import EpochStart

Draw = tuple[float, float, float]


def _draws(seed: int, max_epochs: int = 3, waste: int = 0) -> list[Draw]:
    """One number of each global generator per epoch; ``waste`` more are drawn in between."""
    draws: list[Draw] = []

    def step(engine: Engine, batch: int) -> None:
        if batch == 0:
            draws.append((random.random(), float(np.random.rand()), torch.rand(1).item()))  # noqa: NPY002
        random.random(), np.random.rand(waste), torch.rand(waste)  # noqa: NPY002

    fake_trainer(max_epochs, [EpochStart(seed)], step).run()
    return draws


def test_epochs_do_not_depend_on_what_was_drawn_before() -> None:
    assert _draws(0) == _draws(0, waste=17)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["random", "numpy", "torch"])
def test_every_generator_differs_between_epochs_and_seeds(which: int) -> None:
    drawn = [epoch[which] for seed in (0, 1, 2) for epoch in _draws(seed)]
    assert len(set(drawn)) == 9


def test_seeds_of_runs_and_epochs_do_not_meet() -> None:
    # run seed 0 in epoch n and run seed 1 in an earlier epoch must not share a seed: the stride is longer
    # than a run
    seeds: list[int] = []
    handlers = [EpochStart(seed) for seed in (0, 1)]
    for handler in handlers:
        for epoch in (1, 2, 500, 5000):
            handler(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))
            seeds.append(torch.initial_seed())
    assert len(set(seeds)) == 8
    assert seeds[:2] == [0, 1]


@pytest.mark.parametrize("seed", [2**31, 10**12, -1])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    # numpy takes seeds below 2**32 only
    assert _draws(seed, 2) == _draws(seed, 2)


def test_followers_are_told_the_epoch_from_zero() -> None:
    first, second = SimpleNamespace(epoch=None), SimpleNamespace(epoch=None)
    seen: list[tuple[int, int, int]] = []

    def step(engine: Engine, batch: int) -> None:
        seen.append((engine.state.epoch, first.epoch, second.epoch))

    fake_trainer(3, [EpochStart(0, followers=[first, second])], step, batches=[0]).run()
    assert seen == [(1, 0, 0), (2, 1, 1), (3, 2, 2)]


def test_the_order_of_the_samples_is_drawn_after_the_seed_is_set() -> None:
    # a run of three epochs, and one that begins with the third as a resumed run does
    loader = DataLoader(torch.arange(20), batch_size=20, shuffle=True)
    orders: list[list[list[int]]] = []
    for first in (0, 2):
        run: list[list[int]] = []
        trainer = fake_trainer(3, [EpochStart(7)], lambda engine, batch, run=run: run.append(batch.tolist()), loader)
        trainer.state.epoch, trainer.state.iteration = first, first
        trainer.run()
        orders.append(run)
    assert len(orders[0]) == 3
    assert orders[1] == orders[0][2:]
    assert orders[0][0] != orders[0][1]
