"""Values of labels for a viewer."""

from __future__ import annotations

import numpy as np
import pytest

from monai_noisylabel.label_app.label_code import LabelCode, renumbered

NAMES = ("lung", "heart", "clavicle")


def test_exclusive_structures_are_numbered() -> None:
    code = LabelCode.of(NAMES, [])
    assert code.label_names == {"lung": 1, "heart": 2, "clavicle": 3}
    assert LabelCode.of(("Left Lung",), []).label_names == {"Left Lung": 1}
    masks = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], bool)
    assert code.encode(masks).tolist() == [1, 2, 3, 0]
    assert code.encode(masks).dtype == np.uint8
    assert np.array_equal(code.decode(code.encode(masks)), masks)


def test_overlaps_that_occur_have_values_of_their_own() -> None:
    first = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]], bool)
    second = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0]], bool)
    code = LabelCode.of(NAMES, iter([first, second]))
    assert code.label_names == {"lung": 1, "heart": 2, "clavicle": 3, "lung + heart": 4, "lung + heart + clavicle": 5}
    for masks in (first, second):
        assert np.array_equal(code.decode(code.encode(masks)), masks)
    unseen = np.array([[0, 1], [1, 0], [1, 1]], bool)  # heart and clavicle, lung and clavicle
    near = code.decode(code.encode(unseen))
    assert (near != unseen).sum(0).tolist() == [1, 1]


def test_too_many_overlaps_are_refused() -> None:
    names = tuple(f"s{number}" for number in range(9))
    every = (np.arange(512)[None] >> np.arange(9)[:, None] & 1).astype(bool)
    with pytest.raises(ValueError, match="overlap in 511 ways"):
        LabelCode.of(names, [every])


def test_unknown_values_are_refused_by_number() -> None:
    with pytest.raises(ValueError, match=r"value\(s\) \[4, 9\], known are 0 background, 1 lung"):
        LabelCode.of(NAMES, []).decode(np.array([0, 1, 9, 4]))


def test_segments_are_found_by_name_not_by_number() -> None:
    names = {"Lung": 1, "heart": 2}
    label = np.array([0, 1, 2, 3])
    info = [{"name": "Heart", "idx": 1}, {"name": "lung", "idx": 2}, {"name": "heart", "idx": 3}]
    assert renumbered(label, info, names).tolist() == [0, 2, 1, 2]
    assert renumbered(label, None, names).tolist() == [0, 1, 2, 3]
    assert renumbered(label, [{"name": "heart"}], names).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="segment 'Segment_1' is none of Lung, heart"):
        renumbered(label, [*info, {"name": "Segment_1", "idx": 3}], names)
    assert renumbered(label, [*info, {"name": "unused", "idx": 7}], names).tolist() == [0, 2, 1, 2]
