"""Scores of suspicion of regions, structures and cases, comparable between small and large objects and images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_noisylabel.audit.regions import Region

__all__ = ["case_score", "region_score", "structure_size"]

SMALLEST = 0.1
"""A structure counts as no smaller than this share of its median size in the data set."""


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


def region_score(region: Region, sizes: Sequence[float]) -> float:
    r"""Suspicion of a region: how much of its structure is wrong, times how sure the network is.

    .. math:: s_R = \min\left(1, \frac{|R|}{N}\right) \; \overline{p_{seems} - p_{given}}

    N is the size of the structure, of two that are confused the smaller. The image does not enter, so the same error
    has the same score in an image of 64 and one of 256 voxels, as on a finer grid.

    Args:
        region: from :func:`~monai_noisylabel.audit.regions.error_regions`.
        sizes: of each class in voxels, see :func:`structure_size`; that of the background is not used.
    """
    related = min(sizes[number] for number in (region.given, region.seems) if number)
    return min(1.0, region.voxels / related) * max(region.margin, 0.0)


def case_score(scores: Sequence[float]) -> float:
    r"""Suspicion of a case, or a structure, from those of its findings.

    .. math:: s = 1 - \prod_R (1 - s_R)

    Example:
        >>> case_score([0.5, 0.5, 0.0]), case_score([])
        (0.75, 0.0)
    """
    return float(1 - np.prod([1 - min(max(score, 0.0), 1.0) for score in scores]))
