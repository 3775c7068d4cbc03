"""No new labels for a structure that the network has not learned yet."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ignite.engine import Engine, Events
from monai.engines import Evaluator

from monai_noisylabel.transforms import PrototypeRelabeld

__all__ = ["KeepUnlearned"]

logger = logging.getLogger(__name__)


class KeepUnlearned:
    """Before a sweep: structures that the network misses in validation keep the labels in use.

    A network that does not find a structure proposes labels without it, learns from them, and never finds it again.
    Small structures are often learned many epochs after large ones.

    Args:
        relabel: the sweep's correction.
        validator: evaluator of the validation set; its metrics ``<metric>_<class>`` are read. Before its first run
            nothing is known and nothing is kept.
        classes: names of the structures, in the order of their numbers.
        min_dice: least validation Dice, in [0, 1], of a structure that may be relabelled. With noisy validation labels
            a good network reaches little more than their own Dice to the truth: choose it well below that.
        metric: name of the validator's Dice.

    Deviation:
        Not in Dong et al., who segment one structure.
    """

    def __init__(
        self,
        relabel: PrototypeRelabeld,
        validator: Evaluator,
        classes: Sequence[str],
        min_dice: float = 0.2,
        metric: str = "val_mean_dice",
    ) -> None:
        if not 0 <= min_dice <= 1:
            raise ValueError(f"min_dice must lie in [0, 1], got {min_dice}.")
        self.relabel = relabel
        self.validator = validator
        self.names = {number: f"{metric}_{name}" for number, name in enumerate(classes, start=1)}
        self.min_dice = min_dice

    def attach(self, engine: Engine) -> None:
        """Act at the start of every run of the sweep ``engine``."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Tell the correction which structures to leave alone."""
        known = self.validator.state.metrics
        self.relabel.kept = frozenset(
            number for number, name in self.names.items() if float(known.get(name, 1.0)) < self.min_dice
        )
        for number in sorted(self.relabel.kept):
            name = self.names[number]
            logger.info(f"Labels of structure {number} stay: {name} is {known[name]:.3f}, below {self.min_dice:g}.")
