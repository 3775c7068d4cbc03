"""What simulated label noise did to one case."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .surface_distance import surface_distance
from .taxonomy import ErrorKind, error_kinds

__all__ = ["NoiseRecord", "Parameters"]

Parameters = Mapping[str, Mapping[str, int | float | str | list[int] | list[float]]]


@dataclasses.dataclass(frozen=True)
class NoiseRecord:
    """Every draw made for one case, and what it amounted to.

    Structures are named by their number ``"1"`` to ``"K"``: the class value of a multi-class label, the
    channel (counted from 1) of a multi-label one. The record describes simulated noise; it cannot be had for
    real noise.

    Attributes:
        case: name of the case.
        model: name of the noise model applied, such as ``"boundary"``; ``"none"`` for a case left clean.
        parameters: what was drawn, per structure, e.g. ``{"1": {"shift": -6, "unit": "voxel"}}``.
        volume_ratio: noisy volume / clean volume per structure; 1 for a structure absent from both, None for one
            that the noise added.
        dice: Dice overlap of the noisy with the clean mask per structure; 1 for a structure absent from both.
        surface_distance: mean symmetric surface distance per structure, see
            :func:`~monai_noisylabel.corruption.surface_distance.surface_distance`; empty where it was not measured.
        taxonomy: kind of error per structure, see :func:`~monai_noisylabel.corruption.taxonomy.error_kinds`; empty
            where it was not determined.
        annotator: number of the simulated annotator, from 1; None if the recipe has none.
    """

    case: str
    model: str
    parameters: Parameters
    volume_ratio: Mapping[str, float | None]
    dice: Mapping[str, float]
    surface_distance: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    taxonomy: Mapping[str, ErrorKind] = dataclasses.field(default_factory=dict)
    annotator: int | None = None

    @classmethod
    def measured(
        cls,
        case: str,
        model: str,
        parameters: Parameters,
        clean: np.ndarray,
        noisy: np.ndarray,
        *,
        spacing: Sequence[float] | None = None,
        annotator: int | None = None,
        may_add: bool = False,
        surfaces: bool = True,
    ) -> NoiseRecord:
        r"""Record with everything measured on the masks.

        Args:
            case: name of the case.
            model: name of the noise model applied.
            parameters: what was drawn, per structure.
            clean: binary masks before.
            noisy: binary masks after.
            spacing: voxel size in mm along each axis; without it surface distances count voxels.
            annotator: number of the simulated annotator.
            may_add: whether the model may make structures appear that the case does not hold.
            surfaces: whether surface distances and kinds of error are found too, which takes many times longer
                than the rest.

        Shape:
            clean and noisy (K, \*S).

        Raises:
            ValueError: if the shapes differ, or a structure appears that the clean masks do not hold although the
                model may not add one.

        Example:
            >>> import numpy as np
            >>> clean, noisy = np.array([[1, 1, 1, 1, 0]], bool), np.array([[1, 1, 0, 0, 0]], bool)
            >>> record = NoiseRecord.measured("a", "boundary", {"1": {"shift": -2}}, clean, noisy)
            >>> record.volume_ratio["1"], round(record.dice["1"], 4), record.taxonomy["1"]
            (0.5, 0.6667, 'contour')
        """
        if clean.shape != noisy.shape:
            raise ValueError(f"Case {case!r}: clean masks are {clean.shape}, noisy masks {noisy.shape}.")
        ratio: dict[str, float | None] = {}
        dice: dict[str, float] = {}
        for number, (before, after) in enumerate(zip(clean, noisy, strict=True), start=1):
            old, new = int(np.count_nonzero(before)), int(np.count_nonzero(after))
            if new and not old and not may_add:
                raise ValueError(f"Case {case!r}: structure {number} is in the noisy masks but not in the clean ones.")
            shared = int(np.count_nonzero(before & after))
            ratio[str(number)] = new / old if old else _ratio_of_absent(new)
            dice[str(number)] = 2 * shared / (old + new) if old or new else 1.0
        distances: dict[str, float | None] = {}
        kinds: dict[str, ErrorKind] = {}
        if surfaces:
            measured = (surface_distance(*pair, spacing) for pair in zip(clean, noisy, strict=True))
            distances = dict(zip(dice, measured, strict=True))
            kinds = dict(zip(dice, error_kinds(clean, noisy), strict=True))
        return cls(case, model, parameters, ratio, dice, distances, kinds, annotator)

    def as_dict(self) -> dict[str, Any]:
        """The record as plain dictionaries, lists, strings, numbers and None, ready for ``json.dump``."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in fields.items()}
        plain["parameters"] = {number: dict(drawn) for number, drawn in self.parameters.items()}
        return plain


def _ratio_of_absent(new: int) -> float | None:
    return None if new else 1.0
