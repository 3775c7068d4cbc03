"""Selection: from the losses of samples or voxels to the decision which labels are trusted."""

from __future__ import annotations

from .cascade import Verdict, cascade
from .gmm import CleanSplit, split_clean
from .small_loss import Scope, as_keep_rates, class_balanced_mean, forget_rates, small_loss_weight

__all__ = [
    "CleanSplit",
    "Scope",
    "Verdict",
    "as_keep_rates",
    "cascade",
    "class_balanced_mean",
    "forget_rates",
    "small_loss_weight",
    "split_clean",
]
