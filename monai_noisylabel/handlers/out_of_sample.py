"""Out-of-sample predictions of a training set, on disk: read again and again, and never in memory together."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from monai_noisylabel.data.label_codec import file_stem
from monai_noisylabel.handlers.exclusive_problems import problem_labels, problem_probabilities

__all__ = ["OutOfSample", "PredictedCase"]


class PredictedCase(NamedTuple):
    r"""One case as a problem of exclusive classes.

    Attributes:
        probability: of every class, (C, \*S) float32.
        given: class indices of the given label, (\*S).
        truth: those of the true label; None where it is unknown.
    """

    probability: Tensor
    given: Tensor
    truth: Tensor | None


class OutOfSample:
    r"""Logits and labels of the cases that this process has predicted, a file each.

    Statistics over a data set read its predictions several times. Reading them is several times (2D, small network) to
    hundreds of times (3D) faster than predicting them again, takes the memory of one case, and gives the very same
    numbers. Space: four bytes per
    voxel and class, two with automatic mixed precision; :meth:`clear` gives it back.

    Args:
        folder: where files go; all processes may share it.
        num_classes: classes including background (multi-class), or None (multi-label).

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> predictions = OutOfSample(folder.name, num_classes=2)
        >>> predictions.add("a", torch.zeros(2, 4), torch.tensor([[0, 1, 1, 0]]))
        >>> p, given = next(iter(predictions.problem(0)))
        >>> p[1].tolist(), given.tolist()
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 1, 0])
        >>> folder.cleanup()
    """

    def __init__(self, folder: str | Path, num_classes: int | None) -> None:
        self.folder = Path(folder)
        self.num_classes = num_classes
        self.cases: list[str] = []

    def add(self, case: str, logits: Tensor, label: Any, truth: Any = None) -> None:
        r"""Write one case.

        Args:
            case: its name.
            logits: (C, \*S), of a network that did not train on it.
            label: the given label, (1, \*S) of class values or (K, \*S) of channels.
            truth: the true label, if it is known.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = {"logits": logits, "label": label, "truth": truth}
        tensors = {
            name: None if part is None else torch.as_tensor(part).as_subclass(Tensor).detach().cpu().clone()
            for name, part in parts.items()
        }
        torch.save(tensors, self._path(case))
        self.cases.append(case)

    def problem(self, number: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Probability and given label of every case, to be read any number of times.

        Args:
            number: of the structure, from 0 (multi-label); 0 for multi-class.
        """
        return _Problem(self, number)

    def read(self, case: str, number: int) -> PredictedCase:
        """One case; of several structures that may overlap only the one that is asked for is read."""
        parts = torch.load(self._path(case), mmap=True, weights_only=True)
        of_it = slice(number, number + 1) if self.num_classes is None else slice(None)
        truth = None if parts["truth"] is None else problem_labels(parts["truth"][of_it], self.num_classes)[0]
        return PredictedCase(
            problem_probabilities(parts["logits"][of_it], self.num_classes)[0],
            problem_labels(parts["label"][of_it], self.num_classes)[0],
            truth,
        )

    def clear(self) -> None:
        """Drop all files; in a distributed run one process does, when all are done."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.cases = []

    def _path(self, case: str) -> Path:
        return self.folder / f"{file_stem(case)}.pt"


class _Problem:
    """A collection, which can be read several times, rather than a generator."""

    def __init__(self, predictions: OutOfSample, number: int) -> None:
        self.predictions, self.number = predictions, number

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for case in self.predictions.cases:
            yield self.predictions.read(case, self.number)[:2]
