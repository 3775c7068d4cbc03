"""Noise recipe: which simulated noise a training set gets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from .affine import AffineNoise
from .boundary import BoundaryNoise
from .class_flip import ClassFlipNoise
from .confusion import ConfusionNoise
from .ellipse import EllipseNoise
from .generator import case_generator
from .markov_boundary import MarkovBoundaryNoise
from .missing import MissingNoise
from .model import Draw, NoiseModel
from .predicted import PredictedNoise
from .relative_boundary import RelativeBoundaryNoise
from .spurious import SpuriousNoise

__all__ = ["NOISE_MODELS", "NoiseRecipe", "model_name", "parse_model"]

RecipeModel = NoiseModel | PredictedNoise
"""What a recipe may hold."""

NOISE_MODELS: dict[str, type[NoiseModel]] = {
    "affine": AffineNoise,
    "boundary": BoundaryNoise,
    "class_flip": ClassFlipNoise,
    "confusion": ConfusionNoise,
    "ellipse": EllipseNoise,
    "markov_boundary": MarkovBoundaryNoise,
    "missing": MissingNoise,
    "relative_boundary": RelativeBoundaryNoise,
    "spurious": SpuriousNoise,
}
"""Noise models that need nothing but the label, by the names that recipes use."""

RECIPE_MODELS: dict[str, type[RecipeModel]] = {**NOISE_MODELS, "predicted": PredictedNoise}
PAPER_MODELS = {"none": (), "missing": ("missing",), "boundary": ("boundary",), "mixed": ("missing", "boundary")}
Share = Literal["case", "patient"]


@dataclasses.dataclass(frozen=True)
class NoiseRecipe:
    """Which noise the cases of a training set get, and how many of them.

    Attributes:
        alpha: probability that a case is noisy, 0 to 1. The paper uses 0.3, 0.5 and 0.7.
        models: noise models with their weights above 0; a noisy case gets one of them, with a probability
            proportional to its weight. Without models there is no noise.
        share_of: ``"case"``: each case is noisy, and gets its model, by itself. ``"patient"``: all cases of a
            patient are noisy or none, with the same model; the parameters still differ from case to case.
        annotators: number of simulated annotators, or None. Each case (or patient, see ``share_of``) belongs to
            one of them at random, and draws that were the case's become the annotator's: whoever draws too large
            always does. Which cases are noisy stays a matter of ``alpha``.

    Raises:
        ValueError: for any other value; the message names the field.

    Example:
        >>> recipe = NoiseRecipe.parse({"model": "boundary", "beta": 10})
        >>> recipe.alpha, recipe.models
        (0.7, ((1.0, BoundaryNoise(beta=10, unit='voxel', direction='both')),))
        >>> [recipe.is_noisy(f"case{i}", seed=0) for i in range(4)]
        [True, False, True, False]

    References:
        J. Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels, section 3.1.

    Deviation:
        The paper corrupts a fixed share of the images. Here each case is drawn by itself, so that its label
        does not depend on which other cases the training set holds; the share is met on average.
    """

    alpha: float = 0.7
    models: tuple[tuple[float, RecipeModel], ...] = ()
    share_of: Share = "case"
    annotators: int | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.alpha) or not 0 <= self.alpha <= 1:
            raise ValueError(f"Noise recipe: alpha must be a probability between 0 and 1, got {self.alpha!r}.")
        for weight, model in self.models:
            if not _is_number(weight) or not 0 < weight < math.inf:
                raise ValueError(f"Noise recipe: weight of {model_name(model)} must be above 0, got {weight!r}.")
        if self.share_of not in get_args(Share):
            raise ValueError(f"Noise recipe: share_of must be one of {list(get_args(Share))}, got {self.share_of!r}.")
        count = self.annotators
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise ValueError(f"Noise recipe: annotators must be an integer of at least 1 or null, got {count!r}.")

    @classmethod
    def parse(cls, value: NoiseRecipe | str | Mapping[str, Any] | None) -> NoiseRecipe:
        """Recipe from the forms a configuration may hold.

        Args:
            value: a recipe; the name of a model, or ``"mixed"`` for missing and boundary noise in equal parts, as
                in the paper; a mapping of this class's fields with ``models`` as a list of models in the forms of
                :func:`parse_model`, each with an optional ``weight``, or with a single ``model`` and its
                settings; None for no noise.

        Raises:
            ValueError: for unknown fields, models or values.
            TypeError: for anything else.

        Example:
            >>> NoiseRecipe.parse("missing").alpha, NoiseRecipe.parse(None).model
            (0.7, 'none')
            >>> sloppy = {"model": "boundary", "direction": "dilate", "weight": 3}
            >>> recipe = NoiseRecipe.parse({"alpha": 0.5, "models": [sloppy, "missing"], "annotators": 4})
            >>> [weight for weight, model in recipe.models], recipe.annotators
            ([3, 1.0], 4)
        """
        if value is None:
            return cls()
        if isinstance(value, NoiseRecipe):
            return value
        if isinstance(value, str):
            return cls.parse({"model": value})
        if not isinstance(value, Mapping):
            raise TypeError(f"A noise recipe is a model name or a mapping of fields, got {type(value).__name__}.")
        own = [field.name for field in dataclasses.fields(cls)]
        settings = {key: entry for key, entry in value.items() if key not in own}
        fields = {key: entry for key, entry in value.items() if key in own}
        if "models" not in fields:
            return cls(**fields, models=_single(settings.pop("model", "none"), settings, own))
        if settings:
            raise ValueError(
                f"Noise recipe: unknown fields {list(settings)} beside models; a recipe has {own}, and the settings "
                "of a model stand in its own entry of models."
            )
        if isinstance(fields["models"], str) or not isinstance(fields["models"], Sequence):
            raise TypeError(f"Noise recipe: models must be a list, got {type(fields['models']).__name__}.")
        return cls(**{**fields, "models": tuple(_weighted(entry) for entry in fields["models"])})

    @property
    def model(self) -> str:
        """Name of the only model; ``"mixed"`` for several, ``"none"`` for none."""
        names = {model_name(model) for _, model in self.models}
        return "mixed" if len(self.models) > 1 else names.pop() if names else "none"

    @property
    def label_folders(self) -> tuple[str, ...]:
        """Folders of predicted labels that the recipe takes labels from."""
        return tuple(dict.fromkeys(model.labels for _, model in self.models if isinstance(model, PredictedNoise)))

    def is_noisy(self, case: str, seed: int, patient: str | None = None) -> bool:
        """Whether a case is to be noisy, a function of the seed and the case (or patient) alone.

        For one seed, the cases that are noisy at a small alpha are noisy at every larger alpha too, under
        every model.

        Args:
            case: name of the case.
            seed: seed of the experiment.
            patient: whom it shows; needed with ``share_of="patient"``.

        Raises:
            ValueError: if the patient is needed and not given.
        """
        return bool(case_generator(seed, self._subject(case, patient), "noisy").random() < self.alpha)

    def annotator_of(self, case: str, seed: int, patient: str | None = None) -> int | None:
        """Number of a case's annotator, from 1; None if the recipe has none. Arguments as :meth:`is_noisy`."""
        if self.annotators is None:
            return None
        return int(case_generator(seed, self._subject(case, patient), "annotator").integers(self.annotators)) + 1

    def draw_model(self, case: str, seed: int, patient: str | None = None) -> RecipeModel | None:
        """Noise model that a case gets; None if it stays clean. Arguments as :meth:`is_noisy`."""
        if not self.models or not self.is_noisy(case, seed, patient):
            return None
        annotator = self.annotator_of(case, seed, patient)
        source = self._subject(case, patient) if annotator is None else f"annotator {annotator}"
        bounds = np.cumsum([weight for weight, _ in self.models])
        drawn = case_generator(seed, source, "model").random() * bounds[-1]
        return self.models[min(int(np.searchsorted(bounds, drawn, side="right")), len(self.models) - 1)][1]

    def draws(self, case: str, seed: int, patient: str | None = None) -> Draw:
        """Random generators, by stream, of a case's parameters. Arguments as :meth:`is_noisy`."""
        annotator = self.annotator_of(case, seed, patient)
        return partial(case_generator, seed, case if annotator is None else f"annotator {annotator}")

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain values, which :meth:`parse` makes an equal recipe of."""
        models = [{"model": model_name(m), "weight": weight, **_settings(m)} for weight, m in self.models]
        return {"alpha": self.alpha, "models": models, "share_of": self.share_of, "annotators": self.annotators}

    def _subject(self, case: str, patient: str | None) -> str:
        """Whose draws decide whether a case is noisy: its own, or its patient's."""
        if self.share_of == "case":
            return case
        if patient is None:
            raise ValueError(
                f"Case {case!r}: a noise recipe with share_of 'patient' needs the patient's name; give it, or use "
                "share_of 'case'."
            )
        return patient


