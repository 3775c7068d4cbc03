"""Losses for learning from noisy labels, one paper per file."""

from monai_noisylabel.losses.self_cleansing import SelfCleansingLoss, pseudo_label_weight

__all__ = ["SelfCleansingLoss", "pseudo_label_weight"]
