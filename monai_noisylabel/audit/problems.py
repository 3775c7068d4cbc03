"""A dataset as classification problems of its voxels, read one case at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_noisylabel.audit.probabilities import ProbabilityFolder
from monai_noisylabel.data.case_label import read_case_label
from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.masks import from_masks

__all__ = ["CaseStream", "Problem", "problem_arrays", "problems_of"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """Classes that exclude each other: all of a multi-class dataset, or one structure of a multi-label one.

    Args:
        name: the structure's name, or empty for all of them.
        classes: number of each class in the dataset, background (0) first; structures count from 1.
    """

    name: str
    classes: tuple[int, ...]


def problems_of(spec: DatasetSpec) -> list[Problem]:
    """The problems of a dataset: one, or one per structure where structures may overlap."""
    if not spec.multi_label:
        return [Problem("", tuple(range(len(spec.classes) + 1)))]
    return [Problem(name, (0, number)) for number, name in enumerate(spec.classes, start=1)]


def problem_arrays(problem: Problem, masks: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Given class and probability of every voxel of one problem.

    Where the model has not looked (NaN), it agrees with the label.

    Args:
        problem: the problem.
        masks: masks of all structures.
        p: probabilities as :meth:`~monai_noisylabel.audit.probabilities.ProbabilityFolder.read` returns them.

    Shape:
        masks (K, \*S); p (K + 1, \*S) for a multi-class problem, (K, \*S) for those of overlapping structures;
        results (\*S) uint8, numbers within the problem, and (C, \*S) float32.

    Example:
        >>> masks = np.array([[True, False, True]])
        >>> given, p = problem_arrays(Problem("lung", (0, 1)), masks, np.array([[0.75, 0.5, np.nan]]))
        >>> given.tolist(), p.tolist()
        ([1, 0, 1], [[0.25, 0.5, 0.0], [0.75, 0.5, 1.0]])
    """
    if problem.name:
        index = problem.classes[1] - 1
        given = masks[index].astype(np.uint8)
        p = np.stack([1 - p[index], p[index]]).astype(np.float32)
    else:
        given = from_masks(masks, multi_label=False)[0]
        p = p.astype(np.float32)
    unseen = np.isnan(p).any(0)
    if unseen.any():
        p[:, unseen] = given[unseen] == np.arange(len(p))[:, None]
    return given, p


class CaseStream:
    """Cases of a dataset with their probabilities, of which memory holds one at a time.

    A case that cannot be read is remembered in :attr:`failed`, with the reason, and passed over from then on.

    Args:
        items: the cases by name.
        spec: the dataset.
        folder: the probabilities.
    """

    def __init__(self, items: Mapping[str, Mapping[str, Any]], spec: DatasetSpec, folder: ProbabilityFolder) -> None:
        self.items = items
        self.spec = spec
        self.folder = folder
        self.failed: dict[str, str] = {}

    def of(self, problem: Problem) -> Sequence[tuple[Tensor, Tensor]]:
        """Probability and label of every case of one problem, as often as they are asked for."""
        return _View(self, problem)  # type: ignore[return-value]

    def read(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
        """Probability and label of every case that can be read."""
        for case, item in self.items.items():
            if case in self.failed:
                continue
            try:
                label = read_case_label(item, self.spec)
                given, p = problem_arrays(problem, label.masks, self.folder.read(item, label))
            except Exception as error:  # whatever is wrong with one case, the others must not be lost
                logger.error(f"Case {case!r}: {error}")
                self.failed[case] = str(error)
                continue
            yield torch.from_numpy(p), torch.from_numpy(given)


class _View:
    """The cases of one problem, to be read several times."""

    def __init__(self, stream: CaseStream, problem: Problem) -> None:
        self.stream = stream
        self.problem = problem

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.stream.read(self.problem)
