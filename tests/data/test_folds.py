"""Folds by patient."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from monai_noisylabel.data.folds import patient_folds, with_folds

ITEMS = [{"patient": f"p{patient:02d}", "case": f"p{patient:02d}/{n}"} for patient in range(11) for n in range(3)]


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_a_patient_is_in_one_fold_and_folds_are_of_like_size(folds: int) -> None:
    of_item = patient_folds(ITEMS, folds)
    of_patient = {(item["patient"], fold) for item, fold in zip(ITEMS, of_item, strict=True)}
    assert len(of_patient) == 11
    sizes = Counter(fold for _, fold in of_patient)
    assert sorted(sizes) == list(range(folds))
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_folds_follow_the_seed_and_not_the_order() -> None:
    expected = {item["case"]: fold for item, fold in zip(ITEMS, patient_folds(ITEMS, 3, seed=4), strict=True)}
    shuffled = random.Random(0).sample(ITEMS, len(ITEMS))
    assert {i["case"]: fold for i, fold in zip(shuffled, patient_folds(shuffled, 3, seed=4), strict=True)} == expected
    assert patient_folds(ITEMS, 3, seed=5) != patient_folds(ITEMS, 3, seed=4)


@pytest.mark.parametrize(("folds", "message"), [(1, "at least 2"), (12, "12 folds of 11 patients")])
def test_what_cannot_be_folded(folds: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        patient_folds(ITEMS, folds)


def test_items_with_their_folds() -> None:
    found = with_folds(ITEMS, 3, seed=4)
    assert [item["fold"] for item in found] == patient_folds(ITEMS, 3, seed=4)
    assert [{name: item[name] for name in item if name != "fold"} for item in found] == ITEMS
    assert all("fold" not in item for item in ITEMS)
