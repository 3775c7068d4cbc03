"""Scores of suspicion of regions, structures and cases, comparable between small and large images and structures.

Their settings were chosen on simulated errors in the 50 JSRT images of the folder ``validation`` and on drawn
predictions, not on the cases that the tables of results are about.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_noisylabel.audit.regions import Region, beyond_tolerance

__all__ = [
    "case_suspicion",
    "dice_with_floor",
    "evidence_against",
    "region_score",
    "structure_size",
    "structure_suspicion",
]

SMALLEST = 0.1
"""A structure counts as no smaller than this share of its median size in the data set."""

RIM = 0.25
"""Weight of contradictions within the tolerance: they order cases that nothing else tells apart."""

LEAST_USUAL = 0.02
"""Share of a structure that a case may be contradicted in without a doubt."""

SURE = 0.99
DECISIVE = 3


def structure_size(given: int, seems: int, median: float) -> float:
    """Size that an error of a structure is related to, in voxels.

    Args:
        given: voxels of it in the label.
        seems: voxels of it in the prediction.
        median: its median over the cases.

    Example:
        >>> structure_size(0, 5, 400.0), structure_size(300, 320, 400.0)
        (40.0, 320)
    """
    return max(given, seems, SMALLEST * median)


def dice_with_floor(both: int, given: int, seems: int, median: float) -> float:
    r"""Dice of label and prediction, in which a tenth of the median size counts as agreed.

    .. math:: D = \frac{2 |G \cap S| + N / 10}{|G| + |S| + N / 10}

    So two empty ones agree, and a few voxels more in a small one are no disaster. Its median over the cases says how
    well the network knows a structure.

    Example:
        >>> dice_with_floor(0, 0, 0, 100.0), dice_with_floor(95, 100, 100, 100.0), dice_with_floor(0, 0, 30, 100.0)
        (1.0, 0.9524, 0.25)
    """
    floor = SMALLEST * median
    return 1.0 if given + seems + floor == 0 else float((2 * both + floor) / (given + seems + floor))


def region_score(region: Region, sizes: Sequence[float]) -> float:
    r"""Suspicion of a region by itself: how much of its structure is wrong, times how sure the network is.

    .. math:: s_R = \min\left(1, \frac{|R|}{N}\right) \; \overline{p_{seems} - p_{given}}

    N is the size of the structure, of two that are confused the smaller. The image does not enter, so the same error
    has the same score in an image of 64 and one of 256 voxels, as on a finer grid.

    Args:
        region: from :func:`~monai_noisylabel.audit.regions.error_regions`.
        sizes: of each class in voxels, see :func:`structure_size`; that of the background is not used.
    """
    related = min(sizes[number] for number in (region.given, region.seems) if number)
    return min(1.0, region.voxels / related) * max(region.margin, 0.0)


def evidence_against(
    given: np.ndarray, p: np.ndarray, number: int, spacing: Sequence[float], tolerance: float | None = None
) -> float:
    r"""How much contradicts the label of one structure, in voxels.

    .. math:: x = \sum_{u \in D} w_u \, |p_u - y_u|

    over the voxels D where label and prediction differ about the structure; w is 1 beyond the tolerance, see
    :func:`~monai_noisylabel.audit.regions.beyond_tolerance`, and 1/4 within. A prediction that is merely unsure
    contradicts nothing: where its most probable class is the given one, x is 0 whatever the size of the image.

    Args:
        given: class in the label.
        p: probability of every class.
        number: the structure's.
        spacing: voxel size along each axis.
        tolerance: as :func:`~monai_noisylabel.audit.regions.beyond_tolerance`.

    Shape:
        given (\*S); p (C, \*S).

    Example:
        >>> given = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> p = np.array([0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.4])  # one voxel within the tolerance, three beyond
        >>> evidence_against(given, np.stack([1 - p, p]), 1, [1.0])
        2.85
    """
    mask, seems = given == number, p.argmax(0) == number
    total = 0.0
    for lost in (True, False):
        where = (mask & ~seems) if lost else (seems & ~mask)
        if not where.any():
            continue
        sides = (~mask, seems) if lost else (mask, ~seems)
        beyond = beyond_tolerance(*sides, where, spacing, tolerance, outside=(lost, not lost))
        weight = np.where(beyond[where], 1.0, RIM)
        total += float((weight * np.abs(p[number][where] - mask[where])).sum())
    return total


def structure_suspicion(share: float, usual: float, known: float = 1.0, check: float = 0.0) -> float:
    r"""Suspicion of a structure's label in one case, among the other cases.

    .. math:: s = 1 - (1 - c) \left(1 + \frac{x}{\bar{x} + 0.02}\right)^{-D}

    So a structure that the network does not know, and contradicts everywhere, makes no case suspicious, and it takes
    little where it knows a structure well.

    Args:
        share: x, :func:`evidence_against` as a share of the structure's median size.
        usual: its median over the cases.
        known: D, the median of :func:`dice_with_floor` over the cases.
        check: c, suspicion of the checks that need no model.

    Example:
        >>> structure_suspicion(0.0, 0.0), structure_suspicion(0.1, 0.0), structure_suspicion(0.1, 0.08)
        (0.0, 0.8333, 0.5)
    """
    return 1 - (1 - min(check, SURE)) * (1 + min(share, 1.0) / (usual + LEAST_USUAL)) ** -known


def case_suspicion(structures: Sequence[float]) -> float:
    r"""Suspicion of a case from that of its three most suspicious structures.

    .. math:: s = 1 - \left(\prod_{k=1}^{3} (1 - s_k)\right)^{1/3}

    The mean of three, because the most suspicious one alone is often that which the network knows least; not of all,
    because one wrong structure of many would be overlooked.

    Example:
        >>> case_suspicion([0.5, 0.5]), case_suspicion([0.0, 0.0, 0.0, 0.0, 0.992]), case_suspicion([])
        (0.5, 0.8, 0.0)
    """
    highest = np.sort(np.asarray(structures, dtype=float))[::-1][:DECISIVE]
    if not len(highest):
        return 0.0
    return float(1 - np.exp(np.log1p(-np.minimum(highest, 1 - 1e-9)).mean()))
