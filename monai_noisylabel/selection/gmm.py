"""Clean or noisy by a Gaussian mixture on per-sample losses: the small-loss criterion, threshold fitted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

__all__ = ["CleanSplit", "split_clean"]

# Variance floor of a component on losses scaled to [0, 1]: a standard deviation of 0.01, so that a few
# identical losses cannot hold a component of their own.
_VARIANCE_FLOOR = 1e-4
_INITIALISATIONS = 5
_ITERATIONS = 500
_COUNT_WORDS = {1: "one component", 2: "two components", 3: "three components"}


@dataclass(frozen=True, eq=False)
class CleanSplit:
    """Which labels of a training set are trusted, and why.

    Attributes:
        clean: bool (N,), True where the label is trusted.
        posterior: float64 (N,), probability of the clean component(s) in [0, 1]; NaN where the loss was NaN.
        means: component means in the unit of the losses, ascending; empty where no mixture was fitted.
        reason: how the decision came about, for logs and audit trails.
    """

    clean: np.ndarray
    posterior: np.ndarray
    means: tuple[float, ...]
    reason: str


def split_clean(
    losses: np.ndarray,
    *,
    components: int | Literal["auto"] = 2,
    seed: int = 0,
    min_gap: float = 0.0,
) -> CleanSplit:
    r"""Split samples into clean and noisy by a Gaussian mixture fitted to their losses.

    The losses are scaled to [0, 1] and a mixture is fitted by expectation maximisation. With
    :math:`g_{small}` the component of the smallest mean (eq. 2 and 3),

    .. math:: w_{clean}^{(i)} = p(g_{small} \mid l_i), \qquad w_{noisy}^{(i)} = p(g_{large} \mid l_i)

    and a label is clean where :math:`w_{clean}` is the larger of the two.

    Robust to sample-dependent noise of any kind that makes the loss larger, as long as the network has not
    memorised the labels yet: use it after a short warm-up. Not to be used on voxel losses (correlated,
    millions of them), and with care on a training set whose labels are all alike: a mixture of two always
    cuts something, be all labels clean or all noisy, because the criterion is relative. ``min_gap`` says from
    which distance on a second population is believed. A spike of identical losses (empty slices, predicted
    empty) attracts a component of its own: leave such samples out.

    Args:
        losses: one loss per sample, in any unit, smaller is better; the paper takes 1 - Dice in [0, 1]. NaN
            says that there is no verdict: such a sample is never clean and takes no part in the fit.
        components: number of Gaussians, at least 2 (paper: 2), or ``"auto"`` for 2 or 3 by the Bayesian
            information criterion. Three suit a set where some labels are missing altogether, beside which
            small boundary errors look clean to a mixture of two. Clean is the component of the smallest mean
            in every case.
        seed: seed of the initialisation.
        min_gap: components whose mean lies less than this above the smallest mean count as clean too, in the
            unit of the losses; with two components that is to keep every label. 0 (paper) trusts the mixture.

    Returns:
        The split. Degenerate input never raises: all losses equal (to 1e-6 of their size) or a single one,
        all clean; no finite loss, none clean; fewer distinct losses than components, as many components as
        there are distinct losses. ``reason`` tells which of these happened.

    Shape:
        losses (N,); clean and posterior (N,).

    Raises:
        ValueError: if ``losses`` is not one-dimensional, is empty or holds infinity; if ``components`` is
            neither "auto" nor at least 2; if ``min_gap`` is negative.

    Example:
        >>> import numpy as np
        >>> split = split_clean(np.array([0.10, 0.12, 0.14, 0.80, 0.84, float("nan")]))
        >>> split.clean.tolist()
        [True, True, True, False, False, False]
        >>> [round(mean, 3) for mean in split.means]
        [0.12, 0.82]
        >>> split.reason
        'two components; 1 sample without a loss counted as noisy'

    References:
        Dong et al., "Deep Self-Cleansing for Medical Image Segmentation with Noisy Labels",
        2024, section 2.2.
        Arazo et al., "Unsupervised Label Noise Modeling and Loss Correction", 2019.

    Deviation:
        A wide component can claim the far tail beyond the mean of a narrow one, so that the smallest loss of
        all is called noisy or the largest clean. Posteriors are therefore read at the loss clipped to the
        interval between the two means, where the posterior provably falls as the loss grows, and a loss up to
        the smallest mean is always clean: the decision is a single threshold. ``"auto"`` and ``min_gap`` are
        not in the paper.
    """
    losses = _checked(losses, components, min_gap)
    known = np.isfinite(losses)
    decided = _split_known(losses[known], components, seed, min_gap)
    missing = int(losses.size - known.sum())
    if not missing:
        return decided
    clean = np.zeros(losses.shape, dtype=bool)
    posterior = np.full(losses.shape, np.nan)
    clean[known], posterior[known] = decided.clean, decided.posterior
    note = f"{missing} sample{'s' * (missing > 1)} without a loss counted as noisy"
    return CleanSplit(clean, posterior, decided.means, f"{decided.reason}; {note}")


def _checked(losses: np.ndarray, components: int | str, min_gap: float) -> np.ndarray:
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"losses must hold one value per sample, shape (N,), got shape {values.shape}.")
    if values.size == 0:
        raise ValueError("losses is empty: there is no sample to judge.")
    if np.isinf(values).any():
        where = int(np.flatnonzero(np.isinf(values))[0])
        raise ValueError(f"losses[{where}] is infinite; give NaN for a sample whose loss is not known.")
    if components != "auto" and (not isinstance(components, int) or components < 2):
        raise ValueError(f"components must be 'auto' or an integer of at least 2, got {components!r}.")
    if not min_gap >= 0:
        raise ValueError(f"min_gap must not be negative, got {min_gap}.")
    return values


def _split_known(losses: np.ndarray, components: int | Literal["auto"], seed: int, min_gap: float) -> CleanSplit:
    if losses.size == 0:
        return CleanSplit(np.zeros(0, dtype=bool), np.zeros(0), (), "no loss known: no label kept as clean")
    low, span = float(losses.min()), float(np.ptp(losses))
    if losses.size == 1 or span <= 1e-6 * np.abs(losses).max():
        reason = "one sample: kept as clean" if losses.size == 1 else "all losses equal: all kept as clean"
        return CleanSplit(np.ones(losses.shape, dtype=bool), np.ones(losses.shape), (), reason)
    scaled = (losses - low) / span
    mixture, reason = _fit(scaled, components, seed)
    means = np.sort(mixture.means_[:, 0])
    clean, posterior = _decide(mixture, scaled, min_gap / span)
    if clean.all() and min_gap > 0:
        reason += f"; means closer than {min_gap:g}: all kept as clean"
    return CleanSplit(clean, posterior, tuple(float(low + span * mean) for mean in means), reason)


def _fit(scaled: np.ndarray, components: int | Literal["auto"], seed: int) -> tuple[GaussianMixture, str]:
    """Fit the mixture asked for, or the largest that the number of distinct losses allows."""
    distinct = np.unique(scaled).size
    wanted = (2, 3) if components == "auto" else (components,)
    counts = sorted({min(count, distinct) for count in wanted})
    column = scaled[:, None]
    fitted = []
    for count in counts:
        mixture = GaussianMixture(
            count,
            tol=1e-4,
            reg_covar=_VARIANCE_FLOOR,
            max_iter=_ITERATIONS,
            n_init=_INITIALISATIONS,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted.append(mixture.fit(column))
    best = min(fitted, key=lambda mixture: float(mixture.bic(column))) if len(fitted) > 1 else fitted[0]
    reason = _COUNT_WORDS.get(best.n_components, f"{best.n_components} components")
    if distinct < max(wanted):
        reason += f" (only {distinct} distinct losses)"
    elif components == "auto":
        reason += " (chosen by BIC)"
    if not best.converged_:
        reason += "; the fit did not converge"
    return best, reason


def _decide(mixture: GaussianMixture, scaled: np.ndarray, min_gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Clean decision and posterior, read between the largest mean that counts as clean and the next one."""
    means = mixture.means_[:, 0]
    is_clean = means < means.min() + min_gap
    is_clean[means.argmin()] = True
    if is_clean.all():
        return np.ones(scaled.shape, dtype=bool), np.ones(scaled.shape)
    lower, upper = means[is_clean].max(), means[~is_clean].min()
    posteriors = mixture.predict_proba(np.clip(scaled, lower, upper)[:, None])
    clean = posteriors[:, is_clean].max(1) > posteriors[:, ~is_clean].max(1)
    return clean | (scaled <= lower), posteriors[:, is_clean].sum(1)
