"""How good the training labels are before and after cleansing, and which of them are doubted most."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from monai_noisylabel.metrics import auroc, average_precision, dice, overlap

__all__ = ["LabelQuality", "measure_labels"]


@dataclass
class LabelQuality:
    """Agreement of given, cleansed and true labels over a training set, and what a method thinks of the given ones.

    Attributes:
        classes: names of the K foreground structures.
        given_to_clean: case -> Dice of the given label to the true one per class; empty where no truth is known.
        cleansed_to_clean: case -> Dice of the label in use after training to the true one.
        cleansed_to_given: case -> Dice of the label in use after training to the given one.
        weights: case -> how much it counts in training (:class:`~monai_noisylabel.handlers.CaseWeights`).
        cases: names of all cases, in the order of the items.
    """

    classes: Sequence[str]
    given_to_clean: dict[str, Tensor] = field(default_factory=dict)
    cleansed_to_clean: dict[str, Tensor] = field(default_factory=dict)
    cleansed_to_given: dict[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    cases: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> dict[str, bool]:
        """Case -> whether its given label differs from the true one, where that is known."""
        return {case: float(value.nan_to_num(1.0).min()) < 1.0 for case, value in self.given_to_clean.items()}

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
        if self.weights and self.wrong:
            result["weight_finds_wrong"] = self._weight_finds_wrong()
        return result

    def _weight_finds_wrong(self) -> dict[str, Any]:
        """How well the order of the weights, the lowest first, puts wrong labels before right ones."""
        known = self.wrong
        cases = [case for case in self.weights if case in known]
        suspicion = -torch.tensor([self.weights[case] for case in cases], dtype=torch.float64)
        wrong = torch.tensor([known[case] for case in cases])
        return {
            "wrong_cases": int(wrong.sum()),
            "right_cases": int((~wrong).sum()),
            "auroc": auroc(suspicion, wrong),
            "average_precision": average_precision(suspicion, wrong),
            "mean_weight_of_wrong": float(-suspicion[wrong].mean()),
            "mean_weight_of_right": float(-suspicion[~wrong].mean()),
        }

    def ranking(self) -> str:
        """CSV text, one row per case, the labels that training disagreed with most, or weighed least, first."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self.weights:
            writer.writerow(["rank", "case", "weight"])
            for rank, (case, weight) in enumerate(self.by_weight(), start=1):
                writer.writerow([rank, case, f"{weight:.4f}"])
            return text.getvalue()
        writer.writerow(["rank", "case", "dice_to_given", *(f"dice_to_given_{name}" for name in self.classes)])
        agreement = {case: float(value.nanmean().nan_to_num(1.0)) for case, value in self.cleansed_to_given.items()}
        for rank, case in enumerate(sorted(agreement, key=lambda case: (agreement[case], case)), start=1):
            values = [f"{float(value):.4f}" for value in self.cleansed_to_given[case]]
            writer.writerow([rank, case, f"{agreement[case]:.4f}", *values])
        return text.getvalue()

    def by_weight(self) -> list[tuple[str, float]]:
        """Cases with their weights, the lowest first."""
        return sorted(self.weights.items(), key=lambda entry: (entry[1], entry[0]))


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
        quality.cases.append(case)
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
