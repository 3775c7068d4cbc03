"""What a run has seen so far: one row of numbers per epoch, and which epoch was best."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

__all__ = ["RunHistory"]


class RunHistory:
    """The memory that several handlers share and that a checkpoint carries over an interruption.

    Args:
        first_epoch: the first epoch, from 1, of the network that the run is about. Earlier ones, in which others were
            trained and evaluated, count neither for the best model nor for the mean of the last epochs.

    Attributes:
        rows: numbers of each epoch, in order; every row has ``epoch``, counted from 1.
        best: best validation metric so far, or None.
        best_epoch: the epoch it was reached in, or 0.
        seconds: time spent in training epochs, validation and label rounds included.

    Example:
        >>> history = RunHistory()
        >>> history.rows += [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25, "val_mean_dice": 0.75}]
        >>> print(history.as_csv())
        epoch,train_loss,val_mean_dice
        1,0.5,
        2,0.25,0.75
        <BLANKLINE>
        >>> history.values("val_mean_dice")
        [(2, 0.75)]
    """

    def __init__(self, first_epoch: int = 1) -> None:
        self.first_epoch = first_epoch
        self.rows: list[dict[str, float]] = []
        self.best: float | None = None
        self.best_epoch = 0
        self.seconds = 0.0

    def values(self, name: str) -> list[tuple[float, float]]:
        """The epochs in which ``name`` was measured, with its values."""
        return [(row["epoch"], row[name]) for row in self.rows if name in row]

    def published(self) -> list[str]:
        """Names of the numbers that the method itself adds to an epoch, such as a learned parameter."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        common = ("val_", "test_", "labels_")
        return [name for name in names if name not in ("epoch", "train_loss") and not name.startswith(common)]

    def as_csv(self) -> str:
        """The rows as CSV text; a number that an epoch did not measure is left out."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        vars(self).update(state)
