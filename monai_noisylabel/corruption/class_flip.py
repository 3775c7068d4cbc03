"""Class-flip noise: every voxel is mistaken for another class by itself, with the probabilities of a matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from .model import Draw, present_structures, require_number
from .record import Parameters

__all__ = ["ClassFlipNoise", "flip_classes", "symmetric_transition"]


@dataclasses.dataclass(frozen=True)
class ClassFlipNoise:
    """Every voxel keeps its class with a given probability, else it gets another one; see :func:`flip_classes`.

    The noise that loss corrections with a transition matrix assume. Annotators do not err like this: a network
    averages independent voxels away, so results on it say little about real label errors.

    This model adds classes that an image does not hold, and can empty a structure. The channels of a multi-label
    label are flipped each by itself, as a binary map.

    Attributes:
        keep: probability that a voxel keeps its class, 0 to 1; otherwise all other classes of the label,
            background among them, are equally likely. The paper uses 0.5.
        transition: matrix to use instead of that: entry (c, j) is the probability that a voxel of class c is
            labelled j, class 0 being background. For a multi-label label it is 2 x 2.

    Raises:
        ValueError: for a keep out of range or a transition that is no such matrix; the message names the field.

    Example:
        >>> from functools import partial
        >>> import numpy as np
        >>> from monai_noisylabel.corruption import case_generator
        >>> masks = np.zeros((2, 100, 100), bool)
        >>> masks[0, :50] = True
        >>> draw = partial(case_generator, 0, "a")
        >>> noisy, drawn = ClassFlipNoise().apply(masks, draw, spacing=None, overlap=False)
        >>> drawn, [round(float(mask.mean()), 2) for mask in noisy]
        ({'1': {'keep': 0.5, 'kept': 0.4964}}, [0.37, 0.24])

    References:
        X. Guo, Y. Yuan, Joint Class-Affinity Loss Correction for Robust Medical Image Segmentation with Noisy
        Labels.
    """

    may_add: ClassVar[bool] = True
    may_empty: ClassVar[bool] = True

    keep: float = 0.5
    transition: Sequence[Sequence[float]] | None = None

    def __post_init__(self) -> None:
        require_number("class_flip", "keep", self.keep, 0, 1)
        if self.transition is not None:
            matrix = _checked(self.transition, "Noise model 'class_flip': transition")
            object.__setattr__(self, "transition", tuple(map(tuple, matrix.tolist())))

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        """See :meth:`~monai_noisylabel.corruption.model.NoiseModel.apply`.

        One stream per structure for a multi-label label, one stream ``"classes"`` for the case otherwise.

        Raises:
            ValueError: if the transition matrix is not that of the label's number of classes.
        """
        classes = 2 if overlap else len(masks) + 1
        transition = self.transition or symmetric_transition(classes, self.keep)
        if overlap:
            numbered = enumerate(masks, start=1)
            noisy = np.concatenate([flip_classes(mask[None], transition, draw(number)) for number, mask in numbered])
        else:
            noisy = flip_classes(masks, transition, draw("classes"))
        drawn: Parameters = {
            str(number): {
                "keep": float(transition[1][1] if overlap else transition[number][number]),
                "kept": round(float(noisy[number - 1][masks[number - 1]].mean()), 4),
            }
            for number in present_structures(masks)
        }
        return noisy, drawn


def flip_classes(
    masks: np.ndarray, transition: Sequence[Sequence[float]] | np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    r"""Draw a new class for every voxel, from the row of the transition matrix that belongs to its own.

    .. math:: P(y'(v) = j \mid y(v) = c) = T_{cj}, \qquad c, j \in \{0, \dots, K\},

    independently for every voxel v; class 0 is background.

    Args:
        masks: binary masks of structures that do not overlap. They are not changed.
        transition: T, whose rows add up to 1.
        generator: source of the draws.

    Shape:
        masks (K, \*S), transition (K + 1, K + 1); result like the masks, of bool, without overlap.

    Raises:
        ValueError: if the transition is no such matrix.

    Example:
        >>> import numpy as np
        >>> masks = np.array([[1, 1, 0, 0], [0, 0, 1, 0]], bool)
        >>> swap = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
        >>> flip_classes(masks, swap, np.random.default_rng(0)).astype(int).tolist()
        [[0, 0, 1, 0], [1, 1, 0, 0]]

    References:
        X. Guo, Y. Yuan, Joint Class-Affinity Loss Correction for Robust Medical Image Segmentation with Noisy
        Labels.
    """
    masks = np.asarray(masks, dtype=bool)
    matrix = _checked(transition, "transition")
    classes = len(masks) + 1
    if len(matrix) != classes:
        raise ValueError(f"{classes} classes need a transition matrix of {classes} rows, got {len(matrix)}.")
    label = np.einsum("k,k...->...", np.arange(1, classes), masks)
    chance = generator.random(label.shape)
    flipped = np.empty_like(label)
    for value, probabilities in enumerate(matrix):
        voxels = label == value
        flipped[voxels] = np.searchsorted(np.cumsum(probabilities[:-1]), chance[voxels], side="right")
    return np.stack([flipped == value for value in range(1, classes)])


def symmetric_transition(num_classes: int, keep: float = 0.5) -> np.ndarray:
    """Transition matrix of symmetric noise: keep the class, or take any other one with equal probability.

    Args:
        num_classes: number of classes including background, at least 2.
        keep: probability of keeping the class, 0 to 1. The paper uses 0.5.

    Shape:
        result (num_classes, num_classes).

    Raises:
        ValueError: for fewer classes, or a keep out of range.

    Example:
        >>> symmetric_transition(3, 0.5).tolist()
        [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}.")
    if not 0 <= keep <= 1:
        raise ValueError(f"keep must be a number from 0 to 1, got {keep}.")
    transition = np.full((num_classes, num_classes), (1 - keep) / (num_classes - 1))
    np.fill_diagonal(transition, keep)
    return transition


def _checked(transition: Sequence[Sequence[float]] | np.ndarray, name: str) -> np.ndarray:
    try:
        matrix = np.asarray(transition, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a square matrix of numbers, got {transition!r}.") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ValueError(f"{name} must be a square matrix of at least 2 rows, got shape {matrix.shape}.")
    if not (matrix >= 0).all() or not np.allclose(matrix.sum(1), 1):
        rows = matrix.sum(1).tolist()
        raise ValueError(f"{name} must hold probabilities, each row adding up to 1; its rows add up to {rows}.")
    return matrix
