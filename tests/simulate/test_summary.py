"""Sums over records, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monai_noisylabel.corruption import NoiseRecord
from monai_noisylabel.simulate.simulate_case import confusion_counts
from monai_noisylabel.simulate.summary import summarise


def _line(clean: list[str], noisy: list[str], model: str, overlap: bool = False, annotator: int | None = None) -> Any:
    masks = [np.array([[[c == "#" for c in row]] for row in rows]) for rows in (clean, noisy)]
    record = NoiseRecord.measured("a", model, {}, *masks, annotator=annotator, may_add=True)
    return {**record.as_dict(), "voxels": confusion_counts(*masks, overlap).tolist()}


LINES = [
    (["##......", "....##.."], ["###.....", "....#..."], "boundary"),  # a: 2 -> 3; b: 2 -> 1
    (["##......", "....##.."], ["........", "........"], "missing"),
    (["##......", "........"], ["##......", "........"], "none"),  # no b
    (["........", "....##.."], ["#.......", "....##.."], "class_flip"),  # a is added
]


def test_multi_class() -> None:
    summary = summarise((_line(*line) for line in LINES), ["a", "b"], multi_label=False)
    assert (summary["cases"], summary["noisy_cases"], summary["case_noise_rate"]) == (4, 3, 0.75)
    assert summary["models"] == {"boundary": 1, "class_flip": 1, "missing": 1, "none": 1}
    # Of 32 voxels change: 2 + 4 + 0 + 1. Clean foreground: 4 + 4 + 2 + 2.
    assert summary["voxel_noise_rate"] == 7 / 32
    assert summary["foreground_noise_rate"] == 7 / 12
    # Background 20: 2 become a. Structure a 6: 2 become background. Structure b 6: 1 + 2 become background.
    counts = [[18, 2, 0], [2, 4, 0], [3, 0, 3]]
    assert summary["transition"]["classes"] == ["background", "a", "b"]
    assert summary["transition"]["counts"] == counts
    np.testing.assert_allclose(summary["transition"]["rates"], np.array(counts) / [[20], [6], [6]])
    first, second = summary["classes"]["a"], summary["classes"]["b"]
    assert [first[key] for key in ("cases", "changed", "vanished", "added")] == [3, 2, 1, 1]
    assert [second[key] for key in ("cases", "changed", "vanished", "added")] == [3, 2, 1, 0]
    # a: Dice 4/5, 0, 1. b: 2/3, 0, 1.
    assert first["dice"] == pytest.approx((0.8 + 0 + 1) / 3)
    assert first["dice_changed"] == pytest.approx(0.4)
    assert first["volume_ratio"] == pytest.approx((1.5 + 0) / 2)
    assert second["dice"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    # Every voxel of a row is surface. a: one of 2 + 3 is 1 away. b: one of 2 + 1 is. What vanished is nowhere.
    assert first["surface_distance"] == pytest.approx(1 / 5)
    assert second["surface_distance"] == pytest.approx(1 / 3)
    assert first["taxonomy"] == {"contour": 1, "instance": 2, "none": 1}
    assert second["taxonomy"] == {"contour": 1, "instance": 1, "none": 2}


def test_multi_label() -> None:
    line = _line(["####....", "..##...."], ["###.....", "..###..."], "boundary", overlap=True)
    summary = summarise([line], ["a", "b"], multi_label=True)
    # One of 8 voxels of each structure; clean foreground 4 + 2.
    assert summary["voxel_noise_rate"] == 2 / 16
    assert summary["foreground_noise_rate"] == 2 / 6
    assert summary["transition"]["a"]["counts"] == [[4, 0], [1, 3]]
    assert summary["transition"]["b"] == {
        "classes": ["background", "b"],
        "counts": [[5, 1], [0, 2]],
        "rates": [[5 / 6, 1 / 6], [0, 1]],
    }
    assert summary["classes"]["b"]["dice"] == pytest.approx(0.8)


def test_annotators_are_counted_in_order() -> None:
    lines = [_line(["##......"], ["#......."], "boundary", annotator=number) for number in (10, 2, 2, 1)]
    assert list(summarise(lines, ["a"], multi_label=False)["annotators"].items()) == [("1", 1), ("2", 2), ("10", 1)]


def test_nothing() -> None:
    summary = summarise([], ["a"], multi_label=False)
    assert (summary["cases"], summary["case_noise_rate"], summary["classes"]["a"]["dice"]) == (0, None, None)


def test_a_structure_that_no_case_holds() -> None:
    measured = summarise([_line(["##......", "........"], ["#.......", "........"], "boundary")], ["a", "b"], False)
    assert measured["classes"]["b"] == {
        **dict.fromkeys(("cases", "changed", "vanished", "added"), 0),
        **dict.fromkeys(("dice", "dice_changed", "volume_ratio", "surface_distance"), None),
        "taxonomy": {"none": 1},
    }
