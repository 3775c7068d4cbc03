"""The record of a corrupted case: measured overlap, and a form that JSON can hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from monai_noisylabel.corruption import NoiseRecord


def _masks(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])[:, None, :]


def test_ratio_and_dice_by_hand() -> None:
    # 1: 4 -> 6 voxels, 4 shared: ratio 1.5, Dice 8/10. 2: 4 -> 1, 1 shared: 0.25, 2/5. 3: removed. 4: never
    # there.
    clean = _masks("####....", "....####", "##......", "........")
    noisy = _masks("######..", ".......#", "........", "........")
    record = NoiseRecord.measured("a", "boundary", {}, clean, noisy)
    assert record.volume_ratio == {"1": 1.5, "2": 0.25, "3": 0.0, "4": 1.0}
    assert record.dice == {"1": 0.8, "2": 0.4, "3": 0.0, "4": 1.0}


def test_as_dict_survives_json() -> None:
    parameters = {"1": {"scope": "slice", "slices": [2, 3]}, "2": {"shift": -4, "unit": "voxel"}}
    record = NoiseRecord.measured("a", "missing", parameters, _masks("##", "#."), _masks("#.", "#."))
    assert json.loads(json.dumps(record.as_dict())) == {
        "case": "a",
        "model": "missing",
        "parameters": parameters,
        "volume_ratio": {"1": 0.5, "2": 1.0},
        "dice": {"1": 2 / 3, "2": 1.0},
        "surface_distance": {"1": 1 / 3, "2": 0.0},  # surfaces {0, 1} and {0}: distances 0, 1 and 0
        "taxonomy": {"1": "contour", "2": "none"},
        "annotator": None,
    }


def test_surfaces_and_kinds_by_hand() -> None:
    # One row of pixels is all surface. 1: four are in both, two are 1 and 2 off: 3 / 10. 2: 3, 2, 1 and 0 off one
    # way, 0 the other: 6 / 5. 3 has gone.
    clean = _masks("####....", "....####", "##......", "........")
    noisy = _masks("######..", ".......#", "........", "........")
    record = NoiseRecord.measured("a", "boundary", {}, clean, noisy, annotator=2)
    assert record.surface_distance == {"1": 0.3, "2": 1.2, "3": None, "4": 0.0}
    # What 2 lost, voxels 4, 5 and 6, went to 1 but for one; 1 gained nothing else.
    assert record.taxonomy == {"1": "class_confusion", "2": "class_confusion", "3": "instance", "4": "none"}
    assert record.annotator == 2
    in_mm = NoiseRecord.measured("a", "boundary", {}, clean, noisy, spacing=(7.0, 2.5))
    assert in_mm.surface_distance == {"1": 0.75, "2": 3.0, "3": None, "4": 0.0}


def test_without_surfaces_they_are_left_out() -> None:
    record = NoiseRecord.measured("a", "boundary", {}, _masks("##"), _masks("#."), surfaces=False)
    assert (record.surface_distance, record.taxonomy) == ({}, {})
    assert record.dice == {"1": 2 / 3}


def test_added_structure_where_the_model_may_add() -> None:
    record = NoiseRecord.measured("a", "class_flip", {}, _masks("##", ".."), _masks("#.", ".#"), may_add=True)
    assert (record.volume_ratio["2"], record.dice["2"], record.surface_distance["2"]) == (None, 0.0, None)
    assert record.taxonomy["2"] == "instance"
    assert json.loads(json.dumps(record.as_dict()))["volume_ratio"] == {"1": 0.5, "2": None}


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"Case 'a': clean masks are \(1, 1, 2\), noisy masks \(1, 1, 3\)"):
        NoiseRecord.measured("a", "boundary", {}, _masks("##"), _masks("##."))


def test_new_structure_is_refused() -> None:
    with pytest.raises(ValueError, match="Case 'a': structure 2 is in the noisy masks but not in the clean ones"):
        NoiseRecord.measured("a", "boundary", {}, _masks("##", ".."), _masks("##", ".#"))
