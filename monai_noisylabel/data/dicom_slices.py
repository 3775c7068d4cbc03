"""The slices of a DICOM series as their headers describe them, put in order by geometry and judged as one grid."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

__all__ = ["DicomError", "DicomSlice", "at", "named", "ordered_slices", "slice_step"]

SAME_PLACE = 0.01
"""Slices that are nearer to each other than this, in mm, lie at the same position."""
UNEVEN = 0.1
"""Part of the usual step by which a step between two slices may differ; of a pixel, how far a slice may lie aside."""
TILT = 0.01
"""Sideways part of the way from slice to slice that is rounding; more is a tilted gantry."""
SHOWN = 4

Numbers = tuple[float, ...]


class DicomError(ValueError):
    """A DICOM file or series that cannot be used as it is; the message names the files and says how to mend it."""


@dataclass(frozen=True, slots=True)
class DicomSlice:
    """What the header of one image says. Positions and directions are DICOM's: x to the left, y to the back, in mm.

    Args:
        path: the file.
        uid: SOPInstanceUID.
        position: ImagePositionPatient, the middle of the first pixel.
        orientation: ImageOrientationPatient, the direction of a row and of a column.
        spacing: PixelSpacing, from row to row and from column to column.
        size: rows and columns.
        thickness: SpacingBetweenSlices, else SliceThickness, else 1; what a series of one slice goes by.
    """

    path: Path
    uid: str
    position: Numbers
    orientation: Numbers
    spacing: Numbers
    size: tuple[int, int]
    thickness: float = 1.0

    @property
    def normal(self) -> np.ndarray:
        """Direction that slices are stacked in."""
        return np.cross(self.orientation[:3], self.orientation[3:])


def ordered_slices(slices: Sequence[DicomSlice], where: object) -> tuple[DicomSlice, ...]:
    """Slices in the order of their positions along their normal, after proof that they make one regular volume.

    Args:
        slices: one or more slices of a series, in any order.
        where: what messages begin with.

    Raises:
        DicomError: if size, pixel spacing or orientation are mixed, several slices lie at one position, one is
            missing, or they are not stacked along their normal.
    """
    _alike(slices, where, "size", lambda one: one.size, " x ".join, 0)
    _alike(slices, where, "pixel spacing", lambda one: one.spacing, " x ".join, 1e-3)
    _alike(slices, where, "orientation", lambda one: one.orientation, "\\".join, 1e-3)
    along = slices[0].orientation
    lengths = (np.linalg.norm(along[:3]), np.linalg.norm(along[3:]), np.linalg.norm(slices[0].normal))
    if not np.allclose(lengths, 1, atol=1e-2):
        raise DicomError(f"{where}: the orientation {_text(along, '/'.join)} is no pair of perpendicular directions.")
    ordered = sorted(slices, key=_along)
    _apart(ordered, where)
    _even(ordered, where)
    _straight(ordered, where)
    return tuple(ordered)


def slice_step(ordered: Sequence[DicomSlice]) -> np.ndarray:
    """Way from one slice to the next, a vector in mm."""
    if len(ordered) == 1:
        return ordered[0].normal * ordered[0].thickness
    return np.subtract(ordered[-1].position, ordered[0].position) / (len(ordered) - 1)


def at(one: DicomSlice) -> str:
    """A slice by its file and its position along the normal.

    Example:
        >>> at(DicomSlice(Path("ct/7.dcm"), "1.2", (0, 0, -12.5), (1, 0, 0, 0, 1, 0), (1, 1), (8, 8)))
        '7.dcm at -12.5 mm'
    """
    return f"{one.path.name} at {_along(one):.6g} mm"


def named(texts: Sequence[str]) -> str:
    """The first few of many, with commas between.

    Example:
        >>> named(["a", "b"]), named(list("abcdefg"))
        ('a, b', 'a, b, c, d and 3 more')
    """
    rest = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _along(one: DicomSlice) -> float:
    return float(np.dot(one.position, one.normal))


def _text(numbers: Sequence[float], join: Callable[[list[str]], str]) -> str:
    return join([f"{number:.6g}" for number in numbers])


def _alike(
    slices: Sequence[DicomSlice],
    where: object,
    what: str,
    of: Callable[[DicomSlice], Sequence[float]],
    join: Callable[[list[str]], str],
    tolerance: float,
) -> None:
    """Refuse slices that differ in something from most of them."""
    usual = Counter(tuple(round(number, 4) for number in of(one)) for one in slices).most_common(1)[0][0]
    others = [one for one in slices if not np.allclose(of(one), usual, rtol=0, atol=tolerance)]
    if others:
        raise DicomError(
            f"{where}: mixed {what}: {named([f'{at(one)} has {_text(of(one), join)}' for one in others])}, the other "
            f"{len(slices) - len(others)} have {_text(usual, join)}. A volume needs slices that are alike; move those "
            "of another kind, such as a scout view, into a folder of their own."
        )


def _apart(ordered: Sequence[DicomSlice], where: object) -> None:
    """Refuse several slices at one position."""
    groups: list[list[DicomSlice]] = [[ordered[0]]]
    for one in ordered[1:]:
        if _along(one) - _along(groups[-1][-1]) < SAME_PLACE:
            groups[-1].append(one)
        else:
            groups.append([one])
    several = [
        f"{named([one.path.name for one in group])} at {_along(group[0]):.6g} mm" for group in groups if group[1:]
    ]
    if several:
        raise DicomError(
            f"{where}: several slices lie at the same position: {named(several)}. Keep one of those that are there "
            "twice; split a series of several time points or contrasts into a folder each."
        )


def _even(ordered: Sequence[DicomSlice], where: object) -> None:
    """Refuse steps that differ from the usual one, as where a slice is missing."""
    pairs = list(pairwise(ordered))
    if not pairs:
        return
    steps = [_along(b) - _along(a) for a, b in pairs]
    usual = statistics.median_low(steps)
    wrong = [(a, b, step) for (a, b), step in zip(pairs, steps, strict=True) if abs(step - usual) > UNEVEN * usual]
    if wrong:
        gaps = [f"{at(a)} and {at(b)} are {step:.4g} mm apart{_missing(step / usual)}" for a, b, step in wrong]
        raise DicomError(
            f"{where}: the slices are not evenly spaced: {named(gaps)}; the usual step is {usual:.4g} mm. Restore what "
            "is missing from the source, or resample the series to an even spacing."
        )


def _missing(ratio: float) -> str:
    """What a step of so many usual ones suggests."""
    absent = round(ratio) - 1
    if absent < 1 or abs(ratio - round(ratio)) > UNEVEN:
        return ""
    return f" ({absent} {'slice is' if absent == 1 else 'slices are'} missing between them)"


def _straight(ordered: Sequence[DicomSlice], where: object) -> None:
    """Refuse slices that are not stacked along their normal."""
    first, step = ordered[0], slice_step(ordered)
    tilt = float(np.linalg.norm(np.cross(step, first.normal)) / np.linalg.norm(step))
    if tilt > TILT:
        raise DicomError(
            f"{where}: the slices are not stacked along their normal, but at an angle of "
            f"{np.degrees(np.arcsin(min(tilt, 1.0))):.2g} degrees ({at(first)} to {at(ordered[-1])}), as with a tilted "
            "gantry. Resample the series to a straight grid first, for example with dcm2niix."
        )
    aside = [np.subtract(one.position, first.position) - k * step for k, one in enumerate(ordered)]
    sideways = [float(np.linalg.norm(np.cross(way, first.normal))) for way in aside]
    off = [one for one, way in zip(ordered, sideways, strict=True) if way > UNEVEN * min(first.spacing)]
    if off:
        raise DicomError(
            f"{where}: {named([at(one) for one in off])} lie up to {max(sideways):.3g} mm beside the stack of the "
            "others. Export the series again from its source."
        )
