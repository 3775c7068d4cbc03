"""Recipes: the forms they are written in, and which case gets which model."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import numpy as np
import pytest

from monai_noisylabel.corruption import (
    NOISE_MODELS,
    BoundaryNoise,
    MissingNoise,
    NoiseRecipe,
    PredictedNoise,
    case_generator,
    parse_model,
)

CASES = [f"case{index}" for index in range(2000)]


@pytest.mark.parametrize(
    ("value", "models"),
    [
        ("none", ()),
        ("missing", ((1.0, MissingNoise()),)),
        ("boundary", ((1.0, BoundaryNoise()),)),
        ("mixed", ((1.0, MissingNoise()), (1.0, BoundaryNoise()))),
    ],
)
def test_parse_takes_names(value: str, models: tuple) -> None:
    recipe = NoiseRecipe.parse(value)
    assert recipe == NoiseRecipe(0.7, models, "case", None)
    assert recipe.model == value


def test_parse_takes_mappings_recipes_and_none() -> None:
    recipe = NoiseRecipe(0.3, ((1.0, BoundaryNoise(beta=10)),))
    assert NoiseRecipe.parse({"model": "boundary", "alpha": 0.3, "beta": 10}) == recipe
    assert NoiseRecipe.parse(recipe) is recipe
    assert NoiseRecipe.parse(None) == NoiseRecipe()
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_mixed_gives_each_model_its_settings() -> None:
    recipe = NoiseRecipe.parse({"model": "mixed", "beta": 3, "scope": "slice", "unit": "mm"})
    assert recipe.models == ((1.0, MissingNoise("slice")), (1.0, BoundaryNoise(3, "mm")))


def test_names_of_the_paper_share_their_settings() -> None:
    """One configuration can switch between them without being rewritten."""
    assert NoiseRecipe.parse({"model": "missing", "beta": 10}).models == ((1.0, MissingNoise()),)
    assert NoiseRecipe.parse({"model": "none", "beta": 10, "alpha": 0.5}) == NoiseRecipe(0.5)


def test_list_of_models() -> None:
    recipe = NoiseRecipe.parse(
        {
            "alpha": 0.5,
            "models": [{"model": "boundary", "beta": 10, "weight": 3}, "missing", MissingNoise("slice")],
            "share_of": "patient",
            "annotators": 4,
        }
    )
    models = ((3, BoundaryNoise(10)), (1.0, MissingNoise()), (1.0, MissingNoise("slice")))
    assert recipe == NoiseRecipe(0.5, models, "patient", 4)
    assert recipe.model == "mixed"


@pytest.mark.parametrize("name", NOISE_MODELS)
def test_every_model_has_a_name_and_survives_json(name: str) -> None:
    recipe = NoiseRecipe.parse({"model": name, "alpha": 0.25})
    assert recipe.model == name
    assert NoiseRecipe.parse(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert type(parse_model(name)) is NOISE_MODELS[name]


def test_predicted_labels_are_one_of_the_models() -> None:
    recipe = NoiseRecipe.parse({"model": "predicted", "labels": "runs/other", "alpha": 0.5})
    assert recipe == NoiseRecipe(0.5, ((1.0, PredictedNoise("runs/other")),))
    assert recipe.model == "predicted"
    assert NoiseRecipe.parse(json.loads(json.dumps(recipe.as_dict()))) == recipe
    entries = [{"model": "predicted", "labels": name, "weight": 2} for name in ("b", "a", "b")]
    mixed = NoiseRecipe.parse({"models": ["missing", *entries, PredictedNoise("c")]})
    assert mixed.models[1] == (2, PredictedNoise("b"))
    assert mixed.label_folders == ("b", "a", "c")
    assert NoiseRecipe.parse("mixed").label_folders == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": "predicted"}, "'predicted': labels must name the folder of the predicted labels, got ''"),
        ({"model": "predicted", "labels": 3}, "labels must name the folder of the predicted labels, got 3"),
        ({"model": "predicted", "folder": "a"}, r"unknown fields \['folder'\]; model 'predicted' has \['labels'\]"),
        ("boundry", r"model must be one of \['none', 'missing', 'boundary', 'mixed', .*\], got 'boundry'"),
        ({"model": "missing", "scope": "all"}, r"scope must be one of \['object', 'slice'\], got 'all'"),
        ({"unit": "cm"}, r"unit must be one of \['voxel', 'mm'\], got 'cm'"),
        ({"alpha": 70}, "alpha must be a probability between 0 and 1, got 70"),
        ({"alpha": float("nan")}, "alpha must be a probability between 0 and 1, got nan"),
        ({"alpha": True}, "alpha must be a probability between 0 and 1, got True"),
        ({"alpha": "0.7"}, "alpha must be a probability between 0 and 1, got '0.7'"),
        ({"beta": 0}, "beta must be an integer of at least 1, got 0"),
        ({"beta": 5.5}, "beta must be an integer of at least 1, got 5.5"),
        ({"model": "missing", "sigma": 1}, r"unknown fields \['sigma'\]; it has \['model', 'alpha'"),
        ({"model": "affine", "scope": "slice"}, r"unknown fields \['scope'\]; model 'affine' has \['beta'"),
        ({"models": ["mixed"]}, r"model must be one of \['affine', .*, got 'mixed'"),
        ({"models": ["missing"], "beta": 3}, r"unknown fields \['beta'\] beside models; a recipe has \['alpha'"),
        ({"models": [{"model": "missing", "weight": 0}]}, "weight of missing must be above 0, got 0"),
        ({"models": [{"model": "missing", "weight": "2"}]}, "weight of missing must be above 0, got '2'"),
        ({"models": [{"model": MissingNoise(), "scope": "slice"}]}, r"has its settings already, \['scope'\]"),
        ({"share_of": "site"}, r"share_of must be one of \['case', 'patient'\], got 'site'"),
        ({"annotators": 0}, "annotators must be an integer of at least 1 or null, got 0"),
        ({"annotators": 2.0}, "annotators must be an integer of at least 1 or null, got 2.0"),
    ],
)
def test_parse_errors_name_the_field(value: str | dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseRecipe.parse(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "a model name or a mapping of fields, got int"),
        ({"models": "missing"}, "models must be a list, got str"),
        ({"models": [5]}, "a name, a mapping with a model in it, or a model, got 5"),
        ({"models": [{"beta": 5}]}, "a name, a mapping with a model in it, or a model, got None"),
        ({"model": BoundaryNoise}, "or a model, got <class"),
    ],
)
def test_parse_refuses_other_types(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        NoiseRecipe.parse(value)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.7, 1.0])
def test_share_of_noisy_cases_is_alpha(alpha: float) -> None:
    # Binomial with n = 2000: standard deviation of the share at most 0.0112; 4 of them. Exact at 0 and 1.
    recipe = NoiseRecipe.parse({"model": "missing", "alpha": alpha})
    share = np.mean([recipe.draw_model(case, 0) is not None for case in CASES])
    assert abs(share - alpha) <= 4 * np.sqrt(alpha * (1 - alpha) / len(CASES))
    assert share == np.mean([recipe.is_noisy(case, 0) for case in CASES])


def test_noisy_cases_are_nested_in_alpha_and_common_to_all_models() -> None:
    noisy = {}
    for model in ("missing", "boundary", "mixed"):
        for alpha in (0.3, 0.5, 0.7):
            recipe = NoiseRecipe.parse({"model": model, "alpha": alpha})
            noisy[model, alpha] = {case for case in CASES[:300] if recipe.draw_model(case, 3) is not None}
        assert noisy[model, 0.3] < noisy[model, 0.5] < noisy[model, 0.7]
    assert noisy["missing", 0.5] == noisy["boundary", 0.5] == noisy["mixed", 0.5]


def test_other_seed_picks_other_cases() -> None:
    recipe = NoiseRecipe.parse({"model": "missing", "alpha": 0.5})
    picks = [[recipe.draw_model(case, seed) for case in CASES[:100]] for seed in (0, 1)]
    assert picks[0] != picks[1]


def test_no_models_means_no_noise() -> None:
    assert NoiseRecipe(alpha=1.0).draw_model("a", 0) is None
    assert NoiseRecipe(alpha=1.0).is_noisy("a", 0)


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 0.5, 2.5)])
def test_models_are_drawn_by_weight(weights: tuple[float, ...]) -> None:
    # Multinomial, n = 2000: standard deviation of a count sqrt(n p (1 - p)); 4 of them.
    models = tuple((weight, BoundaryNoise(beta)) for beta, weight in enumerate(weights, start=5))
    counts = Counter(NoiseRecipe(1.0, models).draw_model(case, 0) for case in CASES)
    for weight, model in models:
        p = weight / sum(weights)
        assert abs(counts[model] - 2000 * p) <= 4 * np.sqrt(2000 * p * (1 - p))


def test_a_patient_has_one_model_and_cases_draw_their_own_parameters() -> None:
    models = ((1.0, MissingNoise()), (1.0, BoundaryNoise()))
    recipe = NoiseRecipe(0.5, models, "patient")
    drawn = {patient: {recipe.draw_model(case, 1, patient) for case in CASES[:20]} for patient in CASES[:60]}
    assert {len(found) for found in drawn.values()} == {1}
    assert set.union(*drawn.values()) == {None, *(model for _, model in models)}
    first, second = (recipe.draws(case, 1, "p")(1).random() for case in CASES[:2])
    assert first == case_generator(1, CASES[0], 1).random() != second


def test_without_patients_of_their_own_cases_are_drawn_as_by_case() -> None:
    by_case, by_patient = (NoiseRecipe.parse({"model": "mixed", "share_of": who}) for who in ("case", "patient"))
    assert [by_case.draw_model(c, 0) for c in CASES[:50]] == [by_patient.draw_model(c, 0, c) for c in CASES[:50]]


def test_cases_are_spread_over_the_annotators() -> None:
    # 2000 draws of 4: 500 each with standard deviation 19.4; 4 of them.
    recipe = NoiseRecipe.parse({"model": "boundary", "annotators": 4})
    counts = Counter(recipe.annotator_of(case, 0) for case in CASES)
    assert set(counts) == {1, 2, 3, 4}
    assert max(abs(count - 500) for count in counts.values()) < 78
    assert NoiseRecipe.parse("boundary").annotator_of("a", 0) is None
    assert {recipe.annotator_of(case, 1) for case in CASES[:20]} != {1}


def test_an_annotator_has_one_model_one_stream_and_clean_cases() -> None:
    models = tuple((1.0, BoundaryNoise(beta)) for beta in range(5, 11))
    recipe = NoiseRecipe(0.5, models, annotators=3)
    plain = NoiseRecipe(0.5, models)
    by_annotator: dict[int | None, set] = {}
    for case in CASES[:200]:
        model, annotator = recipe.draw_model(case, 0), recipe.annotator_of(case, 0)
        assert (model is None) == (plain.draw_model(case, 0) is None)
        by_annotator.setdefault(annotator, set()).add(model)
        assert recipe.draws(case, 0)(2).random() == case_generator(0, f"annotator {annotator}", 2).random()
    assert {len(found - {None}) for found in by_annotator.values()} == {1}


def test_patients_keep_their_annotator() -> None:
    recipe = NoiseRecipe.parse({"model": "boundary", "annotators": 5, "share_of": "patient"})
    assert len({recipe.annotator_of(case, 0, "p3") for case in CASES[:50]}) == 1


def test_share_by_patient_needs_one() -> None:
    recipe = NoiseRecipe.parse({"model": "boundary", "share_of": "patient"})
    with pytest.raises(ValueError, match=r"Case 'a': .* share_of 'patient' needs the patient's name"):
        recipe.draw_model("a", 0)
