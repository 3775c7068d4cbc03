"""Estimation: what can be known about the noise of a data set's labels."""

from __future__ import annotations

from .blocks import voxel_blocks
from .confident_joint import (
    calibrated_counts,
    calibrated_joint,
    class_statistics,
    class_thresholds,
    confident_class,
    confident_counts,
)
from .keep_rate import confusion_counts, estimated_keep_rates, keep_rates, oracle_keep_rates
from .label_quality import softmin_quality

__all__ = [
    "calibrated_counts",
    "calibrated_joint",
    "class_statistics",
    "class_thresholds",
    "confident_class",
    "confident_counts",
    "confusion_counts",
    "estimated_keep_rates",
    "keep_rates",
    "oracle_keep_rates",
    "softmin_quality",
    "voxel_blocks",
]
