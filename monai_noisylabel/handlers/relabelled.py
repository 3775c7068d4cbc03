"""What a label round did to the cases of a training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monai_noisylabel.metrics import dice, overlap

__all__ = ["Relabelled", "dice_to_clean", "dice_to_truth"]


@dataclass(frozen=True)
class Relabelled:
    """What a sweep did to the label of one case.

    Attributes:
        case: the case's name.
        changed: voxels, over all structures, whose label in use changes.
        before: Dice per structure of the label in use so far to the true one; None where that is unknown.
        after: the same of the new label.
    """

    case: str
    changed: int
    before: Tensor | None
    after: Tensor | None


def dice_to_truth(label: Tensor, truth: Any, num_classes: int | None) -> Tensor | None:
    """Dice per structure of a label to the true one; None where that is unknown."""
    if truth is None:
        return None
    return dice(overlap(label, torch.as_tensor(truth).as_subclass(Tensor).cpu(), num_classes))


def dice_to_clean(changes: Sequence[Relabelled], classes: Sequence[str]) -> dict[str, Any]:
    """Mean Dice of the labels to the true ones before and after, under ``dice_to_clean``, if these are known."""
    found = {}
    for name in ("before", "after"):
        values = [value for change in changes if (value := getattr(change, name)) is not None]
        if values:
            per_class = torch.stack(values).nanmean(0)
            by_class = dict(zip(classes, per_class.tolist(), strict=True))
            found[name] = {"mean": float(per_class.nanmean()), **by_class}
    return {"dice_to_clean": found} if found else {}
