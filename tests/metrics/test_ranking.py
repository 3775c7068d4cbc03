"""Measures of a ranking against scikit-learn, with and without ties, and the review curve against all orders."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from monai_noisylabel.metrics import auroc, average_precision, effort_to_find, review_curve


def ranking(seed: int, levels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(60, generator=generator) < 0.3
    suspicion = ((torch.rand(60, generator=generator) + 0.3 * wrong) * levels).floor()
    return suspicion, wrong


@pytest.mark.parametrize("levels", [2, 7, 10**6])
@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed: int, levels: int) -> None:
    suspicion, wrong = ranking(seed, levels)
    assert (len(suspicion.unique()) < 60) == (levels < 60)
    assert auroc(suspicion, wrong) == pytest.approx(roc_auc_score(wrong, suspicion), abs=1e-12)
    assert average_precision(suspicion, wrong) == pytest.approx(average_precision_score(wrong, suspicion), abs=1e-12)


def test_the_ends_and_the_middle() -> None:
    wrong = torch.tensor([1, 1, 0, 0, 0])
    assert auroc(torch.tensor([5, 4, 3, 2, 1]), wrong) == average_precision(torch.tensor([5, 4, 3, 2, 1]), wrong) == 1
    assert auroc(torch.tensor([1, 2, 3, 4, 5]), wrong) == 0
    assert auroc(torch.ones(5), wrong) == 0.5
    assert average_precision(torch.ones(5), wrong) == pytest.approx(0.4)


def test_millions_of_pairs_stay_exact() -> None:
    # 2e6 wrong and right items, all equal but for one wrong item below: A = (1 - 1/n) / 2; float32 sums would be off
    count = 2_000_000
    suspicion, wrong = torch.ones(2 * count), torch.arange(2 * count) < count
    suspicion[0] = 0
    assert auroc(suspicion, wrong) == (1 - 1 / count) / 2


def test_without_wrong_or_right_items() -> None:
    suspicion = torch.tensor([1.0, 2.0])
    assert math.isnan(auroc(suspicion, torch.zeros(2)))
    assert math.isnan(auroc(suspicion, torch.ones(2)))
    assert math.isnan(average_precision(suspicion, torch.zeros(2)))
    assert average_precision(suspicion, torch.ones(2)) == 1


class TestReviewCurve:
    def test_is_the_mean_over_all_orders_of_equal_items(self) -> None:
        suspicion = torch.tensor([2, 5, 2, 2, 5, 1])
        errors, minutes = torch.tensor([7, 1, 0, 2, 0, 4]), torch.tensor([3.0, 1.0, 2.0, 8.0, 5.0, 4.0])
        orders = [
            order
            for order in itertools.permutations(range(6))
            if all(suspicion[a] >= suspicion[b] for a, b in itertools.pairwise(order))
        ]
        assert len(orders) == 12
        for row, values in enumerate((minutes, errors.double())):
            mean = torch.stack([values[list(order)].double().cumsum(0) for order in orders]).mean(0)
            torch.testing.assert_close(review_curve(suspicion, errors, minutes)[row, 1:], mean)

    def test_items_are_the_effort_if_none_is_given(self) -> None:
        curve = review_curve(torch.tensor([0.1, 0.9, 0.5]), torch.tensor([True, True, False]))
        assert curve.tolist() == [[0, 1, 2, 3], [0, 1, 1, 2]]

    def test_effort_to_find(self) -> None:
        curve = review_curve(torch.tensor([4, 3, 2, 1]), torch.tensor([0, 2, 1, 1]), torch.tensor([1, 10, 100, 1000]))
        expected = {0: 0, 0.1: 11, 0.5: 11, 0.51: 111, 0.75: 111, 1: 1111}
        assert {share: effort_to_find(curve, share) for share in expected} == expected

    def test_thirds_that_do_not_sum_to_1_are_enough(self) -> None:
        for count in range(2, 60):  # all errors lie among the equal items
            curve = review_curve(torch.tensor([1] * count + [0]), torch.tensor([1] + [0] * count))
            assert effort_to_find(curve, 1) == count

    def test_without_errors(self) -> None:
        assert effort_to_find(review_curve(torch.tensor([1, 2]), torch.zeros(2)), 0.8) == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one form \(N,\), got \(2,\) and \(3,\)"):
        auroc(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match=r"one form \(N,\), got \(2, 1\)"):
        average_precision(torch.ones(2, 1), torch.ones(2, 1))
    with pytest.raises(ValueError, match="A score is NaN"):
        auroc(torch.tensor([1, math.nan]), torch.ones(2))
    with pytest.raises(ValueError, match="errors must be 0 or more"):
        review_curve(torch.ones(2), torch.tensor([1, -1]))
    with pytest.raises(ValueError, match="effort must be 0 or more"):
        review_curve(torch.ones(2), torch.ones(2), torch.tensor([1, math.nan]))
    with pytest.raises(ValueError, match="share must be between 0 and 1, got 80"):
        effort_to_find(review_curve(torch.ones(2), torch.ones(2)), 80)
