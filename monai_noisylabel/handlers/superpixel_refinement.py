"""The iteration of superpixel-guided learning: train until the loss gap has passed its maximum, relabel, go on."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from ignite.engine import Events
from monai.engines import Evaluator, Trainer
from torch import nn

from monai_noisylabel.handlers.processes import gather_from_all, is_main, wait_for_all
from monai_noisylabel.handlers.relabelled import dice_to_clean
from monai_noisylabel.handlers.superpixel_relabel import SuperpixelRelabel

__all__ = ["SuperpixelRefinement"]

logger = logging.getLogger(__name__)


class SuperpixelRefinement:
    r"""Relabels unreliable superpixels whenever the loss gap of the training has passed its maximum.

    A *stage* is the training between two refinements. Its gap G (eq. 5, of
    :class:`~monai_noisylabel.losses.SuperpixelLoss`) grows while the networks learn what right labels have in common,
    and falls when they begin to fit the wrong ones. So, at the end of every epoch in which the keep rates R hold in
    full:

    1. When G has had no new maximum for ``patience`` epochs, or after ``max_stage`` epochs, the stage ends.
    2. The sweep relabels the superpixels of largest loss that hold the share 1 - R (eq. 6 to 8); the changes become one
       round of the label store, which the next epoch's samples are read from.
    3. R := max(R, min(gamma R, cap)), since fewer labels are wrong now, and the next stage begins.
    4. A stage in which G did not rise at all ends the iteration: refinement has nothing more to give.

    Use it where superpixels follow the outlines of the structures; the sweep always relabels what it is told to. Not
    for many rounds without a look at their records: what networks and labels have wrong in common is not found.

    Args:
        sweep: evaluator over the un-augmented training set, with ``relabel`` among its handlers.
        relabel: what relabels the training set.
        classes: names of the K foreground structures.
        patience: epochs without a new maximum that end a stage; the released code: 5.
        max_stage: most epochs of a stage; None: no limit. The paper: none, in trainings of 200 epochs with 150 steps
            each. In a short one the networks grow ever more certain, and G with it, to the end.
        gamma: factor of R, at least 1; the paper: 1.1.
        cap: largest R that gamma leads to: one number, or one per class, background first, or for multi-label one for
            the voxels outside of and one for those in a structure. The paper has none; the released code: 0.9 in and
            0.95 outside of skin lesions, 0.83 and 0.99 for organs in radiographs. At 1 everything is selected.
        max_rounds: most refinements; None: as many as bring G to rise. The released code: 1.
        restart: whether the networks begin every stage from their first weights, or go on with those they have.
        at_end: after the iteration ``"continue"`` trains to the last epoch on the labels as they are then; ``"stop"``
            ends the training.
        networks: the trained networks; needed to restart them.
        optimizer: theirs; its momenta are forgotten with a restart.

    Raises:
        ValueError: if an argument is out of range, or a restart has nothing to restart.

    References:
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, section 2.2.

    Deviation:
        The paper does not say whether networks are trained anew in an iteration; its code goes on with them, and so
        does the default. Epochs in which R still falls from 1 do not count for the maximum of G, which is large then
        because few superpixels are left out. Labels are ranked over the whole set by default (``over_set`` of
        ``relabel``), as in the code; the equations are those of one image.
    """

    def __init__(
        self,
        sweep: Evaluator,
        relabel: SuperpixelRelabel,
        classes: Sequence[str],
        *,
        patience: int = 5,
        max_stage: int | None = None,
        gamma: float = 1.1,
        cap: float | Sequence[float] = 0.95,
        max_rounds: int | None = None,
        restart: bool = False,
        at_end: Literal["continue", "stop"] = "continue",
        networks: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1 epoch, got {patience}.")
        if max_stage is not None and max_stage < 1:
            raise ValueError(f"max_stage must be at least 1 epoch, or None, got {max_stage}.")
        if not 1 <= gamma < math.inf:
            raise ValueError(f"gamma must be at least 1, got {gamma}.")
        if max_rounds is not None and max_rounds < 0:
            raise ValueError(f"max_rounds must not be negative, got {max_rounds}.")
        if at_end not in ("continue", "stop"):
            raise ValueError(f"at_end must be 'continue' or 'stop', got {at_end!r}.")
        if restart and (networks is None or optimizer is None):
            raise ValueError("restart=True needs the networks and their optimizer.")
        self.sweep, self.relabel, self.loss = sweep, relabel, relabel.loss
        self.cap = torch.as_tensor(cap, dtype=self.loss.keep_rates.dtype)
        labels = self.loss.keep_rates.shape[-1]
        if self.cap.shape not in ((), (labels,)) or not bool(((self.cap >= 0) & (self.cap <= 1)).all()):
            raise ValueError(f"cap must be a number in [0, 1], or one for each of {labels} labels; got {cap}.")
        self.settings = {"patience": patience, "max_stage": max_stage, "gamma": gamma, "cap": cap, "restart": restart}
        self.classes = tuple(classes)
        self.patience, self.max_stage = patience, max_stage
        self.gamma, self.max_rounds = gamma, max_rounds
        self.restart, self.at_end = restart, at_end
        self.networks, self.optimizer = networks, optimizer
        self.rounds = 0
        self.gaps: list[float] = []
        self.ended_at = 0
        self._engine: Trainer | None = None
        self._first_weights = copy.deepcopy(networks.state_dict()) if restart and networks is not None else {}

    def attach(self, engine: Trainer) -> None:
        """Act at the end of every epoch of the trainer ``engine``."""
        self._engine = engine
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Trainer) -> None:
        """Publish the gap; refine, or end the iteration, when it is time."""
        total, count = (sum(parts) for parts in zip(*gather_from_all(self.loss.gap_sum), strict=True))
        if not count:
            return
        engine.state.metrics["superpixel_gap"] = total / count
        if self.ended_at or self.loss.falling:
            return
        self.gaps.append(total / count)
        best = self.gaps.index(max(self.gaps))
        passed = len(self.gaps) - 1 - best >= self.patience or len(self.gaps) == self.max_stage
        if not passed or engine.state.epoch == engine.state.max_epochs:  # nobody would learn from a last round
            return
        if self.rounds == self.max_rounds or (self.rounds > 0 and best == 0):
            self._end(engine)
        else:
            self._refine(engine)

    def _refine(self, engine: Trainer) -> None:
        epoch = engine.state.epoch
        self.sweep.run(global_epoch=epoch)
        changes = self.relabel.changes
        relabelled = sum(change.changed > 0 for change in changes)
        if is_main():
            parameters = {
                "epoch": epoch,
                "samples": len(changes),
                "relabelled": relabelled,
                "voxels_relabelled": sum(change.changed for change in changes),
                "keep_rates": self.loss.keep_rates.tolist(),
                "gaps": self.gaps,
                "over_set": self.relabel.over_set,
                "variant": self.loss.variant,
                **self.settings,
                **dice_to_clean(changes, self.classes),
            }
            number = self.relabel.store.commit(
                f"refinement after epoch {epoch}", method="superpixel", parameters=parameters
            )
            logger.info(f"Label round {number} after epoch {epoch}: {relabelled} of {len(changes)} relabelled.")
        wait_for_all()
        engine.state.metrics["labels_relabel"] = relabelled
        rates = self.loss.keep_rates
        rates.copy_(torch.maximum(rates, torch.minimum(self.gamma * rates, self.cap.to(rates.device))))
        self.rounds += 1
        self.gaps = []
        if self.restart:
            self._start_anew(epoch)

    def _start_anew(self, epoch: int) -> None:
        assert self.networks is not None
        assert self.optimizer is not None
        self.networks.load_state_dict(self._first_weights)
        self.optimizer.state.clear()
        self.loss.first_epoch = epoch  # counted from 0, the next one

    def _end(self, engine: Trainer) -> None:
        self.ended_at = engine.state.epoch
        logger.info(f"After epoch {self.ended_at} and {self.rounds} label round(s) the loss gap no longer rises.")
        self._stop_if_ended(engine)

    def _stop_if_ended(self, engine: Trainer) -> None:
        if self.ended_at and self.at_end == "stop":
            engine.state.max_epochs = self.ended_at

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {
            "rounds": self.rounds,
            "gaps": list(self.gaps),
            "ended_at": self.ended_at,
            "first_epoch": self.loss.first_epoch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.rounds, self.gaps, self.ended_at = state["rounds"], list(state["gaps"]), state["ended_at"]
        self.loss.first_epoch = state["first_epoch"]
        if self._engine is not None:
            self._stop_if_ended(self._engine)
