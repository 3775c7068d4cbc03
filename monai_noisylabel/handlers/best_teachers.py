"""The weights of the epoch in which the teachers did best on the validation set, for when they have learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor, nn

__all__ = ["BestTeachers"]


class BestTeachers:
    """Remembers, and gives back, the teachers' weights of the epoch that was best on validation.

    Networks that train on wrong labels for long learn them by heart, and what they then predict out of sample is worse
    too. Where validation labels are as noisy as the others the best epoch is still near the one before that begins.

    Args:
        teachers: all teachers together; they keep one epoch, so that their predictions go together.
        last_epoch: E, the last epoch, from 1, in which they learn.
        metric: name in the evaluator's metrics; larger is better.

    Attributes:
        epoch: the best epoch so far, or 0.

    Example:
        >>> import torch
        >>> teachers = nn.Linear(1, 1, bias=False)
        >>> best = BestTeachers(teachers, last_epoch=3)
        >>> for epoch, dice in enumerate([0.5, 0.8, 0.7], start=1):
        ...     _ = torch.nn.init.constant_(teachers.weight, epoch)
        ...     best.note(epoch, dice)
        >>> best.restore(), teachers.weight.item()
        (2, 2.0)
    """

    def __init__(self, teachers: nn.Module, last_epoch: int, metric: str = "val_mean_dice") -> None:
        self.teachers = teachers
        self.last_epoch = last_epoch
        self.metric = metric
        self.epoch = 0
        self.value = -1.0
        self.weights: dict[str, Tensor] = {}

    def attach(self, engine: Engine) -> None:
        """Look at the metric after every run of the evaluator ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Keep the weights if this is the best of the teachers' epochs so far."""
        self.note(engine.state.epoch, float(engine.state.metrics[self.metric]))

    def note(self, epoch: int, value: float) -> None:
        """Keep the weights if the value is the best so far; an undefined one (NaN) never is."""
        if epoch <= self.last_epoch and value > self.value:
            self.epoch, self.value = epoch, value
            self.weights = {name: tensor.clone() for name, tensor in self.teachers.state_dict().items()}

    def restore(self) -> int:
        """Give the teachers those weights, and forget them; returns their epoch, 0 if there are none."""
        if self.weights:
            self.teachers.load_state_dict(self.weights)
            self.weights = {}
        return self.epoch

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"epoch": self.epoch, "value": self.value, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.epoch, self.value, self.weights = state["epoch"], state["value"], dict(state["weights"])
