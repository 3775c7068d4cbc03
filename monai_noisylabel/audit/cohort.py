"""What is usual for a structure among the cases of a dataset, so that the unusual can be told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Cohort", "Range", "side_pairs", "usual_range"]

Facts = Mapping[str, Sequence[Mapping[str, Any]]]

SCALE = 1.4826  # of the median absolute deviation, to be the standard deviation of normal values
OUTLIER = 3.5
FEWEST = 8
VOLUME_FLOOR = 0.05  # least deviation of the logarithm of a volume
PLACE_FLOOR = 0.01  # ... and of a place, as a fraction of the image
SIDE = re.compile(r"(?<![a-z])(left|right|l|r)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Range:
    """Values that are usual.

    Args:
        low: lower end.
        middle: median.
        high: upper end.
    """

    low: float
    middle: float
    high: float


def usual_range(values: Sequence[float], floor: float) -> Range | None:
    r"""Median and 3.5 robust standard deviations around it.

    .. math:: \operatorname{med} \pm 3.5 \max(1.4826 \operatorname{med} |x - \operatorname{med}|, \text{floor})

    Half of the values may be wrong without moving it far.

    Args:
        values: of all cases.
        floor: least standard deviation.

    Returns:
        None for fewer than 8 values, among which nothing is unusual.

    Example:
        >>> usual_range([1, 2, 3, 4, 5, 6, 7, 100], 0.1)
        Range(low=-5.8782, middle=4.5, high=14.8782)

    References:
        B. Iglewicz and D. Hoaglin, How to detect and handle outliers, 1993, for the limit of 3.5.
    """
    if len(values) < FEWEST:
        return None
    middle = float(np.median(values))
    deviation = max(SCALE * float(np.median(np.abs(np.asarray(values) - middle))), floor)
    return Range(middle - OUTLIER * deviation, middle, middle + OUTLIER * deviation)


class Cohort:
    """The structures of all cases together.

    Args:
        facts: for each case, the facts of each structure (see
            :func:`~monai_noisylabel.audit.shape_facts.shape_facts`).
        classes: names of the structures.
    """

    def __init__(self, facts: Facts, classes: Sequence[str]) -> None:
        self.cases = len(facts)
        self.classes = tuple(classes)
        held = [[case[k] for case in facts.values() if case[k]["voxels"]] for k in range(len(classes))]
        self.present = [len(cases) / max(self.cases, 1) for cases in held]
        self.volumes = [usual_range([float(np.log(c["volume"])) for c in cases], VOLUME_FLOOR) for cases in held]
        self.median_volume = [float(np.median([c["volume"] for c in cases])) if cases else 0.0 for cases in held]
        self.places = [_places(cases) for cases in held]
        self.with_holes = [_share(cases, "holes") for cases in held]
        self.with_gaps = [_share(cases, "gaps") for cases in held]
        self.components = [sorted(c["components"] for c in cases) for cases in held]
        self.sides = {pair: _majority(facts, pair) for pair in side_pairs(classes)}

    def more_components(self, structure: int, count: int) -> float:
        """Share of the cases that have fewer components of a structure than ``count``."""
        counts = self.components[structure]
        return float(np.searchsorted(counts, count) / len(counts)) if counts else 0.0

    def as_dict(self) -> dict[str, Any]:
        """What scores of regions depend on, as plain values."""
        return {"cases": self.cases, "classes": list(self.classes), "median_volume": self.median_volume}


def side_pairs(classes: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of structures whose names differ by their side only, left first.

    Example:
        >>> side_pairs(["kidney_right", "kidney_left", "liver"]), side_pairs(["left lobe", "right heart"])
        ([(1, 0)], [])
    """
    sides: dict[str, dict[str, int]] = {}
    for index, name in enumerate(classes):
        found = SIDE.search(name)
        if found:
            sides.setdefault(SIDE.sub("*", name, count=1).lower(), {})[found[1][0].lower()] = index
    return [(pair["l"], pair["r"]) for pair in sides.values() if len(pair) == 2]


def _majority(facts: Facts, pair: tuple[int, int]) -> float:
    """Share of the cases in which the left structure comes first along the first axis; NaN without such cases."""
    order = [
        case[pair[0]]["centre"][0] < case[pair[1]]["centre"][0]
        for case in facts.values()
        if case[pair[0]]["voxels"] and case[pair[1]]["voxels"]
    ]
    return float(np.mean(order)) if len(order) >= FEWEST else float("nan")


def _places(cases: Sequence[Mapping[str, Any]]) -> list[Range | None]:
    axes = len(cases[0]["centre"]) if cases else 0
    return [usual_range([case["centre"][axis] for case in cases], PLACE_FLOOR) for axis in range(axes)]


def _share(cases: Sequence[Mapping[str, Any]], key: str) -> float:
    return sum(bool(case[key]) for case in cases) / max(len(cases), 1)
