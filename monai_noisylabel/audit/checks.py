"""Checks of a label that need no model: what is unusual in one case among the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from monai_noisylabel.audit.cohort import Cohort
from monai_noisylabel.audit.findings import Finding
from monai_noisylabel.data.problem import INCOMPLETE, Problem

__all__ = ["check_case", "of_problem"]

AGREED = 0.8
"""From this share of the cases on, an order of left and right is the one that all should have."""


def of_problem(problem: Problem) -> Finding:
    """The finding of a case that the check of the dataset has complained about."""
    harmless = not problem.fatal or problem.kind in INCOMPLETE
    message = f"{problem.message} ({problem.file})" if problem.file else problem.message
    sure = 0.5 if harmless else 1.0
    return Finding(problem.case, "", problem.kind, sure, sure, message, "check")


def check_case(case: str, facts: Sequence[Mapping[str, Any]], cohort: Cohort) -> list[Finding]:
    """What is unusual in the structures of one case.

    Suspicion is the share of the structure that is concerned, times how few of the other cases have the like.

    Args:
        case: its name.
        facts: of each structure.
        cohort: of all cases.

    Returns:
        Findings; their ``place`` is the voxel index in the axes of the masks, still to be turned to those of the file.
    """
    found = [
        finding for k, structure in enumerate(facts) for finding in _of_structure(case, k, structure, facts, cohort)
    ]
    return found + list(_sides(case, facts, cohort))


def _of_structure(
    case: str, k: int, own: Mapping[str, Any], facts: Sequence[Mapping[str, Any]], cohort: Cohort
) -> Iterator[Finding]:
    name = cohort.classes[k]
    if not own["voxels"]:
        rare = 2 * cohort.present[k] - 1
        if rare > 0:
            others = f"{cohort.present[k]:.0%} of the cases have it"
            yield Finding(case, name, "missing structure", rare, rare, f"no {name} is labelled; {others}", "check")
        return
    yield from _islands(case, name, own, cohort.more_components(k, own["components"]))
    for key, kind, rate in (("holes", "hole", cohort.with_holes[k]), ("gaps", "gap", cohort.with_gaps[k])):
        for entry in own[key][:3]:
            share = entry["voxels"] / (own["voxels"] + entry["voxels"])
            where = f"along axis {entry['axis']} at {entry['index']}" if key == "gaps" else "enclosed by it"
            what = "one slice lacks it between two that have it" if key == "gaps" else "background is"
            message = f"{what} {where}; {rate:.0%} of the cases have {key}"
            yield _at(entry, Finding(case, name, kind, share * (1 - rate), 1 - rate, message, "check", share=share))
    yield from _size(case, name, own, cohort, k)
    yield from _place(case, name, own, cohort, k)


def _islands(case: str, name: str, own: Mapping[str, Any], rarity: float) -> Iterator[Finding]:
    """Components besides the largest, where other cases have fewer."""
    if rarity <= 0:
        return
    for island in own["islands"][:3]:
        share = island["voxels"] / own["voxels"]
        message = f"{own['components']} separate pieces; {rarity:.0%} of the cases have fewer"
        yield _at(island, Finding(case, name, "island", share * rarity, rarity, message, "check", share=share))


def _size(case: str, name: str, own: Mapping[str, Any], cohort: Cohort, k: int) -> Iterator[Finding]:
    usual = cohort.volumes[k]
    if usual is None:
        return
    value = float(np.log(own["volume"]))
    excess = max(usual.low - value, value - usual.high)
    if excess > 0:
        share = float(1 - np.exp(-abs(value - usual.middle)))
        sure = float(1 - np.exp(-excess / (usual.high - usual.middle)))
        ratio = np.exp(value - usual.middle)
        kind = "small volume" if value < usual.low else "large volume"
        message = f"its volume is {ratio:.2g} times the median of the cases"
        yield _at(own, Finding(case, name, kind, share * sure, sure, message, "check", share=share), region=False)


def _place(case: str, name: str, own: Mapping[str, Any], cohort: Cohort, k: int) -> Iterator[Finding]:
    for axis, (value, usual) in enumerate(zip(own["centre"], cohort.places[k], strict=True)):
        if usual is None:
            return
        excess = max(usual.low - value, value - usual.high)
        if excess > 0:
            sure = float(1 - np.exp(-excess / (usual.high - usual.middle)))
            message = f"its centre lies at {value:.0%} of axis {axis}, usually {usual.low:.0%} to {usual.high:.0%}"
            yield _at(own, Finding(case, name, "unusual place", sure, sure, message, "check"), region=False)


def _sides(case: str, facts: Sequence[Mapping[str, Any]], cohort: Cohort) -> Iterator[Finding]:
    for (left, right), share in cohort.sides.items():
        if not (facts[left]["voxels"] and facts[right]["voxels"]):
            continue
        order = facts[left]["centre"][0] < facts[right]["centre"][0]
        agreed = share if order else 1 - share
        if 1 - agreed >= AGREED:
            names = f"{cohort.classes[left]} and {cohort.classes[right]}"
            message = f"{names} lie the other way round than in {1 - agreed:.0%} of the cases"
            sure = 1 - agreed
            yield _at(
                facts[left],
                Finding(case, cohort.classes[left], "left and right swapped", sure, sure, message, "check"),
                region=False,
            )


def _at(entry: Mapping[str, Any], finding: Finding, region: bool = True) -> Finding:
    """A finding with its place, and its size where it is a region."""
    placed = replace(finding, place=",".join(map(str, entry["middle"])))
    return replace(placed, voxels=entry["voxels"]) if region else placed
