"""What a table may conclude from a test set and a few seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata, wilcoxon

__all__ = ["bootstrap_interval", "gap_closed", "holm", "mean_dice", "mean_ranks", "paired_p"]


def mean_dice(dice: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean Dice over cases and then over classes, as in the reports of a training; what is undefined does not count.

    Args:
        dice: Dice per case and class, NaN where undefined.
        weights: how often each case counts, once by default; several weightings at a time.

    Shape:
        dice (N, K), weights (\\*, N), result (\\*).

    Example:
        >>> float(mean_dice(np.array([[1.0, 0.0], [0.5, np.nan]])))
        0.375
    """
    known = ~np.isnan(dice)
    weights = np.ones(len(dice)) if weights is None else weights
    with np.errstate(invalid="ignore"):
        classes = (weights @ np.where(known, dice, 0.0)) / (weights @ known)
    counted = ~np.isnan(classes)
    with np.errstate(invalid="ignore"):
        return np.where(counted, classes, 0.0).sum(-1) / counted.sum(-1)


def bootstrap_interval(
    dice: np.ndarray, patients: Sequence[str], resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean Dice over test cases, drawn with replacement, all of a patient together.

    It says how much the result depends on which patients the test set holds, not how much it depends on the seed.

    Args:
        dice: Dice per case and class (N, K), NaN where undefined.
        patients: whom each case shows.
        resamples: number of samples.
        confidence: probability that the interval stands for.
        seed: of the draws.

    Example:
        >>> dice = np.linspace(0.5, 1, 20)[:, None]
        >>> low, high = bootstrap_interval(dice, [f"p{n}" for n in range(20)])
        >>> print(f"{low:.3f} {high:.3f}")
        0.685 0.816
    """
    names, member_of = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    means = mean_dice(dice, drawn[:, member_of].astype(float))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail])
    return float(low), float(high)


def paired_p(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Two-sided Wilcoxon signed-rank test of two methods on the same patients; 1 where none differs.

    Example:
        >>> print(f"{paired_p(np.array([0.9, 0.8, 0.7, 0.9, 0.8]), np.array([0.8, 0.6, 0.4, 0.5, 0.3])):.4f}")
        0.0625
    """
    differences = (ours - theirs)[~np.isnan(ours - theirs)]
    if not np.any(differences):
        return 1.0
    return float(wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family of tests after Holm's step-down correction.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    References:
        S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    stepped = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(p_values, dtype=float)[order]))
    corrected = np.empty(len(p_values))
    corrected[order] = stepped
    return [float(value) for value in corrected]


def mean_ranks(scores: np.ndarray) -> list[float]:
    """Mean rank of every method over patients: 1 is the best; equal scores share their ranks.

    Args:
        scores: one row per patient, one column per method; a row with NaN does not count.

    Example:
        >>> mean_ranks(np.array([[0.9, 0.8, 0.7], [0.6, 0.8, 0.8]]))
        [2.0, 1.75, 2.25]
    """
    rows = scores[~np.isnan(scores).any(1)]
    if not len(rows):
        return [float("nan")] * scores.shape[1]
    return [float(rank) for rank in rankdata(-rows, axis=1).mean(0)]


def gap_closed(method: float, noisy: float, clean: float) -> float:
    """Share (method - noisy) / (clean - noisy) of what noise costs that a method wins back; NaN where it costs nothing.

    Example:
        >>> print(f"{gap_closed(0.9, noisy=0.8, clean=1.0):.2f} {gap_closed(0.9, noisy=0.9, clean=0.8)}")
        0.50 nan
    """
    return (method - noisy) / (clean - noisy) if clean > noisy else float("nan")
