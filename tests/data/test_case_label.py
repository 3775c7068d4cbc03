"""From label files to masks in the axes of training and back, and several structures in one file."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dataset_files import manifest, write_volume
from simulated import oblique, write_hearts, write_pictures

from monai_noisylabel.data import load_dataset
from monai_noisylabel.data.case_label import combined_values, read_case_label, turned

CODES = [
    "".join(pair[flip] for pair, flip in zip(axes, flips, strict=True))
    for axes in permutations(("RL", "AP", "SI"))
    for flips in product((0, 1), repeat=3)
]


def test_masks_turn_and_return(tmp_path: Path) -> None:
    made = write_hearts(tmp_path)
    spec = load_dataset(made, tmp_path)
    for item in (*spec.train, *spec.val, *spec.test):
        label = read_case_label(item, spec)
        assert label.axes == "RAS"
        assert label.masks.shape == (3, 24, 28, 11)
        assert label.spacing == pytest.approx((1.5, 1.0, 3.0))
        assert all(mask.any() for mask in label.masks)
        np.testing.assert_array_equal(label.contents_with(label.masks)[0], label.sources[0].values)
        moved = np.roll(label.masks, 1, axis=3)
        np.testing.assert_array_equal(label.masks_in(label.contents_with(moved)), moved)


def test_all_orientations_of_a_file_give_the_same_masks(tmp_path: Path) -> None:
    """All 48, one of each training axis order."""
    base = np.zeros((6, 5, 4), np.uint8)
    base[1:3, 2:4, 1:2] = 1
    start = nibabel.orientations.axcodes2ornt("RAS")
    for code in CODES:
        turn = nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(code))
        array = nibabel.orientations.apply_orientation(base, turn)
        np.testing.assert_array_equal(turned(array, oblique(code), "RAS"), base, err_msg=code)


def test_a_file_per_structure(tmp_path: Path) -> None:
    made = write_pictures(tmp_path)
    spec = load_dataset(made, tmp_path)
    label = read_case_label(spec.train[0], spec)
    assert (label.axes, label.spacing, label.structures) == (None, (1.0, 1.0), ((0,), (1,)))
    contents = label.contents_with(~label.masks)
    assert [sorted(np.unique(values).tolist()) for values in contents] == [[0, 255], [0, 1]]
    np.testing.assert_array_equal(label.masks_in(contents), ~label.masks)


def test_label_files_of_one_case_must_fit_together(tmp_path: Path) -> None:
    for number in range(5):
        write_volume(tmp_path / f"images/c{number}.nii.gz", np.ones((6, 6, 4), np.int16) * np.arange(4, dtype=np.int16))
        for name, depth in (("a", 4), ("b", 4)):
            write_volume(tmp_path / f"{name}/c{number}.nii.gz", np.ones((6, 6, depth), np.uint8))
    layout = {"image": "images/{case}.nii.gz", "label": {"a": "a/{case}.nii.gz", "b": "b/{case}.nii.gz"}}
    made = manifest(task="multi_label", classes={"a": 1, "b": 1}, layout=layout)
    spec = load_dataset(made, tmp_path)
    write_volume(tmp_path / "b/c0.nii.gz", np.ones((6, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=r"have different shapes \[\(6, 6, 3\), \(6, 6, 4\)\]"):
        read_case_label(spec.train[0], spec)


def test_combinations_of_nested_structures() -> None:
    # 0 nothing, 1 liver, 2 liver and tumour, 3 liver and vessel; 9 is none of the classes.
    values = [(1, 2, 3), (2,), (3,)]
    known = {(0, 0, 0): 0, (1, 0, 0): 1, (1, 1, 0): 2, (1, 0, 1): 3}
    wanted = np.array(list(product((0, 1), repeat=3)), bool)
    written = combined_values(np.zeros(8, np.int32), wanted.T, values)
    # (0, 1, 0) is one structure from nothing and one from liver and tumour, which holds more; (0, 1, 1) is two
    # structures from three of the values, and the first of those that hold two is taken; (1, 1, 1) alike.
    expected = [known.get(tuple(combination)) for combination in wanted.astype(int).tolist()]
    assert expected == [0, None, None, None, 1, 3, 2, None]
    assert written.tolist() == [0, 3, 2, 2, 1, 3, 2, 2]
    given = np.array([9, 9, 1, 2])
    kept = combined_values(given, np.array([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool), values)
    assert kept.tolist() == [9, 1, 2, 0]


def test_combined_values_need_values() -> None:
    with pytest.raises(ValueError, match="need values of their own"):
        combined_values(np.zeros(3, np.int32), np.zeros((2, 3), bool), [None, 1])
