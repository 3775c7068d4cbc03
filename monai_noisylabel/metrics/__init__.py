"""Measures of agreement between labels, predictions and the truth, and of how well errors are found."""

from monai_noisylabel.metrics.noise_detection import detection_counts, precision_recall
from monai_noisylabel.metrics.overlap import dice, mean_dice, overlap
from monai_noisylabel.metrics.ranking import auroc, average_precision, effort_to_find, review_curve

__all__ = [
    "auroc",
    "average_precision",
    "detection_counts",
    "dice",
    "effort_to_find",
    "mean_dice",
    "overlap",
    "precision_recall",
    "review_curve",
]
