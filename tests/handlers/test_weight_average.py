"""The average follows the training step by step."""

from __future__ import annotations

from handler_fakes import fake_trainer
from ignite.engine import Engine, Events
from torch import nn

from monai_noisylabel.handlers import WeightAverage
from monai_noisylabel.networks import averaged_network


def test_every_step_of_the_training_counts() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = averaged_network(network, steps=100)
    trainer = fake_trainer(2, [], batches=[0, 1])

    @trainer.on(Events.ITERATION_COMPLETED)
    def step(engine: Engine) -> None:
        network.weight.data.fill_(float(engine.state.iteration))

    WeightAverage(average, network).attach(trainer)
    trainer.run()
    assert average.module.weight.item() == (1 + 2 + 3 + 4) / 4
