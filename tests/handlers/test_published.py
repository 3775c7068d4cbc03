"""Numbers of a method among the metrics of an epoch."""

from __future__ import annotations

import warnings

import torch
from handler_fakes import fake_trainer
from ignite.engine import Engine

from monai_noisylabel.handlers import PublishedValues


def test_values_are_those_at_the_end_of_each_epoch() -> None:
    rate = torch.nn.Parameter(torch.tensor(2.0))
    counted: list[float] = []

    def step(engine: Engine, batch: int) -> list[dict[str, float]]:
        rate.data += 1  # two batches: 4, 6, 8
        return [{"loss": 0.0}]

    trainer = fake_trainer(3, [PublishedValues({"rate": lambda: rate, "epochs": lambda: len(counted)})], step)
    trainer.add_event_handler("EPOCH_COMPLETED", lambda engine: counted.append(engine.state.metrics["rate"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a number, not a part of the graph
        trainer.run()
    assert counted == [4.0, 6.0, 8.0]
    assert trainer.state.metrics["epochs"] == 2.0
