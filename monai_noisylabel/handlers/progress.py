"""One progress bar over a whole training, with the time left."""

from __future__ import annotations

from ignite.engine import Engine, Events
from tqdm.auto import tqdm

__all__ = ["Progress"]


class Progress:
    """Shows epoch, loss and validation Dice, and how long the training still takes.

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
            self._bar = tqdm(total=total, initial=engine.state.iteration, desc="training", unit="step", mininterval=1)

    def _advance(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.update()

    def _describe(self, engine: Engine) -> None:
        if self._bar is None:
            return
        self._bar.set_description(f"epoch {engine.state.epoch}/{engine.state.max_epochs}")
        if self.evaluator is not None and self.metric in self.evaluator.state.metrics:
            self._bar.set_postfix_str(f"{self.metric} {self.evaluator.state.metrics[self.metric]:.3f}")

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
