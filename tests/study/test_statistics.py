"""Statistics against slow references and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monai_noisylabel.study.statistics import bootstrap_interval, gap_closed, holm, mean_dice, mean_ranks, paired_p


def test_the_mean_is_over_cases_and_then_over_classes() -> None:
    dice = np.array([[0.2, 0.4, np.nan], [0.6, np.nan, np.nan]])  # means of the classes 0.4, 0.4, none
    assert mean_dice(dice) == pytest.approx(0.4)
    assert mean_dice(dice, np.array([[3.0, 1.0], [0.0, 1.0]])) == pytest.approx([(0.3 + 0.4) / 2, 0.6])
    assert np.isnan(mean_dice(np.full((2, 1), np.nan)))


def test_the_bootstrap_draws_patients() -> None:
    """Against drawing patients with both of their cases one at a time; cases by themselves have a narrower interval."""
    generator = np.random.default_rng(0)
    dice = np.repeat(generator.random(12), 2)[:, None] + 0.01 * generator.random((24, 2))
    patients = [f"p{case // 2}" for case in range(24)]
    means = []
    for _ in range(4000):
        drawn = generator.integers(0, 12, 12)
        means.append(np.concatenate([dice[2 * p : 2 * p + 2] for p in drawn]).mean(0).mean())
    expected = np.quantile(means, [0.025, 0.975])
    found = bootstrap_interval(dice, patients, resamples=4000)
    assert found == pytest.approx(expected, abs=0.01)
    alone = bootstrap_interval(dice, [f"c{case}" for case in range(24)], resamples=4000)
    assert alone[1] - alone[0] < 0.8 * (found[1] - found[0])
    assert bootstrap_interval(dice, patients, resamples=4000) == found


def test_confidence_and_one_case() -> None:
    dice = np.linspace(0, 1, 30)[:, None]
    patients = [str(case) for case in range(30)]
    wide, narrow = (bootstrap_interval(dice, patients, confidence=c) for c in (0.99, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert bootstrap_interval(dice[:1], ["p"]) == (0.0, 0.0)


@pytest.mark.filterwarnings("error")
def test_the_paired_test() -> None:
    base = np.linspace(0, 1, 6)
    assert paired_p(base + np.arange(1, 7), base) == pytest.approx(2 / 2**6)  # all of one sign
    assert paired_p(base, base) == 1.0
    assert paired_p(np.append(base + np.arange(1, 7), np.nan), np.append(base, 0.0)) == pytest.approx(2 / 2**6)


def test_holm_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, the last raised to 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_ranks_and_gaps_that_are_not_defined() -> None:
    assert mean_ranks(np.array([[0.1, 0.2], [0.9, np.nan]])) == [2.0, 1.0]
    assert all(map(math.isnan, mean_ranks(np.array([[np.nan, 0.5]]))))
    assert gap_closed(0.95, noisy=0.8, clean=0.9) == pytest.approx(1.5)
    assert math.isnan(gap_closed(0.95, noisy=0.9, clean=0.9))
