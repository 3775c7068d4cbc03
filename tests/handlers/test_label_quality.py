"""Agreement of given, cleansed and true labels by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from handler_fakes import strip

from monai_noisylabel.handlers.label_quality import LabelQuality, measure_labels


def _item(case: str, given: int, used: int | None = None, truth: int | None = None) -> dict[str, Any]:
    item: dict[str, Any] = {"case": case, "label": strip(given)}
    item |= {} if used is None else {"pseudo_label": strip(used)}
    return item | ({} if truth is None else {"clean_label": strip(truth)})


def test_means_of_all_three_comparisons_by_hand() -> None:
    # Dice of strips a and b: 2 min(a, b) / (a + b).
    # case a: given 1, used 4, true 4: given-true 2/5, used-true 1, used-given 2/5
    # case b: given 4, used 4, true 4: 1, 1, 1;  case c: given 4, used 1, true 5: 8/9, 2/6, 2/5
    items = [_item("a", 1, 4, 4), _item("b", 4, 4, 4), _item("c", 4, 1, 5)]
    summary = measure_labels(items, ["liver"], num_classes=2).summary()
    assert summary["cases"] == 3
    assert summary["changed_cases"] == 2
    expected = {
        "given_to_clean": (2 / 5 + 1 + 8 / 9) / 3,
        "cleansed_to_clean": (1 + 1 + 1 / 3) / 3,
        "cleansed_to_given": (2 / 5 + 1 + 2 / 5) / 3,
    }
    for name, value in expected.items():
        assert summary[name] == {"mean": pytest.approx(value), "liver": pytest.approx(value)}


def test_the_mean_is_the_mean_over_classes_and_absent_classes_do_not_count() -> None:
    # class 1: case a 2/3, case b 1 -> 5/6; class 2 only in case a: 1 -> mean (5/6 + 1) / 2
    items = [
        {"case": "a", "label": torch.tensor([[1, 0, 2]]), "clean_label": torch.tensor([[1, 1, 2]])},
        {"case": "b", "label": torch.tensor([[1, 0, 0]]), "clean_label": torch.tensor([[1, 0, 0]])},
    ]
    found = measure_labels(items, ["liver", "tumour"], num_classes=3).summary()["given_to_clean"]
    assert found == {"mean": pytest.approx(11 / 12), "liver": pytest.approx(5 / 6), "tumour": 1.0}


def test_multi_label_channels_are_the_classes() -> None:
    item = {
        "case": "a",
        "label": torch.tensor([[[1, 1]], [[1, 0]]]),
        "pseudo_label": torch.tensor([[[1, 1]], [[0, 1]]]),
    }
    found = measure_labels([item], ["lung", "heart"], None, truth_key=None).summary()["cleansed_to_given"]
    assert found == {"mean": 0.5, "lung": 1.0, "heart": 0.0}


def test_without_truth_and_without_cleansing_there_is_nothing_to_compare() -> None:
    quality = measure_labels([_item("a", 3)], ["liver"], 2, truth_key=None)
    assert quality.summary() == {"cases": 0}
    assert quality.ranking() == "rank,case,dice_to_given,dice_to_given_liver\n"


def test_without_cleansing_the_noise_is_measured() -> None:
    summary = measure_labels([_item("a", 1, truth=4)], ["liver"], 2).summary()
    assert summary == {
        "cases": 1,
        "given_to_clean": {"mean": pytest.approx(0.4), "liver": pytest.approx(0.4)},
    }


def test_the_truth_is_not_looked_at_where_it_is_unknown() -> None:
    summary = measure_labels([_item("a", 1, 1, truth=4)], ["liver"], 2, truth_key=None).summary()
    assert set(summary) == {"cases", "cleansed_to_given", "changed_cases"}


@pytest.mark.parametrize(
    ("given", "used", "changed"),
    # both empty: agreement is not defined and nothing was changed; emptied or newly drawn: Dice 0
    [(0, 0, 0), (3, 0, 1), (0, 3, 1), (3, 3, 0)],
)
def test_what_counts_as_changed(given: int, used: int, changed: int) -> None:
    summary = measure_labels([_item("a", given, used)], ["liver"], 2, truth_key=None).summary()
    assert summary["changed_cases"] == changed


def test_a_change_in_one_class_is_a_change_of_the_case() -> None:
    item = {"case": "a", "label": torch.tensor([[1, 2, 2]]), "pseudo_label": torch.tensor([[1, 2, 0]])}
    assert measure_labels([item], ["liver", "tumour"], 3, truth_key=None).summary()["changed_cases"] == 1


def test_ranking_lists_the_most_changed_first_and_equal_ones_by_name() -> None:
    # z: 2 * 1 / 4 = 0.5; b and a are unchanged; "c, d": emptied, 0; e: empty before and after, nothing to
    # doubt
    items = [_item("z", 3, 1), _item("b", 2, 2), _item("a", 2, 2), _item("c, d", 4, 0), _item("e", 0, 0)]
    assert measure_labels(items, ["liver"], 2, truth_key=None).ranking().splitlines() == [
        "rank,case,dice_to_given,dice_to_given_liver",
        '1,"c, d",0.0000,0.0000',
        "2,z,0.5000,0.5000",
        "3,a,1.0000,1.0000",
        "4,b,1.0000,1.0000",
        "5,e,1.0000,nan",
    ]


def test_a_class_that_no_case_has_is_not_a_number() -> None:
    quality = LabelQuality(["liver", "tumour"], cleansed_to_given={"a": torch.tensor([0.5, math.nan])})
    summary = quality.summary()
    assert summary["cleansed_to_given"]["mean"] == 0.5
    assert math.isnan(summary["cleansed_to_given"]["tumour"])
    assert summary["changed_cases"] == 1


def test_weights_rank_the_labels_and_are_compared_with_the_truth() -> None:
    # wrong a and c weigh .25 and 1, right b and d .5 and 2: of the pairs ab ad cb cd all but cb are in order; the
    # list a b c d has the precision 1 at a and 2/3 at c. Nothing is known of e.
    items = [_item("a", 1, truth=4), _item("b", 4, truth=4), _item("c", 3, truth=4), _item("d", 2, truth=2)]
    quality = measure_labels(items, ["liver"], 2)
    quality.weights = {"b": 0.5, "c": 1.0, "a": 0.25, "e": 0.125, "d": 2.0}
    assert quality.cases == ["a", "b", "c", "d"]
    assert quality.wrong == {"a": True, "b": False, "c": True, "d": False}
    assert quality.summary()["weight_finds_wrong"] == {
        "wrong_cases": 2,
        "right_cases": 2,
        "auroc": 0.75,
        "average_precision": pytest.approx((1 + 2 / 3) / 2),
        "mean_weight_of_wrong": 0.625,
        "mean_weight_of_right": 1.25,
    }
    ranks = ["1,e,0.1250", "2,a,0.2500", "3,b,0.5000", "4,c,1.0000", "5,d,2.0000"]
    assert quality.ranking().splitlines() == ["rank,case,weight", *ranks]


def test_weights_without_truth_rank_only() -> None:
    quality = measure_labels([_item("b", 1), _item("a", 1)], ["liver"], 2, truth_key=None)
    quality.weights = {"a": 1.0, "b": 1.0}
    assert quality.summary() == {"cases": 0}
    assert quality.by_weight() == [("a", 1.0), ("b", 1.0)]


def test_a_label_wrong_in_one_class_is_wrong_and_an_empty_one_that_should_be_is_right() -> None:
    items = [
        {"case": "a", "label": torch.tensor([[1, 2, 2]]), "clean_label": torch.tensor([[1, 2, 0]])},
        {"case": "b", "label": torch.tensor([[0, 0, 1]]), "clean_label": torch.tensor([[0, 0, 1]])},
    ]
    assert measure_labels(items, ["liver", "tumour"], 3).wrong == {"a": True, "b": False}
