"""What a recipe makes of one label: the parts by hand, every structure by its own draw, nothing but the arguments."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from monai_noisylabel.corruption import (
    NOISE_MODELS,
    NoiseRecipe,
    NoiseRecord,
    case_generator,
    corrupt,
    draw_boundary_shift,
    draw_slices,
    shift_boundaries,
    shift_boundary,
)
from monai_noisylabel.corruption.model import Draw
from monai_noisylabel.corruption.record import Parameters

CASES = [f"case{index}" for index in range(30)]


def _square(size: int = 64, start: int = 20, stop: int = 44) -> np.ndarray:
    label = np.zeros((1, size, size), np.uint8)
    label[0, start:stop, start:stop] = 1
    return label


def _heart(depth: int = 0) -> np.ndarray:
    """A disc (3) in a ring (2) beside a bar (1), as blood pool, muscle and right ventricle lie."""
    rows, columns = np.indices((96, 96))
    radius = np.hypot(rows - 48, columns - 60)
    label = np.zeros((96, 96), np.uint8)
    label[30:66, 24:36] = 1
    label[radius < 22] = 2
    label[radius < 12] = 3
    return np.repeat(label[None, ..., None], depth, -1) if depth else label[None]


@pytest.mark.parametrize("recipe", [None, "none", {"model": "boundary", "alpha": 0.0}])
def test_clean_case_is_an_equal_copy(recipe: str | dict[str, object] | None) -> None:
    label = _heart()
    noisy, record = corrupt(label, "a", recipe, 0, num_classes=4, multi_label=False)
    np.testing.assert_array_equal(noisy, label)
    assert not np.shares_memory(noisy, label)
    assert noisy.dtype == np.uint8
    assert (record.case, record.model, record.parameters) == ("a", "none", {})
    assert record.dice == record.volume_ratio == {"1": 1.0, "2": 1.0, "3": 1.0}


def test_missing_removes_everything_and_says_so() -> None:
    noisy, record = corrupt(_heart(), "a", {"model": "missing", "alpha": 1.0}, 0, num_classes=4, multi_label=False)
    assert noisy.shape == (1, 96, 96)
    assert noisy.dtype == np.uint8
    assert not noisy.any()
    assert record.model == "missing"
    assert record.parameters == {number: {"scope": "object"} for number in "123"}
    assert record.dice == record.volume_ratio == {"1": 0.0, "2": 0.0, "3": 0.0}


def test_missing_slices_are_those_recorded_and_the_rest_is_untouched() -> None:
    label = _heart(depth=10)
    recipe = {"model": "missing", "alpha": 1.0, "scope": "slice"}
    noisy, record = corrupt(label, "a", recipe, 4, num_classes=4, multi_label=False)
    slices = list(draw_slices(label > 0, case_generator(4, "a", "slices")))
    assert record.parameters == {number: {"scope": "slice", "slices": slices} for number in "123"}
    assert not noisy[..., slices].any()
    others = [index for index in range(10) if index not in slices]
    np.testing.assert_array_equal(noisy[..., others], label[..., others])
    # Every slice is alike, so the volume ratio is the share of slices kept: r; Dice is 2 r / (1 + r).
    ratio = len(others) / 10
    assert record.volume_ratio == pytest.approx(dict.fromkeys("123", ratio))
    assert record.dice == pytest.approx(dict.fromkeys("123", 2 * ratio / (1 + ratio)))


def test_boundary_shift_of_a_square_by_hand() -> None:
    # Square of side 24 at least 20 from every border. Erosion by b: (24 - 2b)^2. Dilation by b: 24^2 + 4 * 24
    # b + four corners, each the lattice points x, y >= 1 with x^2 + y^2 <= b^2.
    signs = set()
    for case in CASES[:30]:
        noisy, record = corrupt(
            _square(), case, {"model": "boundary", "alpha": 1.0}, 0, num_classes=2, multi_label=False
        )
        shift = record.parameters["1"]["shift"]
        assert shift == draw_boundary_shift(5, case_generator(0, case, 1))
        size = abs(shift)
        corner = sum(x * x + y * y <= size * size for x in range(1, 9) for y in range(1, 9))
        area = 576 + 96 * size + 4 * corner if shift > 0 else (24 - 2 * size) ** 2
        assert noisy.sum() == area
        assert record.volume_ratio["1"] == pytest.approx(area / 576)
        assert record.dice["1"] == pytest.approx(2 * min(area, 576) / (area + 576))
        signs.add(np.sign(shift))
    assert signs == {-1, 1}


@pytest.mark.parametrize("depth", [0, 8])
def test_multi_class_draws_one_shift_per_class_and_never_overlaps_or_loses_one(depth: int) -> None:
    label = _heart(depth)
    masks = np.stack([label[0] == value for value in (1, 2, 3)])
    for case in CASES[: 6 if depth else 25]:
        recipe = {"model": "boundary", "alpha": 1.0, "beta": 10}
        noisy, record = corrupt(label, case, recipe, 1, num_classes=4, multi_label=False)
        shifts = [draw_boundary_shift(10, case_generator(1, case, value)) for value in (1, 2, 3)]
        assert [record.parameters[number]["shift"] for number in "123"] == shifts
        assert set(np.unique(noisy)) == {0, 1, 2, 3}
        expected = shift_boundaries(masks, shifts)
        for value in (1, 2, 3):
            np.testing.assert_array_equal(noisy[0] == value, expected[value - 1])


def test_set_of_classes_is_never_enlarged() -> None:
    label = _heart()
    label[label == 2] = 0
    noisy, record = corrupt(label, "a", {"model": "boundary", "alpha": 1.0}, 0, num_classes=4, multi_label=False)
    assert set(np.unique(noisy)) == {0, 1, 3}
    assert set(record.parameters) == {"1", "3"}
    assert record.dice["2"] == record.volume_ratio["2"] == 1.0


def test_shift_of_a_class_does_not_depend_on_the_other_classes() -> None:
    recipe = {"model": "boundary", "alpha": 1.0}
    both = corrupt(_heart(), "a", recipe, 0, num_classes=4, multi_label=False)[1]
    alone = corrupt(_heart() * (_heart() == 3), "a", recipe, 0, num_classes=4, multi_label=False)[1]
    assert alone.parameters == {"3": both.parameters["3"]}


def test_multi_label_channels_are_shifted_by_themselves_and_may_overlap() -> None:
    label = np.concatenate([_square(64, 16, 48), _square(64, 20, 30)])
    recipe = {"model": "boundary", "alpha": 1.0}
    noisy, record = corrupt(label, "a", recipe, 0, num_classes=2, multi_label=True)
    assert noisy.shape == (2, 64, 64)
    assert noisy.dtype == np.uint8
    for channel in range(2):
        shift = draw_boundary_shift(5, case_generator(0, "a", channel + 1))
        assert record.parameters[str(channel + 1)] == {"shift": shift, "unit": "voxel"}
        np.testing.assert_array_equal(noisy[channel], shift_boundary(label[channel], shift))


def test_order_of_cases_and_repetition_do_not_matter() -> None:
    recipe, label = NoiseRecipe.parse({"model": "mixed", "alpha": 0.8}), _heart()

    def run(cases: list[str]) -> dict[str, tuple[bytes, dict]]:
        results = {}
        for case in cases:
            noisy, record = corrupt(label, case, recipe, 9, num_classes=4, multi_label=False)
            results[case] = (noisy.tobytes(), record.as_dict())
        return results

    assert run(CASES[:12]) == run(CASES[11::-1] + CASES[:3])


def test_unit_mm_counts_millimetres() -> None:
    # Spacing 2 x 0.5 mm: b mm is b / 2 rows and 2 b columns.
    label, spacing = _square(), (2.0, 0.5)
    in_mm = {"model": "boundary", "alpha": 1.0, "unit": "mm"}
    noisy, record = corrupt(label, "a", in_mm, 0, num_classes=2, multi_label=False, spacing=spacing)
    shift = draw_boundary_shift(5, case_generator(0, "a", 1))
    assert record.parameters["1"] == {"shift": shift, "unit": "mm"}
    np.testing.assert_array_equal(noisy[0], shift_boundary(label[0], shift, spacing))


def test_unit_voxel_does_not_look_at_the_spacing() -> None:
    recipe = {"model": "boundary", "alpha": 1.0}
    noisy = [
        corrupt(_square(), "a", recipe, 0, num_classes=2, multi_label=False, spacing=spacing)[0]
        for spacing in (None, (2.0, 0.5))
    ]
    np.testing.assert_array_equal(*noisy)


def test_unit_mm_needs_a_spacing() -> None:
    with pytest.raises(ValueError, match="Case 'p7': a noise recipe in mm needs the spacing"):
        corrupt(_square(), "p7", {"model": "boundary", "unit": "mm"}, 0, num_classes=2, multi_label=False)


@pytest.mark.parametrize("recipe", ["none", "missing", "boundary", "mixed"])
def test_empty_label_stays_empty(recipe: str) -> None:
    label = np.zeros((1, 16, 16), np.uint8)
    noisy, record = corrupt(label, "a", {"model": recipe, "alpha": 1.0}, 0, num_classes=3, multi_label=False)
    assert not noisy.any()
    assert record.dice == {"1": 1.0, "2": 1.0}
    assert record.parameters == {}


@pytest.mark.parametrize(
    ("label", "num_classes", "multi_label", "message"),
    [
        (np.zeros((2, 8, 8)), 2, False, r"Case 'p7': a multi-class label of 2 classes has shape \(1, H, W\)"),
        (np.zeros((1, 8, 8)), 2, True, r"Case 'p7': a multi-label label of 2 classes has shape \(2, H, W\)"),
        (np.zeros((1, 8, 8)), 1, False, "Case 'p7': a multi-class label of 1 classes has no structure"),
        (np.zeros((0, 8, 8)), 0, True, "Case 'p7': a multi-label label of 0 classes has no structure"),
        (np.zeros((1, 8)), 2, False, r"got \(1, 8\)"),
        (np.full((1, 8, 8), 3), 3, False, "Case 'p7': .* holds the integers 0 to 2, got values from 3 to 3"),
        (np.full((1, 8, 8), -1), 3, False, "integers 0 to 2, got values from -1 to -1"),
        (np.full((1, 8, 8), 0.5), 3, False, "integers 0 to 2, got values from 0.5 to 0.5"),
        (np.full((1, 8, 8), np.nan), 3, False, "integers 0 to 2, got values from nan to nan"),
        (np.full((1, 8, 8), 255), 1, True, "Case 'p7': .* integers 0 to 1, got values from 255 to 255"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    label: np.ndarray, num_classes: int, multi_label: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(label, "p7", "none", 0, num_classes=num_classes, multi_label=multi_label)


PINNED = {
    "missing": ("missing", "60e9d7fa42083545"),
    "boundary": ({"model": "boundary", "beta": 10}, "9a1443d1bceabd8a"),
    "boundary in mm": ({"model": "boundary", "unit": "mm", "alpha": 1.0}, "f4d4cd16cfd5764e"),
    "mixed": ({"model": "mixed", "alpha": 0.8, "beta": 3, "scope": "slice"}, "fa796a795142d494"),
}


@pytest.mark.parametrize("name", PINNED)
def test_labels_of_the_first_release_stay_as_they_were(name: str) -> None:
    """Hashes of labels made by version 0.1.0: studies that name a recipe and a seed must stay reproducible."""
    recipe, expected = PINNED[name]
    digest = hashlib.sha256()
    overlapping = np.concatenate([_heart() > 0, _heart() > 1, _heart() > 2]).astype(np.uint8)
    for case in CASES[:8]:
        for label, multi_label in ((_heart(), False), (_heart(6), False), (overlapping, True)):
            spacing = (0.8, 0.8, 5.0)[: label.ndim - 1]
            form = {"num_classes": 3 if multi_label else 4, "multi_label": multi_label}
            digest.update(corrupt(label, case, recipe, 7, spacing=spacing, **form)[0].tobytes())
    assert digest.hexdigest()[:16] == expected


@dataclasses.dataclass(frozen=True)
class Shifted:
    """A model from elsewhere: moves every structure by the voxels that its stream draws."""

    may_add: ClassVar[bool] = False
    may_empty: ClassVar[bool] = False

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        moves = [int(draw(number).integers(1, 9)) for number in range(1, len(masks) + 1)]
        moved = [np.roll(mask, move, 0) for mask, move in zip(masks, moves, strict=True)]
        return np.stack(moved), {str(number): {"move": move} for number, move in enumerate(moves, start=1)}


def test_a_model_from_elsewhere_needs_no_registration() -> None:
    recipe = NoiseRecipe(alpha=1.0, models=((1.0, Shifted()),))
    noisy, record = corrupt(_square(), "a", recipe, 0, num_classes=2, multi_label=False)
    move = int(case_generator(0, "a", 1).integers(1, 9))
    assert (record.model, record.parameters) == ("Shifted", {"1": {"move": move}})
    np.testing.assert_array_equal(noisy[0], np.roll(_square()[0], move, 0))


def test_an_annotator_errs_alike_on_every_case() -> None:
    recipe = NoiseRecipe.parse({"model": "boundary", "alpha": 1.0, "annotators": 3})
    records = [corrupt(_square(), c, recipe, 5, num_classes=2, multi_label=False)[1] for c in CASES]
    shifts = {
        record.annotator: {r.parameters["1"]["shift"] for r in records if r.annotator == record.annotator}
        for record in records
    }
    # One shift per annotator, that of the annotator's own stream.
    assert shifts == {n: {draw_boundary_shift(5, case_generator(5, f"annotator {n}", 1))} for n in (1, 2, 3)}


def test_a_patient_is_noisy_in_all_cases_with_parameters_of_their_own() -> None:
    recipe = NoiseRecipe.parse({"model": "boundary", "alpha": 0.5, "share_of": "patient"})
    form = {"num_classes": 2, "multi_label": False}
    for patient in ("p1", "p2", "p3", "p4"):
        records = [corrupt(_square(), case, recipe, 2, patient=patient, **form)[1] for case in CASES[:10]]
        noisy = case_generator(2, patient, "noisy").random() < 0.5
        assert {record.model for record in records} == {"boundary" if noisy else "none"}
        if noisy:
            shifts = [draw_boundary_shift(5, case_generator(2, case, 1)) for case in CASES[:10]]
            assert [record.parameters["1"]["shift"] for record in records] == shifts


def test_a_recipe_by_patient_needs_the_patient() -> None:
    recipe = {"model": "boundary", "share_of": "patient"}
    with pytest.raises(ValueError, match="Case 'p7': a noise recipe with share_of 'patient' needs the patient's name"):
        corrupt(_square(), "p7", recipe, 0, num_classes=2, multi_label=False)


def test_what_a_model_refuses_is_told_with_the_case() -> None:
    recipe = {"model": "boundary", "alpha": 1.0}
    with pytest.raises(ValueError, match=r"Case 'p7': spacing must be 2 positive numbers"):
        corrupt(_square(), "p7", {**recipe, "unit": "mm"}, 0, num_classes=2, multi_label=False, spacing=(1.0,))


def test_a_model_may_add_a_structure_that_the_case_does_not_hold() -> None:
    label = _heart() * (_heart() != 2)
    noisy, record = corrupt(label, "a", {"model": "class_flip", "alpha": 1.0}, 0, num_classes=4, multi_label=False)
    assert (noisy == 2).any()
    assert (record.volume_ratio["2"], record.dice["2"]) == (None, 0.0)


def test_surfaces_are_measured_only_where_asked_for() -> None:
    form = {"num_classes": 4, "multi_label": False, "spacing": (2.0, 0.5)}
    recipe = {"model": "boundary", "alpha": 1.0}
    noisy, record = corrupt(_heart(), "a", recipe, 0, **form)
    same, short = corrupt(_heart(), "a", recipe, 0, surfaces=False, **form)
    np.testing.assert_array_equal(noisy, same)
    masks = [np.stack([label[0] == value for value in (1, 2, 3)]) for label in (_heart(), noisy)]
    whole = NoiseRecord.measured("a", "boundary", record.parameters, *masks, spacing=(2.0, 0.5))
    assert record == whole
    assert short == dataclasses.replace(whole, surface_distance={}, taxonomy={})


@pytest.mark.parametrize(
    ("name", "multi_label"),
    [(name, form) for name in NOISE_MODELS for form in (False, True) if (name, form) != ("confusion", True)],
)
def test_every_model_keeps_the_form_of_a_label(name: str, multi_label: bool) -> None:
    label = np.concatenate([_heart(5) > 0, _heart(5) > 2]).astype(np.uint8) if multi_label else _heart(5)
    before, form = label.copy(), {"num_classes": 2 if multi_label else 4, "multi_label": multi_label}
    recipe = {"alpha": 1.0, "models": [name]}
    noisy, record = corrupt(label, "a", recipe, 0, spacing=(1.0, 1.0, 4.0), surfaces=False, **form)
    again = corrupt(label, "a", NoiseRecipe.parse(recipe).as_dict(), 0, spacing=(1.0, 1.0, 4.0), **form)
    np.testing.assert_array_equal(label, before)
    np.testing.assert_array_equal(noisy, again[0])
    assert (noisy.dtype, noisy.shape, record.model) == (np.uint8, label.shape, name)
    assert noisy.max() <= (1 if multi_label else 3)
    assert not np.array_equal(noisy, label)


# ---------------------------------------- labels of another model


PREDICTED = {"alpha": 1.0, "models": [{"model": "predicted", "labels": "other"}]}


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_predicted_label_takes_the_place_of_the_given_one(multi_label: bool) -> None:
    label = np.stack([_square()[0], np.zeros((64, 64), np.uint8)]) if multi_label else _square()
    prediction = np.roll(label[::-1] if multi_label else 2 * label, 30, 1)
    asked: list[str] = []

    def read(folder: str) -> np.ndarray:
        asked.append(folder)
        return prediction

    form = {"num_classes": 2 if multi_label else 3, "multi_label": multi_label}
    noisy, record = corrupt(label, "a", PREDICTED, 0, prediction=read, **form)
    np.testing.assert_array_equal(noisy, prediction)
    assert noisy.dtype == np.uint8
    assert not np.shares_memory(noisy, prediction)
    assert asked == ["other"]
    assert (record.model, record.parameters) == ("predicted", {"1": {"labels": "other"}})
    assert record.volume_ratio == {"1": 0.0, "2": None}  # it may empty structures and add others


def test_predictions_are_read_for_the_cases_that_get_them_only() -> None:
    recipe = {"alpha": 0.6, "models": ["missing", *({"model": "predicted", "labels": name} for name in "pq")]}
    seen: dict[str, str] = {}
    for case in CASES:
        folders: list[str] = []
        _, record = corrupt(
            _square(),
            case,
            recipe,
            0,
            num_classes=2,
            multi_label=False,
            prediction=lambda folder, folders=folders: folders.append(folder) or _square(),
        )
        assert folders == ([record.parameters["1"]["labels"]] if record.model == "predicted" else [])
        seen[case] = record.model + "".join(folders)
    assert set(seen.values()) == {"none", "missing", "predictedp", "predictedq"}
    for case, drawn in seen.items():  # whether a case is noisy is not the model's matter
        assert (drawn == "none") == (not NoiseRecipe.parse({"model": "boundary", "alpha": 0.6}).is_noisy(case, 0))


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (None, "Case 'a': its recipe takes labels that a model predicted, from other, but nothing reads them here"),
        (3 * _square(), r"holds the integers 0 to 1, got values from 0 to 3.* \(the predicted label in other; predict"),
        (_square(32), r"Case 'a': its predicted label in other has shape \(32, 32\), the label \(64, 64\); predict on"),
        (_square()[0], r"has shape \(1, H, W\) .* \(the predicted label in other"),
    ],
)
def test_predictions_that_do_not_fit(prediction: np.ndarray | None, message: str) -> None:
    read = None if prediction is None else lambda folder: prediction
    with pytest.raises(ValueError, match=message):
        corrupt(_square(), "a", PREDICTED, 0, num_classes=2, multi_label=False, prediction=read)
