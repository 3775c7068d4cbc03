"""Selection: from losses to the decision which labels, or which parts of them, are trusted."""

from __future__ import annotations

from .cascade import Verdict, cascade
from .confident import ConfidentLimits, PruningRule, confident_limits, label_errors
from .curriculum import Status, agreement_vote, class_status, curriculum_thresholds, prediction_counts
from .gmm import CleanSplit, split_clean
from .small_loss import Scope, as_keep_rates, class_balanced_mean, forget_rates, small_loss_weight
from .superpixel import class_losses, loss_gap, mean_keep_rate, select_units, superpixel_units, unit_index
from .superpixel_map import SuperpixelMap, label_counts, spread, superpixel_map, superpixel_means

__all__ = [
    "CleanSplit",
    "ConfidentLimits",
    "PruningRule",
    "Scope",
    "Status",
    "SuperpixelMap",
    "Verdict",
    "agreement_vote",
    "as_keep_rates",
    "cascade",
    "class_balanced_mean",
    "class_losses",
    "class_status",
    "confident_limits",
    "curriculum_thresholds",
    "forget_rates",
    "label_counts",
    "label_errors",
    "loss_gap",
    "mean_keep_rate",
    "prediction_counts",
    "select_units",
    "small_loss_weight",
    "split_clean",
    "spread",
    "superpixel_map",
    "superpixel_means",
    "superpixel_units",
    "unit_index",
]
