"""Measures of agreement between labels, predictions and the truth."""

from monai_noisylabel.metrics.overlap import dice, mean_dice, overlap

__all__ = ["dice", "mean_dice", "overlap"]
