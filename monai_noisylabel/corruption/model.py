"""What every noise model has in common: settings that check themselves, and one way to be applied."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Protocol, cast

import numpy as np

from .record import Parameters

__all__ = [
    "Draw",
    "NoiseModel",
    "Unit",
    "present_structures",
    "require_choice",
    "require_flag",
    "require_number",
    "spacing_of_unit",
]

Draw = Callable[[int | str], np.random.Generator]
"""Random generator of one case for a named stream: a structure's number, or a word such as ``"slices"``."""

Unit = Literal["voxel", "mm"]


class NoiseModel(Protocol):
    r"""The settings of one kind of label noise, with the way to give it to the masks of a case.

    A noise model is a frozen dataclass whose fields are its settings; it checks them when it is made. It holds
    no state, and all its randomness comes from ``draw``, so equal settings, masks and streams give equal labels.

    Attributes:
        may_add: whether a structure may appear that the case does not hold.
        may_empty: whether a structure of the case may vanish.
    """

    may_add: ClassVar[bool]
    may_empty: ClassVar[bool]

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        r"""Give the masks of one case this noise.

        Args:
            masks: binary masks of structures 1 to K. They are not changed.
            draw: the case's random generators by stream.
            spacing: voxel size in mm along each axis, or None where it is not known.
            overlap: whether structures may overlap (multi-label); if not, neither the given masks nor the result
                overlap.

        Shape:
            masks (K, \*S), S of 2 or 3 axes; result the same, of bool.

        Returns:
            The noisy masks, and what was drawn for each structure that the case holds.
        """
        ...


def present_structures(masks: np.ndarray) -> list[int]:
    r"""Numbers, counted from 1, of the structures that a case holds.

    Args:
        masks: binary masks of structures 1 to K.

    Shape:
        masks (K, \*S).

    Example:
        >>> present_structures(np.array([[1, 0], [0, 0], [1, 1]], bool))
        [1, 3]
    """
    return [number for number, mask in enumerate(masks, start=1) if mask.any()]


def require_choice(model: str, field: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a setting that is none of the choices.

    Args:
        model: name of the noise model, for the message.
        field: name of the setting.
        value: its value.
        choices: the values it may have.

    Raises:
        ValueError: naming all of these.

    Example:
        >>> require_choice("missing", "scope", "all", ("object", "slice"))
        Traceback (most recent call last):
        ValueError: Noise model 'missing': scope must be one of ['object', 'slice'], got 'all'.
    """
    if value not in choices:
        raise ValueError(f"Noise model {model!r}: {field} must be one of {list(choices)}, got {value!r}.")


def require_flag(model: str, field: str, value: object) -> None:
    """Refuse a setting that is neither true nor false.

    Args:
        model: name of the noise model, for the message.
        field: name of the setting.
        value: its value.

    Raises:
        ValueError: naming all of these.

    Example:
        >>> require_flag("affine", "released", "yes")
        Traceback (most recent call last):
        ValueError: Noise model 'affine': released must be true or false, got 'yes'.
    """
    if not isinstance(value, bool):
        raise ValueError(f"Noise model {model!r}: {field} must be true or false, got {value!r}.")


def require_number(
    model: str,
    field: str,
    value: object,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    integer: bool = False,
) -> None:
    """Refuse a setting that is not a finite number from low to high.

    Args:
        model: name of the noise model, for the message.
        field: name of the setting.
        value: its value.
        low: smallest value allowed.
        high: largest value allowed; infinity for no limit.
        above: whether low itself is refused too.
        integer: whether it has to be an integer.

    Raises:
        ValueError: naming all of these.

    Example:
        >>> require_number("boundary", "beta", 2.5, 1, integer=True)
        Traceback (most recent call last):
        ValueError: Noise model 'boundary': beta must be an integer of at least 1, got 2.5.
    """
    number = isinstance(value, int if integer else int | float) and not isinstance(value, bool)
    if number and low <= cast(float, value) <= min(high, sys.float_info.max) and not (above and value == low):
        return
    bounds = f"above {low}" if above else f"of at least {low}"
    if not math.isinf(high):
        bounds = f"above {low} and at most {high}" if above else f"from {low} to {high}"
    kind = "an integer" if integer else "a number"
    raise ValueError(f"Noise model {model!r}: {field} must be {kind} {bounds}, got {value!r}.")


def spacing_of_unit(model: str, unit: Unit, spacing: Sequence[float] | None) -> Sequence[float] | None:
    """Spacing that turns lengths of a unit into voxels: the label's own for mm, none for voxels.

    Args:
        model: name of the noise model, for the message.
        unit: unit of its lengths.
        spacing: voxel size of the label in mm along each axis, or None where it is not known.

    Raises:
        ValueError: if the unit is mm and the spacing is not known.

    Example:
        >>> spacing_of_unit("boundary", "voxel", (1.0, 1.0, 5.0)), spacing_of_unit("boundary", "mm", (1.0, 2.0))
        (None, (1.0, 2.0))
    """
    if unit == "voxel":
        return None
    if spacing is None:
        raise ValueError(
            f"Noise model {model!r} with unit 'mm' needs the spacing of the label (that of a MetaTensor in a "
            "transform); give one or use unit 'voxel'."
        )
    return spacing
