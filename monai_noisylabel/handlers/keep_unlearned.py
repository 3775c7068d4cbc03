"""No new labels for a structure that the network has not learned yet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from ignite.engine import Engine, Events
from monai.engines import Evaluator

from monai_noisylabel.handlers.run_history import RunHistory

__all__ = ["HasKept", "KeepUnlearned"]

logger = logging.getLogger(__name__)


class HasKept(Protocol):
    """A correction that can leave structures alone."""

    kept: frozenset[int]
    """Their numbers, from 1."""


class KeepUnlearned:
    """Before a sweep: structures that the network misses in validation keep the labels in use.

    A network that does not find a structure proposes labels without it, learns from them, and never finds it again.
    Small structures are often learned many epochs after large ones.

    Args:
        relabel: the sweep's correction: :class:`~monai_noisylabel.transforms.PrototypeRelabeld`,
            :class:`~monai_noisylabel.handlers.SuperpixelRelabel`.
        validator: evaluator of the validation set; its metrics ``<metric>_<class>`` are read if it has run in the
            epoch of the sweep.
        history: the run's history, which is resumed with it; read otherwise. While no validation is known nothing is
            kept.
        classes: names of the structures, in the order of their numbers.
        min_dice: least validation Dice, in [0, 1], of a structure that may be relabelled. With noisy validation labels
            a good network reaches little more than their own Dice to the truth: choose it well below that.
        metric: name of the validator's Dice.

    Deviation:
        Not in Dong et al. nor in Li et al., who segment one structure.
    """

    def __init__(
        self,
        relabel: HasKept,
        validator: Evaluator,
        history: RunHistory,
        classes: Sequence[str],
        min_dice: float = 0.2,
        metric: str = "val_mean_dice",
    ) -> None:
        if not 0 <= min_dice <= 1:
            raise ValueError(f"min_dice must lie in [0, 1], got {min_dice}.")
        self.relabel = relabel
        self.validator = validator
        self.history = history
        self.names = {number: f"{metric}_{name}" for number, name in enumerate(classes, start=1)}
        self.min_dice = min_dice

    def attach(self, engine: Engine) -> None:
        """Act at the start of every run of the sweep ``engine``."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Tell the correction which structures to leave alone."""
        known = {number: self._latest(name, engine) for number, name in self.names.items()}
        self.relabel.kept = frozenset(number for number, value in known.items() if value < self.min_dice)
        for number in sorted(self.relabel.kept):
            name, value = self.names[number], known[number]
            logger.info(f"Labels of structure {number} stay: {name} is {value:.3f}, below {self.min_dice:g}.")

    def _latest(self, name: str, engine: Engine) -> float:
        """Validation Dice of this epoch or of the last one before it that has one; 1 if none is known."""
        if self.validator.state.epoch == engine.state.max_epochs:  # the number that the sweep was run with
            return float(self.validator.state.metrics.get(name, 1.0))
        values = self.history.values(name)
        return values[-1][1] if values else 1.0
