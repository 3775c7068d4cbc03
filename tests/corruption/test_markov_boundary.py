"""Markov boundary noise: steps that are certain, chains against a chain on the whole grid, and the final blur."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from reference import released_noise
from scipy import ndimage

from monai_noisylabel.corruption import MarkovBoundaryNoise, case_generator
from monai_noisylabel.corruption.markov_boundary import markov_boundary, roughen, wander
from monai_noisylabel.corruption.painting import paint


def _ball(size: int, radius: float, axes: int) -> np.ndarray:
    return np.linalg.norm(np.indices((size,) * axes) - (size - 1) / 2, axis=0) <= radius


@pytest.mark.parametrize("axes", [2, 3])
def test_certain_steps_are_those_of_morphology(axes: int) -> None:
    # 24 steps outwards, past the end of a block, and 3 inwards; the mask touches the border of the image, which is
    # no boundary.
    mask = np.pad(np.ones((4,) * axes, bool), [(0, 40), (33, 7), (20, 20)][:axes])
    outwards = [True] * 24 + [False] * 3
    expected = ndimage.binary_dilation(mask, iterations=24)
    expected = ndimage.binary_erosion(expected, iterations=3, border_value=1)
    np.testing.assert_array_equal(wander(mask, outwards, np.random.default_rng(0), flip=1.0), expected)


def test_voxels_flip_with_the_given_probability() -> None:
    # A straight edge of 40 000 voxels, one step: 5 % of its outer shell, standard deviation sqrt(.05 * .95 / 4e4)
    # = .0011; then 30 % of what is the inner shell after a step inwards from the same edge.
    wall = np.zeros((200, 200, 6), bool)
    wall[..., :3] = True
    out = wander(wall, [True], np.random.default_rng(0), flip=0.05)
    assert out[..., 3].mean() == pytest.approx(0.05, abs=0.005)
    assert out[..., :3].all()
    assert not out[..., 4:].any()
    back = wander(wall, [False], np.random.default_rng(0), flip=0.3)
    assert back[..., 2].mean() == pytest.approx(0.7, abs=0.01)
    assert back[..., :2].all()
    assert not back[..., 3:].any()


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("share", [0.8, 0.2])
def test_chains_grow_like_those_on_the_whole_grid(axes: int, share: float) -> None:
    # Same law, other draws: mean volumes of 12 chains each, within five standard errors of their difference.
    mask = _ball(30, 9.3, 2) if axes == 2 else _ball(24, 5.3, 3)
    volumes = []
    for index in range(12):
        generator = np.random.default_rng(index)
        outwards = generator.random(45) < share
        slow = released_noise.wander(mask, outwards.tolist(), generator, 0.08)
        fast = wander(mask, outwards, np.random.default_rng(100 + index), flip=0.08)
        volumes.append((fast.sum(), slow.sum()))
    fast_volumes, slow_volumes = np.array(volumes, dtype=float).T
    difference = fast_volumes - slow_volumes  # paired: the same steps outwards
    assert abs(difference.mean()) < 5 * difference.std() / np.sqrt(12)
    assert difference.std() < 0.2 * slow_volumes.mean()
    assert (fast_volumes > mask.sum()).all() if share > 0.5 else (fast_volumes < mask.sum()).all()


def test_a_step_that_would_empty_the_structure_is_left_out() -> None:
    point = np.zeros((7, 7), bool)
    point[3, 3] = True
    np.testing.assert_array_equal(wander(point, [False] * 5, np.random.default_rng(0), flip=1.0), point)
    for seed in range(20):
        assert wander(_ball(9, 2, 2), [False] * 200, np.random.default_rng(seed), flip=0.3).any()


def test_no_other_step_is_left_out() -> None:
    # Two voxels in a line grow to four; the inner shell is then as large as the structure was at first.
    line = np.array([0, 0, 0, 1, 1, 0, 0, 0], bool)
    np.testing.assert_array_equal(wander(line, [True, False], np.random.default_rng(0), flip=1.0), line)


@pytest.mark.parametrize(("axes", "expected"), [(2, [0.6, 1.5, 2.7, 5, 10]), (3, [0.5, 1.7, 3.5, 7, 15])])
@pytest.mark.parametrize("radius", [6, 14])
def test_the_boundary_moves_alike_whatever_the_size(axes: int, expected: list[float], radius: int) -> None:
    """Growth of the radius of a ball after 20, 40, 60, 100 and 180 steps, as the documentation says it."""
    mask = _ball(2 * radius + 49, radius, axes)
    ball = (np.pi, 4 / 3 * np.pi)[axes - 2]
    grown = []
    for steps in (20, 40, 60, 100, 180):
        outwards = np.arange(steps) % 5 != 0  # four of five, as the paper draws them
        noisy = [markov_boundary(mask, outwards, np.random.default_rng(seed)) for seed in range(8 if axes == 2 else 1)]
        radii = [(one.sum() / ball) ** (1 / axes) for one in (mask, *noisy)]
        grown.append(np.mean(radii[1:]) - radii[0])
    np.testing.assert_allclose(grown, expected, rtol=0.1, atol=0.2)


def test_far_from_the_boundary_nothing_happens() -> None:
    # 200 x 200: with the blur over the whole image, 0.0007 of it would be specks, 25 voxels or so.
    mask = _ball(200, 40, 2)
    distance = np.maximum(ndimage.distance_transform_cdt(mask), ndimage.distance_transform_cdt(~mask))
    for seed in range(5):
        changed = roughen(mask, np.random.default_rng(seed)) ^ mask
        assert changed.any()
        assert distance[changed].max() <= 2


def test_the_blur_takes_away_most_of_the_flips() -> None:
    # A straight edge: of the 20 % that flip, few voxels next to it stay changed, and hardly any in the second row.
    wall = np.zeros((4000, 12), bool)
    wall[:, 6:] = True
    changed = (roughen(wall, np.random.default_rng(0)) ^ wall).mean(0)
    assert (changed[[0, 1, 2, 3, 8, 9, 10, 11]] == 0).all()
    assert (changed[[4, 7]] < 0.06).all()
    assert ((changed[[5, 6]] > 0.05) & (changed[[5, 6]] < 0.4)).all()
    assert changed[5] == pytest.approx(changed[6], abs=0.03)  # no bias to either side
    raw = roughen(wall, np.random.default_rng(0), sigma=0) ^ wall
    np.testing.assert_allclose(raw.mean(0)[4:8], 0.2, atol=0.03)


def test_no_flips_and_no_blur_change_nothing() -> None:
    mask = _ball(20, 6, 2)
    np.testing.assert_array_equal(roughen(mask, np.random.default_rng(0), final=0, sigma=0), mask)
    np.testing.assert_array_equal(wander(mask, [], np.random.default_rng(0)), mask)
    np.testing.assert_array_equal(wander(mask, [True, False], np.random.default_rng(0), flip=0), mask)


def test_a_structure_that_the_blur_would_remove_stays() -> None:
    line = np.zeros((20, 20), bool)
    line[10, 4:16] = True
    noisy = markov_boundary(line, [], np.random.default_rng(0))
    assert not roughen(line, np.random.default_rng(0)).any()
    np.testing.assert_array_equal(noisy, line)


@pytest.mark.parametrize("shape", [(30, 34), (16, 18, 14)])
def test_empty_and_full_masks_stay(shape: tuple[int, ...]) -> None:
    for mask in (np.zeros(shape, bool), np.ones(shape, bool)):
        noisy = markov_boundary(mask, [True, False] * 10, np.random.default_rng(0), flip=0.5)
        np.testing.assert_array_equal(noisy, mask)


def test_the_blur_is_five_wide_and_repeats_the_border() -> None:
    # So wide a Gaussian is a mean over the five voxels: 3 of 5 stay, 2 of 5 go. At the border the outermost counts for
    # those beyond it: 4 and 3 of 5.
    for line, expected in (
        ([0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0], [4, 5, 6]),
        ([0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0], []),
        ([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 1]),
    ):
        rough = roughen(np.array(line, bool), np.random.default_rng(0), final=0, sigma=100)
        assert np.flatnonzero(rough).tolist() == expected


def test_the_model_passes_its_settings_on() -> None:
    masks = _ball(40, 9, 2)[None]
    settings = {"flip": 0.3, "final": 0.4, "sigma": 0.7}
    model = MarkovBoundaryNoise(steps=25, outward=0.3, **settings)
    noisy, drawn = model.apply(masks, partial(case_generator, 0, "a"), spacing=None, overlap=True)
    generator = case_generator(0, "a", 1)
    outwards = generator.random(25) < 0.3
    np.testing.assert_array_equal(noisy[0], markov_boundary(masks[0], outwards, generator, **settings))
    assert drawn["1"] == {"outward_steps": outwards.sum(), "inward_steps": 25 - outwards.sum()}


def test_the_model_with_the_settings_of_the_paper() -> None:
    # Of 180 steps 144 go outwards on average, standard deviation sqrt(180 * .8 * .2) = 5.4; five of them.
    masks = np.zeros((2, 128, 128), bool)
    masks[0] = _ball(128, 30, 2)
    noisy, drawn = MarkovBoundaryNoise().apply(masks, partial(case_generator, 0, "a"), spacing=None, overlap=False)
    assert sorted(drawn) == ["1"]
    outward_steps = int(drawn["1"]["outward_steps"])  # type: ignore[arg-type]
    assert abs(outward_steps - 144) < 27
    assert drawn["1"] == {"outward_steps": outward_steps, "inward_steps": 180 - outward_steps}
    assert not noisy[1].any()
    assert 1.2 < noisy[0].sum() / masks[0].sum() < 2.5
    assert ndimage.label(noisy[0])[1] <= 3


def test_structures_are_painted_in_their_order() -> None:
    inner = _ball(64, 8, 2)
    masks = np.stack([_ball(64, 16, 2) & ~inner, inner])
    draw = partial(case_generator, 0, "a")
    apart, _ = MarkovBoundaryNoise(steps=60).apply(masks, draw, spacing=None, overlap=True)
    noisy, _ = MarkovBoundaryNoise(steps=60).apply(masks, draw, spacing=None, overlap=False)
    assert apart.all(0).any()
    np.testing.assert_array_equal(noisy, paint(apart, masks))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "'markov_boundary': steps must be an integer of at least 0, got -1"),
        ({"steps": 2.5}, "steps must be an integer of at least 0, got 2.5"),
        ({"outward": 1.1}, "outward must be a number from 0 to 1, got 1.1"),
        ({"flip": -0.1}, "flip must be a number from 0 to 1, got -0.1"),
        ({"final": 0.6}, "final must be a number from 0 to 0.5, got 0.6"),
        ({"sigma": float("inf")}, "sigma must be a number of at least 0, got inf"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarkovBoundaryNoise(**settings)
