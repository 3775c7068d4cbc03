"""Missing annotation: everything, or some slices of a volume."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from monai_noisylabel.corruption import MissingNoise, case_generator, draw_slices, remove_annotation


def _volume(labelled: range, depth: int = 20) -> np.ndarray:
    masks = np.zeros((2, 4, 4, depth), bool)
    masks[0, :2, :, labelled.start : labelled.stop] = True
    masks[1, 3, 3, labelled.start] = True
    return masks


@pytest.mark.parametrize("shape", [(1, 6, 5), (3, 6, 5), (2, 6, 5, 4)])
def test_object_scope_removes_everything_and_leaves_the_input_alone(shape: tuple[int, ...]) -> None:
    masks = np.ones(shape, bool)
    removed = remove_annotation(masks)
    assert removed.shape == shape
    assert removed.dtype == bool
    assert not removed.any()
    assert masks.all()


def test_slice_scope_clears_exactly_the_given_slices() -> None:
    masks = _volume(range(2, 9))
    before = masks.copy()
    kept = remove_annotation(masks, scope="slice", slices=(2, 5))
    expected = before.copy()
    expected[:, :, :, 2] = False
    expected[:, :, :, 5] = False
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(masks, before)


def test_slice_scope_draws_what_draw_slices_draws() -> None:
    masks = _volume(range(2, 12))
    slices = draw_slices(masks, case_generator(0, "a", "slices"))
    drawn = remove_annotation(masks, scope="slice", generator=case_generator(0, "a", "slices"))
    np.testing.assert_array_equal(drawn, remove_annotation(masks, scope="slice", slices=slices))


def test_a_2d_image_is_one_slice() -> None:
    assert not remove_annotation(np.ones((1, 4, 4), bool), scope="slice").any()


def test_drawn_slices_are_labelled_and_their_share_lies_between_a_fifth_and_four_fifths() -> None:
    # 10 labelled slices: round(10 U(0.2, 0.8)) takes every value from 2 to 8, and 2 and 8 half as often as
    # the others.
    masks = _volume(range(5, 15))
    counts = []
    drawn = np.zeros(20, int)
    for index in range(300):
        slices = draw_slices(masks, case_generator(0, f"case{index}"))
        assert len(set(slices)) == len(slices)
        assert list(slices) == sorted(slices)
        assert set(slices) <= set(range(5, 15))
        counts.append(len(slices))
        drawn[list(slices)] += 1
    assert set(counts) == set(range(2, 9))
    # Each is taken with probability 0.5, all equally likely: 150 of 300 draws, standard deviation 8.7.
    np.testing.assert_allclose(drawn[5:15], 150, atol=39)


def test_slices_of_any_structure_are_labelled() -> None:
    masks = np.zeros((3, 4, 4, 12), bool)
    masks[0, 1, 1, 2:4] = masks[2, 2, 2, 6:9] = True
    drawn = {index for case in "abcdefghij" for index in draw_slices(masks, case_generator(0, case))}
    assert drawn == {2, 3, 6, 7, 8}


@pytest.mark.parametrize(("labelled", "count"), [(0, 0), (1, 0), (2, 1)])
def test_never_all_slices_of_a_thin_structure(labelled: int, count: int) -> None:
    # Two labelled slices: round(2 U(0.2, 0.8)) is 0, 1 or 2, held to 1.
    masks = _volume(range(3, 3 + labelled)) if labelled else np.zeros((1, 4, 4, 20), bool)
    for index in range(50):
        assert len(draw_slices(masks, case_generator(1, f"case{index}"))) == count


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 4), {}, r"\(K, H, W\) or \(K, H, W, D\), got shape \(4, 4\)"),
        ((1, 4, 4, 4), {"scope": "all"}, "scope must be 'object' or 'slice', got 'all'"),
        ((1, 4, 4, 4), {"scope": "slice"}, "needs either the slices to clear or a generator"),
        ((1, 4, 4, 4), {"scope": "slice", "slices": (1, 4, -1)}, r"slices \[4, -1\] are outside .* 0 to 3"),
    ],
)
def test_errors(shape: tuple[int, ...], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        remove_annotation(np.ones(shape, bool), **options)


def test_model_removes_the_object_or_drawn_slices() -> None:
    masks = np.concatenate([_volume(range(2, 12)), np.zeros((1, 4, 4, 20), bool)])
    draw = partial(case_generator, 0, "a")
    whole, drawn = MissingNoise().apply(masks, draw, spacing=None, overlap=False)
    assert not whole.any()
    assert drawn == {"1": {"scope": "object"}, "2": {"scope": "object"}}
    slices = draw_slices(masks, draw("slices"))
    some, drawn = MissingNoise("slice").apply(masks, draw, spacing=None, overlap=True)
    np.testing.assert_array_equal(some, remove_annotation(masks, scope="slice", slices=slices))
    assert drawn == {number: {"scope": "slice", "slices": list(slices)} for number in ("1", "2")}


def test_model_takes_a_2d_image_as_one_slice() -> None:
    masks = np.ones((1, 4, 4), bool)
    noisy, drawn = MissingNoise("slice").apply(masks, partial(case_generator, 0, "a"), spacing=None, overlap=False)
    assert not noisy.any()
    assert drawn == {"1": {"scope": "object"}}


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"'missing': scope must be one of \['object', 'slice'\], got 'all'"):
        MissingNoise("all")  # type: ignore[arg-type]
