"""Class flips against the transition matrix that they are drawn from."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest

from monai_noisylabel.corruption import ClassFlipNoise, case_generator
from monai_noisylabel.corruption.class_flip import flip_classes, symmetric_transition

ASYMMETRIC = np.array([[0.7, 0.2, 0.1], [0.0, 0.4, 0.6], [0.3, 0.0, 0.7]])


def _map(shares: tuple[float, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Masks of classes 1.. in stripes that take these shares of the image; the first is background."""
    ends = np.round(np.cumsum(shares) * np.prod(shape)).astype(int)
    label = np.searchsorted(ends, np.arange(np.prod(shape)), side="right").reshape(shape)
    return np.stack([label == value for value in range(1, len(shares))])


def _apply(masks: np.ndarray, case: str = "a", seed: int = 0, overlap: bool = False, **settings: Any) -> Any:
    noise = ClassFlipNoise(**settings)
    return noise.apply(masks, partial(case_generator, seed, case), spacing=None, overlap=overlap)


def test_class_shares_of_symmetric_noise() -> None:
    # Background and three parts of instruments with shares p. A voxel is of class j after the flip if it was and
    # stayed, or was not and got it as one of three: p / 2 + (1 - p) / 6 = 1/6 + p / 3. With a million voxels the
    # share is uncertain by 0.0005.
    shares = (0.83976798, 0.08894528, 0.02007984, 0.0512069)
    noisy, drawn = _apply(_map(shares, (1000, 1000)), keep=0.5)
    found = np.array([1 - noisy.sum(0).mean(), *noisy.mean((1, 2))])
    np.testing.assert_allclose(found, 1 / 6 + np.array(shares) / 3, atol=0.002)
    # What Guo and Yuan publish for their symmetric noise of 50 % on Endovis18, whose clean shares these are
    # (ClassDist/readme.txt of their code). A flip to any class, the own one too, would leave .545 of background.
    np.testing.assert_allclose(found, [0.45128565, 0.1960985, 0.17388929, 0.17872656], atol=0.006)
    assert [what["kept"] for what in drawn.values()] == pytest.approx([0.5] * 3, abs=0.015)


@pytest.mark.parametrize("shape", [(300, 300), (40, 45, 50)])
def test_voxels_of_a_class_go_where_its_row_says(shape: tuple[int, ...]) -> None:
    masks = _map((0.4, 0.3, 0.3), shape)
    noisy = flip_classes(masks, ASYMMETRIC, np.random.default_rng(0))
    assert noisy.dtype == bool
    assert noisy.sum(0).max() == 1
    was, now = ([~stack.any(0), *stack] for stack in (masks, noisy))
    found = [[(after & before).sum() / before.sum() for after in now] for before in was]
    np.testing.assert_allclose(found, ASYMMETRIC, atol=0.01)
    assert found[1][0] == found[2][1] == 0


def test_rows_and_not_columns_are_drawn_from() -> None:
    # The cycle 0 -> 1 -> 2 -> 0 is certain.
    masks = np.array([[0, 1, 0, 1], [0, 0, 1, 0]], bool)
    cycle = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    noisy = flip_classes(masks, cycle, np.random.default_rng(0))
    assert noisy.astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 0, 1]]


def test_voxels_are_flipped_independently() -> None:
    # Flips of neighbours are uncorrelated: of 40000 pairs the correlation is 0 +- 0.005.
    flipped = ~_apply(np.ones((1, 200, 200), bool))[0][0]
    for here, there in ((flipped[1:], flipped[:-1]), (flipped[:, 1:], flipped[:, :-1])):
        assert abs(np.corrcoef(here.ravel(), there.ravel())[0, 1]) < 0.02


def test_keep_of_one_and_of_zero() -> None:
    masks = _map((0.5, 0.3, 0.2), (20, 20))
    np.testing.assert_array_equal(_apply(masks, keep=1)[0], masks)
    assert not (_apply(masks, keep=0)[0] & masks).any()
    np.testing.assert_array_equal(_apply(masks[:1], keep=0)[0], ~masks[:1])


@pytest.mark.parametrize("shape", [(40, 50), (12, 10, 15)])
def test_channels_of_a_multi_label_map_are_flipped_each_by_itself(shape: tuple[int, ...]) -> None:
    masks = np.zeros((3, *shape), bool)
    masks[0, 5:, 5:] = masks[1, 5:, 6:] = True
    before = masks.copy()
    noisy, drawn = _apply(masks, overlap=True, keep=0.8)
    flipped = noisy ^ masks
    assert set(drawn) == {"1", "2"}
    for number in (1, 2):
        assert drawn[str(number)]["keep"] == 0.8
        assert drawn[str(number)]["kept"] == round(1 - flipped[number - 1][masks[number - 1]].mean(), 4)
    # 0.2 of 1800 or 2000 voxels per channel, +- 0.01; of two channels, which are almost the same, 0.04 +- 0.005 are
    # flipped in both.
    np.testing.assert_allclose(flipped.reshape(3, -1).mean(1), 0.2, atol=0.04)
    assert (flipped[0] & flipped[1]).mean() == pytest.approx(0.04, abs=0.02)
    assert (noisy.sum(0) > 1).any()
    np.testing.assert_array_equal(masks, before)
    # A channel's flips do not depend on what the others hold.
    np.testing.assert_array_equal(_apply(masks[:2], overlap=True, keep=0.8)[0], noisy[:2])


