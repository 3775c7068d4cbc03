"""How many of the wrong voxels were found, and how many of the found ones are wrong.

Counts add up over cases and processes; precision and recall do not. So counts are what is passed around.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["detection_counts", "precision_recall"]


def detection_counts(found: Tensor, wrong: Tensor) -> Tensor:
    r"""Voxels of one case that are found and wrong, found, and wrong; add the results of cases and processes.

    Args:
        found: where errors were found, bool or 0 and 1.
        wrong: where the label is truly wrong, as ``given != clean``.

    Shape:
        found, wrong of one form; result (3,) int64.

    Raises:
        ValueError: if the two forms differ.

    Example:
        >>> given, clean = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, 1])
        >>> detection_counts(torch.tensor([False, True, True, False]), given != clean).tolist()
        [1, 2, 2]
    """
    if found.shape != wrong.shape:
        raise ValueError(f"found {tuple(found.shape)} and wrong {tuple(wrong.shape)} must have one form.")
    found, wrong = found > 0, wrong > 0
    return torch.stack([(found & wrong).sum(), found.sum(), wrong.sum()])


def precision_recall(counts: Tensor) -> tuple[float, float]:
    r"""Share of the found voxels that are wrong, and of the wrong ones that are found.

    Args:
        counts: of :func:`detection_counts`, or a sum of such.

    Shape:
        counts (3,); precision is NaN where nothing was found, recall where nothing is wrong.

    Example:
        >>> precision_recall(torch.tensor([30, 40, 120]))
        (0.75, 0.25)
    """
    both, found, wrong = counts.double()
    return float(both / found), float(both / wrong)
