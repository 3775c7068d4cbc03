"""Numbers that a method learns or decides, among the metrics of every epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import SupportsFloat

import torch
from ignite.engine import Engine, Events

__all__ = ["PublishedValues"]


class PublishedValues:
    """Puts values into the trainer's metrics at the end of every epoch.

    From there they reach metrics.csv and report.png (:class:`~monai_noisylabel.handlers.RunReport`), MLflow and
    TensorBoard. List it before the handlers that write these.

    Args:
        values: what to ask at the end of an epoch, by the name of the metric. Names with a common part before a
            slash, such as ``keep_rate/lung``, are drawn together.

    Example:
        >>> log_nu = torch.zeros(())
        >>> engine = Engine(lambda engine, batch: log_nu.add_(0.5))
        >>> PublishedValues({"nu": log_nu.exp}).attach(engine)
        >>> round(engine.run([0], max_epochs=2).metrics["nu"], 4)
        2.7183
    """

    def __init__(self, values: Mapping[str, Callable[[], SupportsFloat]]) -> None:
        self.values = values

    def attach(self, engine: Engine) -> None:
        """Act after every epoch of ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Publish the present values."""
        values = {name: torch.as_tensor(value()).detach() for name, value in self.values.items()}
        engine.state.metrics.update({name: float(value) for name, value in values.items()})
