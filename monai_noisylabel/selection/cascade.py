"""Cascaded label filtering: which label of a sample survives a sweep, and which samples are relabelled."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from .gmm import CleanSplit

__all__ = ["Verdict", "cascade"]


class Verdict(IntEnum):
    """What becomes of the pseudo-label of one sample."""

    KEEP_MANUAL = 0
    """The manual label is clean: the pseudo-label becomes a copy of it."""
    KEEP_PSEUDO = 1
    """The manual label is noisy, the pseudo-label of an earlier sweep is clean: it stays as it is."""
    RELABEL = 2
    """Neither is clean: label correction writes a new pseudo-label."""


def cascade(manual: CleanSplit, pseudo: CleanSplit | None) -> np.ndarray:
    """Combine the verdicts on manual labels and on pseudo-labels, as section 2.2 of the paper does.

    ============  ============  ===============
    manual label  pseudo-label  verdict
    ============  ============  ===============
    clean         any           ``KEEP_MANUAL``
    noisy         clean         ``KEEP_PSEUDO``
    noisy         noisy         ``RELABEL``
    ============  ============  ===============

    Robust to correcting too much: a label is rewritten only where two mixtures, fitted on different losses,
    both distrust what is there. Not to be used when the pseudo-labels are known to be stale: a split that
    calls all of them clean freezes them. Pass None, or NaN losses for the samples in question, to renew them.

    Args:
        manual: the split of the losses between predictions and manual labels.
        pseudo: the split of the losses between predictions and current pseudo-labels; None before the first
            pseudo-labels exist.

    Returns:
        One :class:`Verdict` value per sample, int64; ``np.bincount(verdicts, minlength=3)`` counts them.

    Shape:
        both splits over the same N samples in the same order; result (N,).

    Raises:
        ValueError: if the two splits do not have the same length.

    Example:
        >>> import numpy as np
        >>> from monai_noisylabel.selection import split_clean
        >>> manual = split_clean(np.array([0.1, 0.1, 0.9, 0.9]))
        >>> pseudo = split_clean(np.array([0.8, 0.2, 0.2, 0.8]))
        >>> [Verdict(v).name for v in cascade(manual, pseudo)]
        ['KEEP_MANUAL', 'KEEP_MANUAL', 'KEEP_PSEUDO', 'RELABEL']

    References:
        Dong et al., "Deep Self-Cleansing for Medical Image Segmentation with Noisy Labels", 2024.

    Deviation:
        The paper starts from all-zero pseudo-labels and splits their losses like any others. In the first
        sweep those losses are all (nearly) one, so some empty pseudo-labels would pass as clean;
        ``pseudo=None`` says there are none to keep.
    """
    if pseudo is None:
        return np.where(manual.clean, Verdict.KEEP_MANUAL, Verdict.RELABEL).astype(np.int64)
    if manual.clean.shape != pseudo.clean.shape:
        raise ValueError(
            f"manual and pseudo must judge the same samples in the same order, got {manual.clean.size} and "
            f"{pseudo.clean.size} verdicts; give a sample without a pseudo-label the loss NaN."
        )
    otherwise = np.where(pseudo.clean, Verdict.KEEP_PSEUDO, Verdict.RELABEL)
    return np.where(manual.clean, Verdict.KEEP_MANUAL, otherwise).astype(np.int64)