def parse_model(value: RecipeModel | str | Mapping[str, Any]) -> RecipeModel:
    """Noise model from the forms a configuration may hold.

    Args:
        value: a noise model; its name, one of :data:`NOISE_MODELS` or ``"predicted"``; or a mapping with the name
            as ``model`` beside its settings.

    Raises:
        ValueError: for unknown names, settings or values.
        TypeError: for anything else.

    Example:
        >>> parse_model({"model": "boundary", "beta": 10})
        BoundaryNoise(beta=10, unit='voxel', direction='both')
    """
    settings = dict(value) if isinstance(value, Mapping) else {"model": value}
    return _made(settings.pop("model", None), settings)


def model_name(model: RecipeModel) -> str:
    """Name of a noise model in recipes and records; that of its class for one from elsewhere."""
    names: dict[type, str] = {kind: name for name, kind in RECIPE_MODELS.items()}
    return names.get(type(model), type(model).__name__)


def _made(model: Any, settings: Mapping[str, Any]) -> RecipeModel:
    if isinstance(model, str):
        if model not in RECIPE_MODELS:
            raise ValueError(f"Noise recipe: model must be one of {list(RECIPE_MODELS)}, got {model!r}.")
        known = _fields(RECIPE_MODELS[model])
        unknown = [key for key in settings if key not in known]
        if unknown:
            raise ValueError(f"Noise recipe: unknown fields {unknown}; model {model!r} has {known}.")
        return RECIPE_MODELS[model](**settings)
    applicable = isinstance(model, PredictedNoise) or callable(getattr(model, "apply", None))
    if not applicable or isinstance(model, type):
        raise TypeError(f"A noise model is a name, a mapping with a model in it, or a model, got {model!r}.")
    if settings:
        raise ValueError(f"Noise recipe: {model!r} has its settings already, {list(settings)} cannot be added.")
    made: RecipeModel = model
    return made