def test_absent_classes_may_appear_and_present_ones_vanish() -> None:
    masks = np.zeros((2, 10, 10), bool)
    masks[0, 0, 0] = True
    noisy, drawn = _apply(masks, transition=[[0.5, 0.0, 0.5], [1, 0, 0], [0, 0, 1]])
    assert (ClassFlipNoise.may_add, ClassFlipNoise.may_empty) == (True, True)
    assert noisy[1].any()
    assert not noisy[0].any()
    assert drawn == {"1": {"keep": 0.0, "kept": 0.0}}


def test_given_transition_is_used_and_hashable() -> None:
    masks = _map((0.4, 0.3, 0.3), (60, 60))
    before = masks.copy()
    noisy, drawn = _apply(masks, transition=ASYMMETRIC)
    expected = flip_classes(masks, ASYMMETRIC, case_generator(0, "a", "classes"))
    np.testing.assert_array_equal(noisy, expected)
    assert [what["keep"] for what in drawn.values()] == [0.4, 0.7]
    assert hash(ClassFlipNoise(transition=ASYMMETRIC)) == hash(ClassFlipNoise(transition=ASYMMETRIC.tolist()))
    np.testing.assert_array_equal(masks, before)


def test_depends_on_seed_and_case_alone() -> None:
    masks = _map((0.4, 0.3, 0.3), (30, 30))
    noisy = _apply(masks)[0]
    np.testing.assert_array_equal(noisy, _apply(masks)[0])
    assert (noisy != _apply(masks, case="b")[0]).any()
    assert (noisy != _apply(masks, seed=1)[0]).any()


@pytest.mark.parametrize(("classes", "keep"), [(2, 0.5), (4, 0.5), (5, 0.9), (3, 0.0), (3, 1.0)])
def test_symmetric_transition(classes: int, keep: float) -> None:
    # The row of a class holds keep once and (1 - keep) / (C - 1) for each other class.
    matrix = symmetric_transition(classes, keep)
    identity = np.eye(classes)
    np.testing.assert_allclose(matrix, keep * identity + (1 - keep) / (classes - 1) * (1 - identity))
    np.testing.assert_allclose(matrix.sum(1), 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 1.5}, "Noise model 'class_flip': keep must be a number from 0 to 1, got 1.5"),
        ({"keep": -0.1}, "keep must be a number from 0 to 1, got -0.1"),
        ({"keep": None}, "keep must be a number from 0 to 1, got None"),
        ({"transition": "sym"}, "'class_flip': transition must be a square matrix of numbers, got 'sym'"),
        ({"transition": [[1, 0], [1]]}, "transition must be a square matrix of numbers"),
        ({"transition": [0.5, 0.5]}, r"square matrix of at least 2 rows, got shape \(2,\)"),
        ({"transition": [[1.0], [1.0]]}, r"square matrix of at least 2 rows, got shape \(2, 1\)"),
        ({"transition": [[0.5, 0.5]]}, r"square matrix of at least 2 rows, got shape \(1, 2\)"),
        ({"transition": [[1.0]]}, r"square matrix of at least 2 rows, got shape \(1, 1\)"),
        ({"transition": [[0.5, 0.6], [0, 1]]}, r"each row adding up to 1; its rows add up to \[1.1, 1.0\]"),
        ({"transition": [[1.5, -0.5], [0, 1]]}, "must hold probabilities"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassFlipNoise(**settings)


@pytest.mark.parametrize("overlap", [False, True])
def test_transition_of_another_number_of_classes_is_refused(overlap: bool) -> None:
    classes = 2 if overlap else 4
    masks = np.zeros((3, 4, 4), bool)
    with pytest.raises(ValueError, match=f"{classes} classes need a transition matrix of {classes} rows, got 3"):
        _apply(masks, overlap=overlap, transition=ASYMMETRIC)


@pytest.mark.parametrize(
    ("classes", "keep", "message"),
    [(1, 0.5, "num_classes must be at least 2, got 1"), (3, 1.1, "keep must be a number from 0 to 1, got 1.1")],
)
def test_symmetric_transition_checks_its_arguments(classes: int, keep: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        symmetric_transition(classes, keep)


@dataclasses.dataclass
class Always:
    """A generator that draws one number."""

    number: float

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.number)


def test_largest_draw_stays_within_the_classes() -> None:
    # Ten times 0.1 add up to 0.9999999999999999, which is also the largest number that a generator draws.
    masks = np.eye(9, 1, dtype=bool)[..., None]  # one voxel, of class 1
    flipped = flip_classes(masks, np.full((10, 10), 0.1), Always(1 - 2.0**-53))
    assert flipped[:, 0, 0].tolist() == [False] * 8 + [True]


def test_smallest_draw_takes_no_class_of_probability_zero() -> None:
    masks = np.array([[[True]], [[False]]])
    flipped = flip_classes(masks, [[1, 0, 0], [0, 0, 1], [0, 0, 1]], Always(0.0))
    assert flipped[:, 0, 0].tolist() == [False, True]
