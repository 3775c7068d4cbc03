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
from .keep_rate import confusion_counts, estimated_keep_rates, keep_rates, oracle_keep_rates, with_class_shares
from .label_quality import softmin_quality
from .transition import class_priors, class_to_affinity, log_volume, transition_matrix

__all__ = [
    "calibrated_counts",
    "calibrated_joint",
    "class_priors",
    "class_statistics",
    "class_thresholds",
    "class_to_affinity",
    "confident_class",
    "confident_counts",
    "confusion_counts",
    "estimated_keep_rates",
    "keep_rates",
    "log_volume",
    "oracle_keep_rates",
    "softmin_quality",
    "transition_matrix",
    "voxel_blocks",
    "with_class_shares",
]
