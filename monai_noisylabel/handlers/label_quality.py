"""How good the training labels are before and after cleansing, and which of them were changed most."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from monai_noisylabel.metrics import dice, overlap

__all__ = ["LabelQuality", "measure_labels"]


@dataclass
class LabelQuality:
    """Agreement of given, cleansed and true labels over a training set.

    Attributes:
        classes: names of the K foreground structures.
        given_to_clean: case -> Dice of the given label to the true one per class; empty where no truth is known.
        cleansed_to_clean: case -> Dice of the label in use after training to the true one.
        cleansed_to_given: case -> Dice of the label in use after training to the given one.
    """

    classes: Sequence[str]
    given_to_clean: dict[str, Tensor] = field(default_factory=dict)
    cleansed_to_clean: dict[str, Tensor] = field(default_factory=dict)
    cleansed_to_given: dict[str, Tensor] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Means over cases, per class and over classes, of each comparison that could be made."""
        result: dict[str, Any] = {"cases": len(self.cleansed_to_given) or len(self.given_to_clean)}
        for name in ("given_to_clean", "cleansed_to_clean", "cleansed_to_given"):
            values = getattr(self, name)
            if values:
                per_class = torch.stack(list(values.values())).nanmean(0)
                result[name] = {
                    "mean": float(per_class.nanmean()),
                    **{label: float(value) for label, value in zip(self.classes, per_class, strict=True)},
                }
        changed = [float(value.nan_to_num(1.0).min()) for value in self.cleansed_to_given.values()]
        if changed:
            result["changed_cases"] = sum(value < 1.0 for value in changed)
        return result

    def ranking(self) -> str:
        """CSV text, one row per case, the labels that training disagreed with most first."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["rank", "case", "dice_to_given", *(f"dice_to_given_{name}" for name in self.classes)])
        agreement = {case: float(value.nanmean().nan_to_num(1.0)) for case, value in self.cleansed_to_given.items()}
        for rank, case in enumerate(sorted(agreement, key=lambda case: (agreement[case], case)), start=1):
            values = [f"{float(value):.4f}" for value in self.cleansed_to_given[case]]
            writer.writerow([rank, case, f"{agreement[case]:.4f}", *values])
        return text.getvalue()


def measure_labels(
    items: Iterable[Mapping[str, Any]],
    classes: Sequence[str],
    num_classes: int | None,
    truth_key: str | None = "clean_label",
) -> LabelQuality:
    """Compare the labels of un-augmented training items.

    Args:
        items: with ``case``, ``label`` (given), optionally ``pseudo_label`` (in use) and the true label.
        classes: names of the K foreground structures.
        num_classes: classes including background (multi-class), or None (multi-label).
        truth_key: key of the true label, or None where it is unknown.
    """
    quality = LabelQuality(classes)
    for item in items:
        case = str(item["case"])
        given = item["label"]
        truth = item[truth_key] if truth_key is not None else None
        used = item.get("pseudo_label")
        if truth is not None:
            quality.given_to_clean[case] = _dice_of_labels(given, truth, num_classes)
        if used is not None:
            quality.cleansed_to_given[case] = _dice_of_labels(used, given, num_classes)
            if truth is not None:
                quality.cleansed_to_clean[case] = _dice_of_labels(used, truth, num_classes)
    return quality


def _dice_of_labels(label: Tensor, other: Tensor, num_classes: int | None) -> Tensor:
    return dice(overlap(label, other, num_classes))
