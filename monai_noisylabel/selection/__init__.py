"""Selection: from losses to the decision which labels, or which parts of them, are trusted."""

from __future__ import annotations

from .cascade import Verdict, cascade
from .gmm import CleanSplit, split_clean
from .superpixel import class_losses, loss_gap, mean_keep_rate, select_units, superpixel_units, unit_index
from .superpixel_map import SuperpixelMap, label_counts, spread, superpixel_map, superpixel_means

__all__ = [
    "CleanSplit",
    "SuperpixelMap",
    "Verdict",
    "cascade",
    "class_losses",
    "label_counts",
    "loss_gap",
    "mean_keep_rate",
    "select_units",
    "split_clean",
    "spread",
    "superpixel_map",
    "superpixel_means",
    "superpixel_units",
    "unit_index",
]
