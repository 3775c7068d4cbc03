"""The weights of the epoch in which the teachers agreed best with the labels they had not seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ignite.engine import Events
from monai.engines import Evaluator, Trainer
from torch import Tensor, nn

from monai_noisylabel.handlers.processes import is_main

__all__ = ["BestTeachers"]

logger = logging.getLogger(__name__)


class BestTeachers:
    """While the teachers learn: measures them on the folds they leave out, and remembers the weights of the best epoch.

    Networks that train on wrong labels for long learn them by heart, and what they predict out of sample is worse then.
    No clean label is needed to see it: right labels are what all folds have in common, so agreement with the labels of
    a fold left out rises while those are learned, and falls with memorising. All training cases take part, where a
    validation set has a few and judges one teacher. The mean Dice is published as ``held_out_dice``.

    Args:
        evaluator: over the un-augmented training set, every case by the teacher that has not seen it, with the Dice to
            the given labels.
        teachers: all teachers together; they take the weights of one epoch, so that their predictions go together.
        last_epoch: E, the last epoch, from 1, in which they learn; it is always measured.
        interval: epochs between measurements.
        metric: name in the evaluator's metrics; larger is better.

    Attributes:
        epoch: the best epoch so far, or 0.

    Raises:
        ValueError: for an interval of less than 1.

    Deviation:
        Zhang et al. choose each teacher by the Dice on a validation set.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        teachers: nn.Module,
        last_epoch: int,
        interval: int = 1,
        metric: str = "held_out_mean_dice",
    ) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1 epoch, got {interval}.")
        self.evaluator = evaluator
        self.teachers = teachers
        self.last_epoch = last_epoch
        self.interval = interval
        self.metric = metric
        self.epoch = 0
        self.value = -1.0
        self.weights: dict[str, Tensor] = {}

    def attach(self, engine: Trainer) -> None:
        """Measure after the due epochs of the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def due(self, epoch: int) -> bool:
        """Whether the teachers are measured after ``epoch`` (from 1)."""
        return epoch == self.last_epoch or (epoch < self.last_epoch and epoch % self.interval == 0)

    def __call__(self, engine: Trainer) -> None:
        """Keep the weights if they are the best so far; an undefined value (NaN) never is."""
        epoch = engine.state.epoch
        if not self.due(epoch):
            return
        self.evaluator.run(global_epoch=epoch)
        value = engine.state.metrics["held_out_dice"] = float(self.evaluator.state.metrics[self.metric])
        if value > self.value:
            self.epoch, self.value = epoch, value
            self.weights = {name: tensor.clone() for name, tensor in self.teachers.state_dict().items()}

    def restore(self) -> int:
        """Give the teachers those weights, and forget them; returns their epoch, 0 if there are none."""
        if self.weights:
            self.teachers.load_state_dict(self.weights)
            self.weights = {}
            if is_main():
                logger.info(
                    f"The teachers judge with the weights of epoch {self.epoch}: held-out Dice {self.value:.3f}."
                )
        return self.epoch

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"epoch": self.epoch, "value": self.value, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.epoch, self.value, self.weights = state["epoch"], state["value"], dict(state["weights"])
