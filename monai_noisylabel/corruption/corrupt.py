"""Application of a noise recipe to one label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from monai_noisylabel.masks import from_masks, to_masks

from .predicted import PredictedNoise
from .recipe import NoiseRecipe, model_name
from .record import NoiseRecord, Parameters

__all__ = ["corrupt", "label_masks"]


def corrupt(
    label: np.ndarray,
    case: str,
    recipe: NoiseRecipe | str | Mapping[str, Any] | None,
    seed: int,
    *,
    num_classes: int,
    multi_label: bool,
    spacing: Sequence[float] | None = None,
    patient: str | None = None,
    surfaces: bool = True,
    prediction: Callable[[str], np.ndarray] | None = None,
) -> tuple[np.ndarray, NoiseRecord]:
    r"""Give one case the noise that a recipe prescribes for it.

    The result depends on the arguments alone: not on other cases, on the order of calls, or on the process.
    Use it on training labels only: validation and test labels stay clean.

    Args:
        label: clean label of one case. It is not changed.
        case: name of the case.
        recipe: see :meth:`NoiseRecipe.parse`.
        seed: seed of the experiment.
        num_classes: classes including background for a multi-class label, channels for a multi-label one.
        multi_label: how the label is written.
        spacing: voxel size in mm along each axis; required by recipes with ``unit="mm"``, and used where given by
            models whose geometry is physical.
        patient: whom the case shows; required by recipes with ``share_of="patient"``.
        surfaces: whether the record holds surface distances and kinds of error, whose measuring can take longer
            than the noise.
        prediction: gives the label that a model predicted for this case, of the shape of the label, from the name of
            the folder; called only if the case gets a ``predicted`` model.

    Shape:
        label (1, \*S) multi-class or (K, \*S) multi-label, S of 2 or 3 axes; result the same, uint8. Structures
        of a multi-class result do not overlap.

    Returns:
        The noisy label and the record of what was drawn and achieved.

    Raises:
        ValueError: if the label does not fit ``num_classes`` and ``multi_label``, a recipe in mm has no spacing,
            one by patient no patient, one of predicted labels no prediction that fits, or the model does not fit the
            label; the message names the case.

    Example:
        >>> import numpy as np
        >>> label = np.zeros((1, 32, 32), np.uint8)
        >>> label[0, 8:24, 8:24] = 1
        >>> recipe = {"model": "boundary", "alpha": 1.0}
        >>> noisy, record = corrupt(label, "a", recipe, 0, num_classes=2, multi_label=False)
        >>> record.parameters, int(noisy.sum()), record.volume_ratio
        ({'1': {'shift': 7, 'unit': 'voxel'}}, 824, {'1': 3.21875})
        >>> round(record.surface_distance["1"], 2), record.taxonomy
        (6.80, {'1': 'contour'})
    """
    recipe = NoiseRecipe.parse(recipe)
    clean = label_masks(label, case, num_classes, multi_label)
    if spacing is None and any(getattr(model, "unit", None) == "mm" for _, model in recipe.models):
        raise ValueError(
            f"Case {case!r}: a noise recipe in mm needs the spacing of the label (that of a MetaTensor in a "
            "transform); give one or use unit 'voxel'."
        )
    about: dict[str, Any] = {"spacing": spacing, "surfaces": surfaces}
    about["annotator"] = recipe.annotator_of(case, seed, patient)
    model = recipe.draw_model(case, seed, patient)
    if model is None:
        return from_masks(clean, multi_label), NoiseRecord.measured(case, "none", {}, clean, clean, **about)
    parameters: Parameters
    if isinstance(model, PredictedNoise):
        noisy = _predicted_masks(model.labels, prediction, case, clean, multi_label)
        parameters = model.drawn(clean)
    else:
        draws = recipe.draws(case, seed, patient)
        try:
            noisy, parameters = model.apply(clean, draws, spacing=spacing, overlap=multi_label)
        except ValueError as error:
            raise ValueError(f"Case {case!r}: {error}") from error
    record = NoiseRecord.measured(case, model_name(model), parameters, clean, noisy, may_add=model.may_add, **about)
    return from_masks(noisy, multi_label), record


def _predicted_masks(
    folder: str, prediction: Callable[[str], np.ndarray] | None, case: str, clean: np.ndarray, multi_label: bool
) -> np.ndarray:
    if prediction is None:
        raise ValueError(
            f"Case {case!r}: its recipe takes labels that a model predicted, from {folder}, but nothing reads them "
            "here; use SimulateLabelNoised or `noisylabel simulate`, or give corrupt a function as prediction."
        )
    num_classes = len(clean) + (not multi_label)
    try:
        masks = label_masks(prediction(folder), case, num_classes, multi_label)
    except ValueError as error:
        raise ValueError(
            f"{error} (the predicted label in {folder}; predict the classes of the clean labels)"
        ) from error
    if masks.shape != clean.shape:
        raise ValueError(
            f"Case {case!r}: its predicted label in {folder} has shape {masks.shape[1:]}, the label {clean.shape[1:]}; "
            "predict on the images of this dataset."
        )
    return masks


def label_masks(label: np.ndarray, case: str, num_classes: int, multi_label: bool) -> np.ndarray:
    r"""Masks of a label's structures, after checking that the label is what it is said to be.

    Args:
        label: the label.
        case: names the case in messages.
        num_classes: classes including background for a multi-class label, channels for a multi-label one.
        multi_label: how the label is written.

    Shape:
        label (1, \*S) multi-class or (K, \*S) multi-label, S of 2 or 3 axes; result (K, \*S) of bool.

    Raises:
        ValueError: if shape or values do not fit.

    Example:
        >>> label_masks(np.array([[[0, 2]]]), "a", num_classes=3, multi_label=False).astype(int).tolist()
        [[[0, 0]], [[0, 1]]]
    """
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
