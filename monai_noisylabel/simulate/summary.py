"""What a simulation amounts to over all its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["summarise"]


def summarise(lines: Iterable[Mapping[str, Any]], classes: Sequence[str], multi_label: bool) -> dict[str, Any]:
    """Add up the records of a simulation, one at a time.

    Args:
        lines: records of the cases, from :func:`~monai_noisylabel.simulate.simulate_case.simulate_case`.
        classes: names of the structures.
        multi_label: whether they may overlap.

    Returns:
        ``cases``; ``noisy_cases`` whose label differs, and their share ``case_noise_rate``; ``voxel_noise_rate``,
        the share of voxels whose class differs (for overlapping structures, over the voxels of all of them), and
        ``foreground_noise_rate``, as many in relation to the clean foreground; cases per ``models`` and
        ``annotators``; the ``transition`` matrix, as counts and as rates given the clean class; and for each of
        the ``classes`` the number of ``cases`` that hold it, how many of these ``changed``, in how many it
        ``vanished`` or was ``added``, ``dice`` over the cases that hold it, and over the changed ones
        ``dice_changed``, ``volume_ratio`` and ``surface_distance``; and the ``taxonomy`` of errors. A mean of
        nothing is None.
    """
    counts: Counter[str] = Counter()
    models: Counter[str] = Counter()
    annotators: Counter[str] = Counter()
    transition = np.zeros((len(classes), 2, 2) if multi_label else (len(classes) + 1,) * 2, dtype=np.int64)
    structures = {str(number): _Structure() for number in range(1, len(classes) + 1)}
    for line in lines:
        counts["cases"] += 1
        counts["noisy"] += any(dice < 1 for dice in line["dice"].values())
        models[line["model"]] += 1
        if line["annotator"] is not None:
            annotators[str(line["annotator"])] += 1
        transition += np.array(line["voxels"])
        for number, structure in structures.items():
            structure.add(line, number)
    tables = transition if multi_label else transition[None]
    changed = int(tables.sum() - np.trace(tables, axis1=1, axis2=2).sum())
    return {
        "cases": counts["cases"],
        "noisy_cases": counts["noisy"],
        "case_noise_rate": _ratio(counts["noisy"], counts["cases"]),
        "voxel_noise_rate": _ratio(changed, int(tables.sum())),
        "foreground_noise_rate": _ratio(changed, int(tables[:, 1:].sum())),
        "models": dict(sorted(models.items())),
        "annotators": dict(sorted(annotators.items(), key=lambda entry: int(entry[0]))),
        "transition": _transition(transition, classes, multi_label),
        "classes": {name: structures[str(k)].as_dict() for k, name in enumerate(classes, start=1)},
    }


class _Structure:
    """Sums over the cases of one structure."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.taxonomy: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()

    def add(self, line: Mapping[str, Any], number: str) -> None:
        dice, ratio, distance = (line[key][number] for key in ("dice", "volume_ratio", "surface_distance"))
        self.taxonomy[line["taxonomy"][number]] += 1
        table = np.array(line["voxels"])
        held = table[int(number) - 1][1].any() if table.ndim == 3 else table[int(number)].any()
        if ratio is None:
            self.counts["added"] += 1
        if not held:
            return
        self.counts["cases"] += 1
        self.sums["dice"] += dice
        if dice == 1:
            return
        self.counts["changed"] += 1
        self.sums["dice_changed"] += dice
        self.sums["volume_ratio"] += ratio
        if distance is None:
            self.counts["vanished"] += 1
        else:
            self.counts["measured"] += 1
            self.sums["surface_distance"] += distance

    def as_dict(self) -> dict[str, Any]:
        changed = self.counts["changed"]
        return {
            **{key: self.counts[key] for key in ("cases", "changed", "vanished", "added")},
            "dice": _ratio(self.sums["dice"], self.counts["cases"]),
            "dice_changed": _ratio(self.sums["dice_changed"], changed),
            "volume_ratio": _ratio(self.sums["volume_ratio"], changed),
            "surface_distance": _ratio(self.sums["surface_distance"], self.counts["measured"]),
            "taxonomy": dict(sorted(self.taxonomy.items())),
        }


def _transition(counts: np.ndarray, classes: Sequence[str], multi_label: bool) -> dict[str, Any]:
    """Counts and rates with the names of their rows and columns; per structure where these overlap."""
    if multi_label:
        return {name: _transition(counts[k], [name], False) for k, name in enumerate(classes)}
    totals = counts.sum(1, keepdims=True)
    rates = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    return {"classes": ["background", *classes], "counts": counts.tolist(), "rates": rates.tolist()}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
