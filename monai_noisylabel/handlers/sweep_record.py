"""What a sweep over the training set finds out about each sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monai_noisylabel.handlers.processes import gather_from_all
from monai_noisylabel.metrics import mean_dice, overlap

__all__ = ["SampleRecord", "gather_records", "record_sample"]


@dataclass(frozen=True)
class SampleRecord:
    """One sample as a sweep saw it; losses are 1 - Dice and so in [0, 1].

    Attributes:
        case: the sample's name.
        given_loss: loss of the prediction against the given label.
        stored_loss: loss of the prediction against the label in use so far.
        corrected: whether the label in use so far is a stored correction of the given one.
        empty: whether the proposed label is empty, so that there is nothing to propose.
        given_empty: whether the given label is empty, so that its Dice says nothing about how wrong it is.
        predicted: predicted foreground voxels.
    """

    case: str
    given_loss: float
    stored_loss: float
    corrected: bool
    empty: bool
    given_empty: bool = False
    predicted: int = 0


def record_sample(item: dict[str, Any], output: dict[str, Any], num_classes: int | None) -> SampleRecord:
    """Compare the prediction of one sample with its given and its stored label.

    Args:
        item: with ``case``, ``label`` (given) and ``pseudo_label`` (in use).
        output: with ``pred`` and ``candidate``, the predicted and the proposed label.
        num_classes: classes including background (multi-class), or None (multi-label).
    """
    given = item["label"].as_subclass(Tensor).cpu()
    stored = item["pseudo_label"].as_subclass(Tensor).cpu()
    prediction = output["pred"].as_subclass(Tensor).cpu()
    return SampleRecord(
        case=str(item["case"]),
        given_loss=_dice_loss(prediction, given, num_classes),
        stored_loss=_dice_loss(prediction, stored, num_classes),
        corrected=not torch.equal(given.to(stored.dtype), stored),
        empty=not bool(output["candidate"].any()),
        given_empty=not bool(given.any()),
        predicted=int(torch.count_nonzero(prediction)),
    )


def gather_records(records: Iterable[SampleRecord]) -> list[SampleRecord]:
    """The records of all ranks, each case once, in the order of the cases' names."""
    everywhere = {record.case: record for part in gather_from_all(list(records)) for record in part}
    return [everywhere[case] for case in sorted(everywhere)]


def _dice_loss(prediction: Tensor, label: Tensor, num_classes: int | None) -> float:
    return 1.0 - mean_dice(overlap(prediction, label, num_classes))
