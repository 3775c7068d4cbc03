"""The schedule of curriculum selection: when it begins, what it decides, and when it goes wrong."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Protocol

from ignite.engine import Engine, Events
from monai.engines import Trainer
from torch import Tensor

from monai_noisylabel.handlers.exclusive_problems import label_names
from monai_noisylabel.handlers.processes import is_main
from monai_noisylabel.losses.clcs import EpochTotals

__all__ = ["ClassCurriculum", "HasCurriculum"]

logger = logging.getLogger(__name__)


class HasCurriculum(Protocol):
    """A loss of two branches that learns from all voxels while it warms up, and selects afterwards."""

    thresholds: Tensor
    """Of each branch, form (2, K, C)."""
    warming_up: Tensor
    """A bool tensor."""

    def take_totals(self) -> EpochTotals:
        """What was counted since the last call."""


class ClassCurriculum:
    """Ends the warm-up of a loss, publishes what it selects, and raises the alarm when a class is left out.

    The warm-up ends after the first epoch by which the share ``warm_up`` of the run has passed and in which both
    branches predicted every class about as often as it is labelled. Only what both predict can enter the clean set,
    and what is not in it is hardly learned: a class that is selected too early is lost. The first epoch is never
    enough, for the branches begin it with random answers. A class without labels is not waited for.

    After every epoch these enter the trainer's metrics, with ``<class>`` one of ``background`` and the names of the
    classes (for structures that overlap also ``no_<structure>``):

    - ``threshold_1/<class>`` and ``threshold_2/<class>``, of each branch, for the next batch;
    - ``clean_fraction/<class>``, the share of the voxels labelled so that counted as clean in the epoch, 1 during the
      warm-up; left out for a class without labels.

    A warning is logged after every epoch in which the clean fraction of a class was 0.

    List it before :class:`~monai_noisylabel.handlers.RunReport` and
    :class:`~monai_noisylabel.handlers.TrainingState`; the latter must keep the loss.

    Args:
        loss: :class:`~monai_noisylabel.losses.CLCSLoss`.
        classes: names of the K foreground structures.
        num_classes: classes including background (multi-class), or None (multi-label).
        warm_up: share of the run in [0, 1] that the warm-up lasts at least.
        min_predicted: predicted voxels of a class, as a share of its labelled ones, from which it counts as predicted,
            in [0, 1]; at least one voxel. Less is needed where noise labels many voxels as a class of few.

    Raises:
        ValueError: for a share outside [0, 1], or if the loss has other classes.

    Example:
        >>> import torch
        >>> from monai_noisylabel.losses import CLCSLoss
        >>> loss = CLCSLoss(num_classes=2)
        >>> output = torch.tensor([[[3.0, -3.0], [-3.0, 3.0]]]).repeat(1, 2, 1), torch.ones(1, 2, 1)
        >>> engine = Engine(lambda engine, label: loss(output, label))
        >>> ClassCurriculum(loss, classes=["liver"], num_classes=2).attach(engine)
        >>> metrics = engine.run([torch.tensor([[[0, 0]]])], max_epochs=3).metrics
        >>> loss.warming_up.item(), metrics  # the second voxel is voted down
        (False, {'threshold_1/background': 0.95, 'threshold_1/liver': 0.95, 'threshold_2/background': 0.95,
        'threshold_2/liver': 0.95, 'clean_fraction/background': 0.5})

    Deviation:
        The paper's abstract does not speak of a warm-up; this one is a design decision.
    """

    def __init__(
        self,
        loss: HasCurriculum,
        classes: Sequence[str],
        num_classes: int | None,
        warm_up: float = 0.1,
        min_predicted: float = 0.5,
    ) -> None:
        for name, share in (("warm_up", warm_up), ("min_predicted", min_predicted)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be a share between 0 and 1, got {share}.")
        self.loss = loss
        self.names = label_names(classes, num_classes)
        self.warm_up = warm_up
        self.min_predicted = min_predicted
        if loss.thresholds[0].numel() != len(self.names):
            raise ValueError(
                f"The loss has thresholds of the form {tuple(loss.thresholds.shape[1:])}, which does not fit the "
                f"classes {', '.join(self.names)}."
            )

    def attach(self, engine: Engine) -> None:
        """Act after every epoch of the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Trainer) -> None:
        """Publish what the epoch selected and decide how the next one does."""
        totals = self.loss.take_totals()
        self._publish(engine, totals)
        none_clean = (totals.labelled > 0) & (totals.clean == 0)
        if none_clean.any() and is_main():
            logger.warning(
                f"Epoch {engine.state.epoch}: no voxel labelled {', '.join(self._named(none_clean))} counts as clean. "
                "The branches have lost this class or never learned it; if they learned too little, raise warm_up."
            )
        if self.loss.warming_up:
            self._end_warm_up(engine, totals)

    def _publish(self, engine: Trainer, totals: EpochTotals) -> None:
        metrics = engine.state.metrics
        for branch, thresholds in enumerate(self.loss.thresholds.flatten(1).tolist(), start=1):
            metrics.update(
                {f"threshold_{branch}/{name}": limit for name, limit in zip(self.names, thresholds, strict=True)}
            )
        counts = (part.flatten().tolist() for part in (totals.clean, totals.labelled))
        for name, clean, labelled in zip(self.names, *counts, strict=True):
            if labelled:
                metrics[f"clean_fraction/{name}"] = clean / labelled

    def _end_warm_up(self, engine: Trainer, totals: EpochTotals) -> None:
        epoch, first = engine.state.epoch, max(2, math.ceil(self.warm_up * engine.state.max_epochs - 1e-9))
        missing = (totals.predicted < self.min_predicted * totals.labelled) | (totals.predicted == 0)
        missing &= totals.labelled > 0
        if epoch < first:
            return
        if not missing.any():
            self.loss.warming_up.fill_(False)
            if is_main():
                logger.info(f"The warm-up has ended with epoch {epoch}; from now on voxels are selected.")
        elif is_main() and epoch in (first, engine.state.max_epochs):
            names = [f"{', '.join(self._named(part))} by branch {k}" for k, part in enumerate(missing, 1) if part.any()]
            logger.warning(
                f"Epoch {epoch}: the warm-up goes on, because too little is predicted of {'; '.join(names)}."
            )

    def _named(self, which: Tensor) -> list[str]:
        return [name for name, chosen in zip(self.names, which.flatten().tolist(), strict=True) if chosen]
