"""Noise recipe: which simulated noise a training set gets, and its application to one label."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np

from monai_noisylabel.masks import from_masks, to_masks

from .boundary import draw_boundary_shift, shift_boundaries
from .generator import case_generator
from .missing import draw_slices, remove_annotation
from .record import NoiseRecord, Parameters

__all__ = ["NoiseRecipe", "corrupt"]

Model = Literal["none", "missing", "boundary", "mixed"]
Scope = Literal["object", "slice"]
Unit = Literal["voxel", "mm"]


@dataclasses.dataclass(frozen=True)
class NoiseRecipe:
    """Noise model and its strength, for a whole training set.

    Attributes:
        model: ``"none"``; ``"missing"`` (annotation removed); ``"boundary"`` (every structure dilated or
            eroded by its own draw); ``"mixed"`` (each noisy case gets one of the two, equally likely, as in
            the paper).
        alpha: probability that a case is noisy, 0 to 1. The paper uses 0.3, 0.5 and 0.7.
        beta: mean size of a boundary shift, an integer of at least 1; the paper uses 5 and 10 pixels.
        scope: for missing noise, ``"object"`` (everything) or ``"slice"`` (some slices of a volume).
        unit: what beta counts, ``"voxel"`` or ``"mm"``.

    Raises:
        ValueError: for any other value; the message names the field.

    Example:
        >>> recipe = NoiseRecipe.parse({"model": "boundary", "beta": 10})
        >>> recipe
        NoiseRecipe(model='boundary', alpha=0.7, beta=10, scope='object', unit='voxel')
        >>> [recipe.draw_model(f"case{i}", seed=0) for i in range(4)]
        ['boundary', 'none', 'boundary', 'none']

    References:
        J. Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels, section 3.1.

    Deviation:
        The paper corrupts a fixed share of the images. Here each case is drawn by itself, so that its label
        does not depend on which other cases the training set holds; the share is met on average.
    """

    model: Model = "none"
    alpha: float = 0.7
    beta: int = 5
    scope: Scope = "object"
    unit: Unit = "voxel"

    def __post_init__(self) -> None:
        for field, choices in (("model", Model), ("scope", Scope), ("unit", Unit)):
            value = getattr(self, field)
            if value not in get_args(choices):
                raise ValueError(f"Noise recipe: {field} must be one of {list(get_args(choices))}, got {value!r}.")
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float) or not 0 <= self.alpha <= 1:
            raise ValueError(f"Noise recipe: alpha must be a probability between 0 and 1, got {self.alpha!r}.")
        if isinstance(self.beta, bool) or not isinstance(self.beta, int) or self.beta < 1:
            raise ValueError(f"Noise recipe: beta must be an integer of at least 1, got {self.beta!r}.")

    @classmethod
    def parse(cls, value: NoiseRecipe | str | Mapping[str, Any] | None) -> NoiseRecipe:
        """Recipe from the forms a configuration may hold.

        Args:
            value: a recipe; the name of a model; a mapping of fields; None for no noise.

        Raises:
            ValueError: for unknown fields or values.
            TypeError: for anything else.

        Example:
            >>> NoiseRecipe.parse("missing").alpha, NoiseRecipe.parse(None).model
            (0.7, 'none')
        """
        if value is None:
            return cls()
        if isinstance(value, NoiseRecipe):
            return value
        if isinstance(value, str):
            return cls(model=cast(Model, value))
        if not isinstance(value, Mapping):
            raise TypeError(f"A noise recipe is a model name or a mapping of fields, got {type(value).__name__}.")
        fields = [field.name for field in dataclasses.fields(cls)]
        unknown = [key for key in value if key not in fields]
        if unknown:
            raise ValueError(f"Noise recipe: unknown fields {unknown}; it has {fields}.")
        return cls(**value)

    def draw_model(self, case: str, seed: int) -> Literal["none", "missing", "boundary"]:
        """Noise model that a case gets, a function of (seed, case) alone.

        For one seed, the cases that are noisy at a small alpha are noisy at every larger alpha too, under
        every model.

        Args:
            case: name of the case.
            seed: seed of the experiment.
        """
        if self.model == "none" or case_generator(seed, case, "noisy").random() >= self.alpha:
            return "none"
        if self.model != "mixed":
            return self.model
        return "missing" if case_generator(seed, case, "model").random() < 0.5 else "boundary"


def corrupt(
    label: np.ndarray,
    case: str,
    recipe: NoiseRecipe | str | Mapping[str, Any] | None,
    seed: int,
    *,
    num_classes: int,
    multi_label: bool,
    spacing: Sequence[float] | None = None,
) -> tuple[np.ndarray, NoiseRecord]:
    r"""Give one case the noise that a recipe prescribes for it.

    The result depends on the arguments alone: not on other cases, on the order of calls, or on the process.
    Boundary shifts are drawn per structure, missing annotation per case. A multi-class result follows the
    rule of :func:`~monai_noisylabel.corruption.boundary.shift_boundaries`: structures do not overlap, and no
    structure appears that the label did not hold. Use it on training labels only: validation and test labels
    stay clean.

    Args:
        label: clean label of one case. It is not changed.
        case: name of the case.
        recipe: see :meth:`NoiseRecipe.parse`.
        seed: seed of the experiment.
        num_classes: classes including background for a multi-class label, channels for a multi-label one.
        multi_label: how the label is written.
        spacing: voxel size in mm along each axis; used, and then required, by recipes with ``unit="mm"``.

    Shape:
        label (1, \*S) multi-class or (K, \*S) multi-label, S of 2 or 3 axes; result the same, uint8.

    Returns:
        The noisy label and the record of what was drawn and achieved.

    Raises:
        ValueError: if the label does not fit ``num_classes`` and ``multi_label``, or if a recipe in mm has no
            spacing; the message names the case.

    Example:
        >>> import numpy as np
        >>> label = np.zeros((1, 32, 32), np.uint8)
        >>> label[0, 8:24, 8:24] = 1
        >>> recipe = {"model": "boundary", "alpha": 1.0}
        >>> noisy, record = corrupt(label, "a", recipe, 0, num_classes=2, multi_label=False)
        >>> record.parameters, int(noisy.sum()), record.volume_ratio
        ({'1': {'shift': 7, 'unit': 'voxel'}}, 824, {'1': 3.21875})
    """
    recipe = NoiseRecipe.parse(recipe)
    clean = _clean_masks(label, case, num_classes, multi_label)
    if recipe.unit == "mm" and spacing is None:
        raise ValueError(
            f"Case {case!r}: a noise recipe in mm needs the spacing of the label (that of a MetaTensor in a "
            "transform); give one or use unit 'voxel'."
        )
    model = recipe.draw_model(case, seed)
    noisy = clean
    parameters: Parameters = {}
    if model == "missing":
        noisy, parameters = _missing(clean, case, recipe, seed)
    elif model == "boundary":
        in_units = spacing if recipe.unit == "mm" else None
        noisy, parameters = _boundary(clean, case, recipe, seed, in_units, multi_label)
    return from_masks(noisy, multi_label), NoiseRecord.measured(case, model, parameters, clean, noisy)


def _clean_masks(label: np.ndarray, case: str, num_classes: int, multi_label: bool) -> np.ndarray:
    kind, channels = ("multi-label", num_classes) if multi_label else ("multi-class", 1)
    if num_classes < (1 if multi_label else 2):
        raise ValueError(f"Case {case!r}: a {kind} label of {num_classes} classes has no structure to corrupt.")
    if label.ndim not in (3, 4) or label.shape[0] != channels:
        raise ValueError(
            f"Case {case!r}: a {kind} label of {num_classes} classes has shape ({channels}, H, W) or "
            f"({channels}, H, W, D), got {label.shape}."
        )
    highest = 1 if multi_label else num_classes - 1
    low, high = label.min(), label.max()
    if not (low >= 0 and high <= highest) or (label.dtype.kind == "f" and (label != np.round(label)).any()):
        raise ValueError(
            f"Case {case!r}: a {kind} label of {num_classes} classes holds the integers 0 to {highest}, got "
            f"values from {low} to {high}; map the values of the file to these first."
        )
    return to_masks(label, None if multi_label else num_classes)


def _present(masks: np.ndarray) -> list[int]:
    return [number for number, mask in enumerate(masks, start=1) if mask.any()]


def _missing(clean: np.ndarray, case: str, recipe: NoiseRecipe, seed: int) -> tuple[np.ndarray, Parameters]:
    if recipe.scope == "object" or clean.ndim == 3:
        whole: Parameters = {str(number): {"scope": "object"} for number in _present(clean)}
        return remove_annotation(clean), whole
    slices = draw_slices(clean, case_generator(seed, case, "slices"))
    drawn: Parameters = {str(number): {"scope": "slice", "slices": list(slices)} for number in _present(clean)}
    return remove_annotation(clean, scope="slice", slices=slices), drawn


def _boundary(
    clean: np.ndarray,
    case: str,
    recipe: NoiseRecipe,
    seed: int,
    spacing: Sequence[float] | None,
    overlap: bool,
) -> tuple[np.ndarray, Parameters]:
    numbers = range(1, len(clean) + 1)
    shifts = [draw_boundary_shift(recipe.beta, case_generator(seed, case, number)) for number in numbers]
    drawn: Parameters = {str(number): {"shift": shifts[number - 1], "unit": recipe.unit} for number in _present(clean)}
    return shift_boundaries(clean, shifts, spacing, overlap=overlap), drawn
