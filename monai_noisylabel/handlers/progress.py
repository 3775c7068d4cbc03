"""One progress bar over a whole training, with the time left."""

from __future__ import annotations

import sys

from ignite.engine import Engine, Events
from tqdm.auto import tqdm

__all__ = ["Progress"]


class Progress:
    """Shows epoch, loss and validation Dice, and how long the training still takes.

    On a terminal the bar moves every second; in a log file, where every step of it stays, every half minute.

    Args:
        metric: a name in the metrics of ``evaluator`` to show, if both are given.
        evaluator: the evaluator whose metric is shown.
    """

    def __init__(self, evaluator: Engine | None = None, metric: str = "val_mean_dice") -> None:
        self.evaluator = evaluator
        self.metric = metric
        self._bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        """Follow the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._describe)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _open(self, engine: Engine) -> None:
        if self._bar is None:
            total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
            self._bar = tqdm(
                total=total,
                initial=engine.state.iteration,
                desc="training",
                unit="step",
                mininterval=1 if sys.stderr.isatty() else 30,
            )

    def _advance(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.update()

    def _describe(self, engine: Engine) -> None:
        if self._bar is None:
            return
        self._bar.set_description(f"epoch {engine.state.epoch}/{engine.state.max_epochs}", refresh=False)
        if self.evaluator is not None and self.metric in self.evaluator.state.metrics:
            value = self.evaluator.state.metrics[self.metric]
            self._bar.set_postfix_str(f"{self.metric} {value:.3f}", refresh=False)

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
