"""What every noise model promises, checked on all models that recipes know; and the checks of their settings."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import numpy as np
import pytest

from monai_noisylabel.corruption import NOISE_MODELS, BoundaryNoise, case_generator
from monai_noisylabel.corruption.model import (
    NoiseModel,
    present_structures,
    require_choice,
    require_flag,
    require_number,
    spacing_of_unit,
)
from monai_noisylabel.corruption.recipe import model_name

MODELS = sorted(NOISE_MODELS)
SPACING = {2: (0.9, 1.4), 3: (0.9, 1.1, 2.5)}


def _case(axes: int, overlap: bool) -> np.ndarray:
    """Five structures: two that touch or overlap, one absent, a single voxel, and one at the border."""
    masks = np.zeros((5, *(18,) * axes), bool)
    flat = masks if axes == 2 else masks[..., 5]
    flat[0, 4:12, 4:9] = True
    flat[1, 5:10, 7 if overlap else 9 : 14] = True
    flat[3, 15, 15] = True
    flat[4, 14:, :3] = True
    if axes == 3:
        masks[[0, 1, 4], ..., 2:8] |= flat[[0, 1, 4], ..., None]
    return masks


def _applied(model: NoiseModel, masks: np.ndarray, overlap: bool, case: str = "a", seed: int = 0) -> tuple:
    spacing = SPACING[masks.ndim - 1] if seed % 2 else None
    return model.apply(masks, partial(case_generator, seed, case), spacing=spacing, overlap=overlap)


MULTI_CLASS_ONLY = {"confusion"}
SETTINGS = [
    (name, overlap) for name in MODELS for overlap in (False, True) if not (overlap and name in MULTI_CLASS_ONLY)
]


@pytest.fixture(params=SETTINGS, ids=str)
def setting(request: pytest.FixtureRequest) -> tuple[NoiseModel, bool]:
    name, overlap = request.param
    return NOISE_MODELS[name](), overlap


@pytest.mark.parametrize("axes", [2, 3])
def test_the_promises(setting: tuple[NoiseModel, bool], axes: int) -> None:
    model, overlap = setting
    masks = _case(axes, overlap)
    before = masks.copy()
    for seed in range(4):
        noisy, drawn = _applied(model, masks, overlap, seed=seed)
        assert noisy.shape == masks.shape
        assert noisy.dtype == bool
        np.testing.assert_array_equal(masks, before)
        assert not np.shares_memory(noisy, masks)
        if not overlap:
            assert noisy.sum(0).max() <= 1
        present, still = (given.any(axis=tuple(range(1, axes + 1))) for given in (masks, noisy))
        assert model.may_empty or (still >= present).all()
        assert model.may_add or (still <= present).all()
        assert list(drawn) == ["1", "2", "4", "5"]
        assert json.loads(json.dumps(drawn)) == drawn


@pytest.mark.parametrize("axes", [2, 3])
def test_equal_draws_give_equal_labels(setting: tuple[NoiseModel, bool], axes: int) -> None:
    model, overlap = setting
    masks = _case(axes, overlap)
    first, drawn = _applied(model, masks, overlap, "b")
    second, drawn_again = _applied(model, masks, overlap, "b")
    np.testing.assert_array_equal(first, second)
    assert drawn == drawn_again


@pytest.mark.parametrize("axes", [2, 3])
def test_the_order_in_memory_does_not_matter(setting: tuple[NoiseModel, bool], axes: int) -> None:
    # Volumes read with nibabel run along the first axis fastest.
    model, overlap = setting
    masks = _case(axes, overlap)
    for seed in range(4):
        expected = _applied(model, masks, overlap, seed=seed)
        for given in (np.asfortranarray(masks), np.stack([np.asfortranarray(mask) for mask in masks])):
            noisy, drawn = _applied(model, given, overlap, seed=seed)
            np.testing.assert_array_equal(noisy, expected[0])
            assert drawn == expected[1]


def test_other_cases_get_other_labels(setting: tuple[NoiseModel, bool]) -> None:
    model, overlap = setting
    masks = _case(2, overlap)
    results = {_applied(model, masks, overlap, f"case{index}")[0].tobytes() for index in range(8)}
    deterministic = type(model) in (NOISE_MODELS["ellipse"], NOISE_MODELS["missing"])
    assert len(results) == 1 if deterministic else len(results) > 1


def test_an_empty_case(setting: tuple[NoiseModel, bool]) -> None:
    model, overlap = setting
    nothing = np.zeros((2, 8, 8), bool)
    noisy, drawn = _applied(model, nothing, overlap)
    assert model.may_add or not noisy.any()
    assert drawn == {}


PRESENT, ALL = [1, 2, 4, 5], [1, 2, 3, 4, 5]
STREAMS: dict[str, tuple[list[int | str], list[int | str]]] = {  # of a multi-class and of a multi-label case
    "affine": (["move"], PRESENT),
    "boundary": (ALL, ALL),
    "class_flip": (["classes"], ALL),
    "confusion": (["pair"], []),
    "ellipse": ([], []),
    "markov_boundary": (PRESENT, PRESENT),
    "missing": ([], []),
    "relative_boundary": (ALL, ALL),
    "spurious": (PRESENT, PRESENT),
}


def test_streams_of_random_numbers(setting: tuple[NoiseModel, bool]) -> None:
    """They are part of what a seed means: by other streams, the labels of a published recipe would be others."""
    model, overlap = setting
    asked: list[int | str] = []

    def draw(stream: int | str) -> np.random.Generator:
        asked.append(stream)
        return case_generator(0, "a", stream)

    model.apply(_case(2, overlap), draw, spacing=None, overlap=overlap)
    assert asked == STREAMS[model_name(model)][overlap]


@pytest.mark.parametrize("name", MODELS)
def test_settings_cannot_be_changed_and_can_be_compared(name: str) -> None:
    model = NOISE_MODELS[name]()
    assert model == NOISE_MODELS[name]()
    assert hash(model) == hash(NOISE_MODELS[name]())
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.beta = 1  # type: ignore[attr-defined]


def test_a_unit_of_mm_needs_a_spacing() -> None:
    assert spacing_of_unit("boundary", "mm", (1.0, 2.0)) == (1.0, 2.0)
    assert spacing_of_unit("boundary", "voxel", (1.0, 2.0)) is None
    with pytest.raises(ValueError, match="'boundary' with unit 'mm' needs the spacing of the label"):
        BoundaryNoise(unit="mm").apply(_case(2, False), partial(case_generator, 0, "a"), spacing=None, overlap=False)


def test_present_structures() -> None:
    assert present_structures(_case(3, False)) == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("value", "options", "allowed"),
    [
        (0, {"low": 0}, True),
        (0, {"low": 0, "above": True}, False),
        (1e-9, {"low": 0, "above": True}, True),
        (1, {"low": 0, "high": 1}, True),
        (1.0001, {"low": 0, "high": 1}, False),
        (float("inf"), {"low": 0}, False),
        (float("nan"), {"low": 0}, False),
        (True, {"low": 0}, False),
        ("1", {"low": 0}, False),
        (None, {"low": 0}, False),
        (2, {"low": 1, "integer": True}, True),
        (2.0, {"low": 1, "integer": True}, False),
    ],
)
def test_numbers(value: object, options: dict, allowed: bool) -> None:
    if allowed:
        require_number("m", "f", value, **options)
    else:
        with pytest.raises(ValueError, match="Noise model 'm': f must be a"):
            require_number("m", "f", value, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0}, "a number of at least 0, got 'x'"),
        ({"low": 0, "above": True}, "a number above 0, got 'x'"),
        ({"low": 0, "high": 1}, "a number from 0 to 1, got 'x'"),
        ({"low": 0, "high": 2, "above": True}, "a number above 0 and at most 2, got 'x'"),
        ({"low": 1, "integer": True}, "an integer of at least 1, got 'x'"),
    ],
)
def test_messages_of_numbers(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Noise model 'm': f must be {message}.$"):
        require_number("m", "f", "x", **options)


def test_choices_and_flags() -> None:
    require_choice("m", "f", "a", ("a", "b"))
    require_flag("m", "f", False)
    with pytest.raises(ValueError, match=r"Noise model 'm': f must be one of \['a', 'b'\], got \['a'\]"):
        require_choice("m", "f", ["a"], ("a", "b"))
    with pytest.raises(ValueError, match="Noise model 'm': f must be true or false, got 0"):
        require_flag("m", "f", 0)
