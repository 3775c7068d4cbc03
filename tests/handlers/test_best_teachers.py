"""Which epoch's teachers judge, and that a resumed run knows."""

from __future__ import annotations

import pytest
import torch
from handler_fakes import fake_evaluator, fake_trainer
from ignite.engine import Engine
from torch import nn

from monai_noisylabel.handlers import BestTeachers

NAN = float("nan")


class Teaching:
    """A training whose teachers' weight is the epoch and whose held-out Dice is given."""

    def __init__(self, dice: list[float], last_epoch: int, interval: int = 1) -> None:
        self.teachers = nn.Linear(1, 1, bias=False)
        self.measured: list[int] = []

        def measure(engine: Engine, batch: int) -> None:
            self.measured.append(engine.state.epoch)
            engine.state.metrics["held_out_mean_dice"] = dice[engine.state.epoch - 1]

        self.best = BestTeachers(fake_evaluator([0], measure), self.teachers, last_epoch, interval)

        def step(engine: Engine, batch: int) -> list[dict[str, float]]:
            nn.init.constant_(self.teachers.weight, engine.state.epoch)
            return [{"loss": 0.0}]

        self.trainer = fake_trainer(len(dice), [self.best], step, batches=[0])


@pytest.mark.parametrize(
    ("dice", "last_epoch", "interval", "measured", "epoch"),
    [
        ([0.5, 0.8, 0.7, 0.9], 3, 1, [1, 2, 3], 2),  # the fourth epoch is the student's
        ([0.5, 0.8, 0.8, 0.1], 3, 1, [1, 2, 3], 2),  # of equal ones the first
        ([0.5, 0.8, 0.7, 0.1, 0.1], 5, 2, [2, 4, 5], 2),  # the last one is measured whatever the interval
        ([NAN, 0.1, NAN], 3, 1, [1, 2, 3], 2),
        ([NAN, NAN], 2, 1, [1, 2], 0),
    ],
)
def test_the_best_of_the_measured_epochs(
    dice: list[float], last_epoch: int, interval: int, measured: list[int], epoch: int
) -> None:
    teaching = Teaching(dice, last_epoch, interval)
    teaching.trainer.run()
    assert teaching.measured == measured
    assert teaching.best.restore() == epoch
    assert teaching.teachers.weight.item() == (epoch or len(dice))
    assert teaching.best.weights == {}


def test_the_value_is_published_and_a_state_goes_on() -> None:
    before = Teaching([0.5, 0.8], 4)
    before.trainer.run()
    assert before.trainer.state.metrics["held_out_dice"] == 0.8
    after = Teaching([0.5, 0.8, 0.7, 0.6], 4)
    after.best.load_state_dict(before.best.state_dict())
    after.trainer.state.epoch = 2
    after.trainer.add_event_handler("STARTED", lambda engine: setattr(engine.state, "epoch", 2))
    after.trainer.run()
    assert after.measured == [3, 4]
    assert after.best.restore() == 2
    assert torch.equal(after.teachers.weight, torch.tensor([[2.0]]))


def test_an_interval_of_no_epochs() -> None:
    with pytest.raises(ValueError, match="interval must be at least 1 epoch, got 0"):
        Teaching([0.5], 1, interval=0)
