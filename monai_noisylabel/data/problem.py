"""What can be wrong with a dataset, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["INCOMPLETE", "Problem", "ProblemKind"]

ProblemKind = Literal[
    "unreadable",
    "image without label",
    "label without image",
    "outside",
    "ambiguous file",
    "patient id",
    "shape",
    "affine",
    "orientation",
    "channels",
    "dimensions",
    "label values",
    "empty label",
    "not finite",
    "constant image",
    "duplicate case",
    "duplicate patient",
    "not found",
]

INCOMPLETE: tuple[ProblemKind, ...] = ("image without label", "label without image")
"""Kinds that only make a dataset smaller: nothing in it is damaged or contradictory."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one case.

    Args:
        case: case id.
        file: the file it was seen in, relative to the dataset folder; empty when it concerns no single file.
        kind: what is wrong, in the terms of :data:`ProblemKind`.
        message: what was found and how to mend it.
        fatal: whether the case is left out of training because of it.

    Example:
        >>> print(Problem("liver_007", "labels/7.nii.gz", "empty label", "no voxel is labelled", fatal=False))
        liver_007: empty label: no voxel is labelled (labels/7.nii.gz)
    """

    case: str
    file: str
    kind: ProblemKind
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.case}: {self.kind}: {self.message}" + (f" ({self.file})" if self.file else "")