def _weighted(entry: Any) -> tuple[float, RecipeModel]:
    """One entry of the list of models: its weight, 1 by default, and the model."""
    if not isinstance(entry, Mapping):
        return 1.0, parse_model(entry)
    return entry.get("weight", 1.0), parse_model({key: value for key, value in entry.items() if key != "weight"})


def _single(name: Any, settings: Mapping[str, Any], own: Sequence[str]) -> tuple[tuple[float, RecipeModel], ...]:
    """Models of a recipe with one name; those of the paper share their settings, used or not."""
    if not isinstance(name, str) or name not in PAPER_MODELS:
        if isinstance(name, str) and name not in RECIPE_MODELS:
            choices = [*PAPER_MODELS, *(other for other in RECIPE_MODELS if other not in PAPER_MODELS)]
            raise ValueError(f"Noise recipe: model must be one of {choices}, got {name!r}.")
        return ((1.0, _made(name, settings)),)
    known = {model: _fields(NOISE_MODELS[model]) for model in PAPER_MODELS["mixed"]}
    allowed = [field for fields in known.values() for field in fields]
    unknown = [key for key in settings if key not in allowed]
    if unknown:
        raise ValueError(f"Noise recipe: unknown fields {unknown}; it has {['model', *own, *allowed]}.")
    made = {
        model: _made(model, {key: settings[key] for key in fields if key in settings})
        for model, fields in known.items()
    }
    return tuple((1.0, made[model]) for model in PAPER_MODELS[name])


def _fields(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _settings(model: Any) -> dict[str, Any]:
    return {name: getattr(model, name) for name in _fields(model)} if dataclasses.is_dataclass(model) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
