"""What simulated label noise did to one case."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["NoiseRecord", "Parameters"]

Parameters = Mapping[str, Mapping[str, int | float | str | list[int]]]


@dataclasses.dataclass(frozen=True)
class NoiseRecord:
    """Every draw made for one case, and what it amounted to.

    Structures are named by their number ``"1"`` to ``"K"``: the class value of a multi-class label, the
    channel (counted from 1) of a multi-label one. The record describes simulated noise; it cannot be had for
    real noise.

    Attributes:
        case: name of the case.
        model: noise model applied: ``"none"``, ``"missing"`` or ``"boundary"``.
        parameters: what was drawn, per structure, e.g. ``{"1": {"shift": -6, "unit": "voxel"}}``.
        volume_ratio: noisy volume / clean volume per structure; 1 for a structure absent from both.
        dice: Dice overlap of the noisy with the clean mask per structure; 1 for a structure absent from both.
    """

    case: str
    model: str
    parameters: Parameters
    volume_ratio: Mapping[str, float]
    dice: Mapping[str, float]

    @classmethod
    def measured(
        cls, case: str, model: str, parameters: Parameters, clean: np.ndarray, noisy: np.ndarray
    ) -> NoiseRecord:
        r"""Record with volume ratio and Dice measured on the masks.

        Args:
            case: name of the case.
            model: noise model applied.
            parameters: what was drawn, per structure.
            clean: binary masks before.
            noisy: binary masks after.

        Shape:
            clean and noisy (K, \*S).

        Raises:
            ValueError: if the shapes differ, or a structure appears that the clean masks do not hold.

        Example:
            >>> import numpy as np
            >>> clean, noisy = np.array([[1, 1, 1, 1, 0]], bool), np.array([[1, 1, 0, 0, 0]], bool)
            >>> record = NoiseRecord.measured("a", "boundary", {"1": {"shift": -2}}, clean, noisy)
            >>> record.volume_ratio["1"], round(record.dice["1"], 4)
            (0.5, 0.6667)
        """
        if clean.shape != noisy.shape:
            raise ValueError(f"Case {case!r}: clean masks are {clean.shape}, noisy masks {noisy.shape}.")
        ratio: dict[str, float] = {}
        dice: dict[str, float] = {}
        for number, (before, after) in enumerate(zip(clean, noisy, strict=True), start=1):
            old, new = int(np.count_nonzero(before)), int(np.count_nonzero(after))
            if new and not old:
                raise ValueError(f"Case {case!r}: structure {number} is in the noisy masks but not in the clean ones.")
            shared = int(np.count_nonzero(before & after))
            ratio[str(number)] = new / old if old else 1.0
            dice[str(number)] = 2 * shared / (old + new) if old else 1.0
        return cls(case, model, parameters, ratio, dice)

    def as_dict(self) -> dict[str, Any]:
        """The record as plain dictionaries, lists, strings and numbers, ready for ``json.dump``."""
        return {
            "case": self.case,
            "model": self.model,
            "parameters": {number: dict(drawn) for number, drawn in self.parameters.items()},
            "volume_ratio": dict(self.volume_ratio),
            "dice": dict(self.dice),
        }
