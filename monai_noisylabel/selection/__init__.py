"""Selection: from losses to the decision which labels, or which parts of them, are trusted."""

from __future__ import annotations

from .cascade import Verdict, cascade
from .confident import ConfidentLimits, PruningRule, confident_limits, label_errors
from .gmm import CleanSplit, split_clean
from .small_loss import Scope, as_keep_rates, class_balanced_mean, forget_rates, small_loss_weight
from .superpixel import class_losses, loss_gap, mean_keep_rate, select_units, superpixel_units, unit_index
from .superpixel_map import SuperpixelMap, label_counts, spread, superpixel_map, superpixel_means

__all__ = [
    "CleanSplit",
    "ConfidentLimits",
    "PruningRule",
    "Scope",
    "SuperpixelMap",
    "Verdict",
    "as_keep_rates",
    "cascade",
    "class_balanced_mean",
    "class_losses",
    "confident_limits",
    "forget_rates",
    "label_counts",
    "label_errors",
    "loss_gap",
    "mean_keep_rate",
    "select_units",
    "small_loss_weight",
    "split_clean",
    "spread",
    "superpixel_map",
    "superpixel_means",
    "superpixel_units",
    "unit_index",
]
