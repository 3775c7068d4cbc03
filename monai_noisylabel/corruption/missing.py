"""Missing-annotation noise: the annotator left out an object, or some of the slices it appears on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import numpy as np

from .model import Draw, present_structures, require_choice
from .record import Parameters

__all__ = ["MissingNoise", "draw_slices", "remove_annotation"]

Scope = Literal["object", "slice"]


@dataclasses.dataclass(frozen=True)
class MissingNoise:
    """The annotation of a case was left out, as a whole or on some slices; see :func:`remove_annotation`.

    This model empties structures.

    Attributes:
        scope: ``"object"`` (everything, as in the paper) or ``"slice"`` (some slices of a volume, see
            :func:`draw_slices`; a 2D image is one slice).

    Raises:
        ValueError: for any other scope.

    Example:
        >>> from functools import partial
        >>> import numpy as np
        >>> from monai_noisylabel.corruption import case_generator
        >>> masks = np.ones((1, 4, 4, 6), bool)
        >>> draw = partial(case_generator, 0, "a")
        >>> noisy, drawn = MissingNoise("slice").apply(masks, draw, spacing=None, overlap=False)
        >>> drawn, noisy.any((0, 1, 2)).astype(int).tolist()
        ({'1': {'scope': 'slice', 'slices': [0, 1, 4, 5]}}, [0, 0, 1, 1, 0, 0])

    References:
        J. Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels, section 3.1.
    """

    may_add: ClassVar[bool] = False
    may_empty: ClassVar[bool] = True

    scope: Scope = "object"

    def __post_init__(self) -> None:
        require_choice("missing", "scope", self.scope, get_args(Scope))

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        """See :meth:`~monai_noisylabel.corruption.model.NoiseModel.apply`; one stream, ``"slices"``, for the case."""
        present = present_structures(masks)
        if self.scope == "object" or masks.ndim == 3:
            return remove_annotation(masks), {str(number): {"scope": "object"} for number in present}
        slices = draw_slices(masks, draw("slices"))
        drawn: Parameters = {str(number): {"scope": "slice", "slices": list(slices)} for number in present}
        return remove_annotation(masks, scope="slice", slices=slices), drawn


def remove_annotation(
    masks: np.ndarray,
    *,
    scope: Scope = "object",
    slices: tuple[int, ...] | None = None,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Remove the annotation of a case, as if it had been overlooked (Dong et al., section 3.1).

    Simulates omission only: what remains is exact. It does not stand for structures that were annotated too
    small (see :func:`~monai_noisylabel.corruption.boundary.shift_boundary`).

    Args:
        masks: binary masks of one case, one per structure. They are not changed.
        scope: ``"object"`` removes everything; ``"slice"`` removes all structures from some slices along the
            last axis of a volume. A 2D image is one slice, so there both scopes remove everything.
        slices: indices to clear for ``scope="slice"``, applied as they are; None draws them with
            :func:`draw_slices`.
        generator: source of that draw.

    Shape:
        masks (K, H, W) or (K, H, W, D); result the same, of bool.

    Raises:
        ValueError: for another scope or number of axes, for slices outside the volume, and if slices have to
            be drawn without a generator.

    Example:
        >>> import numpy as np
        >>> volume = np.ones((1, 1, 1, 5), bool)
        >>> remove_annotation(volume, scope="slice", slices=(0, 3)).astype(int).ravel().tolist()
        [0, 1, 1, 0, 1]
        >>> int(remove_annotation(volume).sum())
        0

    References:
        J. Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels.

    Deviation:
        The paper works on 2D slices and removes the whole mask. Removing some slices of a volume carries its
        picture of omitted slices over to 3D; the fraction removed is a design decision.
    """
    masks = np.asarray(masks, dtype=bool)
    if masks.ndim not in (3, 4):
        raise ValueError(f"masks must be (K, H, W) or (K, H, W, D), got shape {masks.shape}.")
    if scope not in ("object", "slice"):
        raise ValueError(f"scope must be 'object' or 'slice', got {scope!r}.")
    if scope == "object" or masks.ndim == 3:
        return np.zeros_like(masks)
    if slices is None:
        if generator is None:
            raise ValueError("scope='slice' needs either the slices to clear or a generator to draw them with.")
        slices = draw_slices(masks, generator)
    outside = [index for index in slices if not 0 <= index < masks.shape[-1]]
    if outside:
        raise ValueError(f"slices {outside} are outside the volume, which has slices 0 to {masks.shape[-1] - 1}.")
    kept = masks.copy()
    kept[..., list(slices)] = False
    return kept


def draw_slices(masks: np.ndarray, generator: np.random.Generator) -> tuple[int, ...]:
    """Draw the slices of a volume whose annotation is to be removed.

    The share of labelled slices (those with any structure) is drawn from U(0.2, 0.8), then that many of them
    without
    replacement: at least one, never all. A volume with fewer than two labelled slices therefore loses none.

    Args:
        masks: binary masks of one volume, one per structure.
        generator: source of the draw.

    Shape:
        masks (K, H, W, D), slices along D.

    Returns:
        Sorted slice indices.

    Example:
        >>> import numpy as np
        >>> masks = np.zeros((1, 2, 2, 8), bool)
        >>> masks[..., 2:7] = True
        >>> draw_slices(masks, np.random.default_rng(0))
        (3, 5, 6)
    """
    labelled = np.flatnonzero(masks.any(axis=tuple(range(masks.ndim - 1))))
    if labelled.size < 2:
        return ()
    count = int(np.clip(round(generator.uniform(0.2, 0.8) * labelled.size), 1, labelled.size - 1))
    return tuple(sorted(int(index) for index in generator.choice(labelled, count, replace=False)))
