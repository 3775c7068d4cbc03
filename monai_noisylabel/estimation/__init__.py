"""Estimation: what can be known about the noise of a data set's labels."""

from __future__ import annotations

from .confident_joint import (
    calibrated_counts,
    calibrated_joint,
    class_statistics,
    class_thresholds,
    confident_class,
    confident_counts,
)
from .keep_rate import confusion_counts, estimated_keep_rates, keep_rates, oracle_keep_rates
from .voxel_blocks import voxel_blocks

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
    "voxel_blocks",
]
