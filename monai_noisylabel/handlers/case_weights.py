"""How much every training case counts, for losses that weigh whole samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from monai_noisylabel.handlers.processes import gather_from_all

__all__ = ["CaseWeights", "HasSampleWeights"]

_SHARES = {"lowest tenth": 0.1, "median": 0.5, "highest tenth": 0.9}


class HasSampleWeights(Protocol):
    """A loss that weighs the samples of a batch."""

    weights: Tensor
    """Of the last batch, (B,); their mean over the batch is 1."""


class CaseWeights:
    """Notes the weight that a loss gives each training case, and publishes how far the weights lie apart.

    A case's weight is the mean over the last times that it was in a batch; 1 means that it counts as the mean of its
    batch. The lower, the more its label is doubted. The order is a ranking of labels to review, which
    :class:`~monai_noisylabel.handlers.RunReport` writes and draws if it is given this handler.

    After every epoch these enter the trainer's metrics, of the weights given in the epoch:
    ``label_weight/lowest tenth`` (a tenth of the cases weighs less), ``label_weight/median`` and
    ``label_weight/highest tenth``.

    List it before :class:`~monai_noisylabel.handlers.RunReport` and
    :class:`~monai_noisylabel.handlers.TrainingState`; the latter must keep it. In a distributed run all processes end
    every epoch with the weights of all cases.

    Args:
        loss: :class:`~monai_noisylabel.losses.PickAndLearnLoss`.
        last: how many of the last weights of a case its mean is taken over, at least 1.

    Raises:
        ValueError: if ``last`` is less than 1, or a batch has not as many items as the loss gave weights.

    Example:
        >>> from types import SimpleNamespace
        >>> loss = SimpleNamespace(weights=torch.tensor([0.5, 1.5]))
        >>> engine = Engine(lambda engine, batch: loss.weights.mul_(torch.tensor([0.5, 1.5])))
        >>> weights = CaseWeights(loss)
        >>> weights.attach(engine)
        >>> engine.run([[{"case": "a"}, {"case": "b"}]], max_epochs=2).metrics["label_weight/median"]  # .125 and 3.375
        1.75
        >>> weights.means()
        {'a': 0.1875, 'b': 2.8125}
    """

    def __init__(self, loss: HasSampleWeights, last: int = 10) -> None:
        if last < 1:
            raise ValueError(f"The mean is taken over the last 1 weight of a case at least, got last={last}.")
        self.loss = loss
        self.last = last
        self._seen: dict[str, list[float]] = {}
        self._epoch: list[tuple[list[str], Tensor]] = []

    def attach(self, engine: Engine) -> None:
        """Follow the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Take in the epoch's weights of all processes and publish them."""
        own = [pair for cases, weights in self._epoch for pair in zip(cases, weights.tolist(), strict=True)]
        pairs = [pair for part in gather_from_all(own) for pair in part]
        for case, weight in pairs:
            self._seen[case] = [*self._seen.get(case, []), weight][-self.last :]
        weights = torch.tensor([weight for _, weight in pairs], dtype=torch.float64)
        engine.state.metrics.update(
            {f"label_weight/{name}": float(weights.quantile(share)) for name, share in _SHARES.items()}
        )

    def means(self) -> dict[str, float]:
        """Mean of the last weights of every case that was in a batch, in the order of their names."""
        return {case: sum(values) / len(values) for case, values in sorted(self._seen.items())}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"seen": {case: list(values) for case, values in self._seen.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._seen = {case: list(values) for case, values in state["seen"].items()}

    def _start(self, engine: Engine) -> None:
        self._epoch = []

    def _note(self, engine: Engine) -> None:
        items: Any = engine.state.batch
        cases = [str(item["case"]) for item in items]
        weights = self.loss.weights.detach().double()
        if len(cases) != len(weights):
            raise ValueError(f"The loss gave {len(weights)} weights for a batch of {len(cases)} items.")
        self._epoch.append((cases, weights.clone()))
