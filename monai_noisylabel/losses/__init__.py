"""Losses for learning from noisy labels, one paper per file."""

from monai_noisylabel.losses.active_passive import (
    ActivePassiveLoss,
    NCEandMAELoss,
    NCEandRCELoss,
    NGCEandMAELoss,
    NGCEandRCELoss,
)
from monai_noisylabel.losses.affinity import affinity_loss, sampled_rows
from monai_noisylabel.losses.clcs import CLCSLoss, discrepancy_loss, noise_balance_loss
from monai_noisylabel.losses.co_teaching import CoTeachingLoss
from monai_noisylabel.losses.corrected import BackwardCorrectedLoss, ForwardCorrectedLoss
from monai_noisylabel.losses.cross_entropy import CrossEntropyLoss
from monai_noisylabel.losses.generalized_cross_entropy import GeneralizedCrossEntropyLoss
from monai_noisylabel.losses.jcas import JCASLoss, corrected_cross_entropy
from monai_noisylabel.losses.jocor import JoCoRLoss, jocor_loss, symmetric_kl
from monai_noisylabel.losses.mean_absolute_error import MeanAbsoluteErrorLoss
from monai_noisylabel.losses.named import NAMED_LOSSES, named_loss
from monai_noisylabel.losses.noise_matrices import NoiseMatrices
from monai_noisylabel.losses.noise_robust_dice import NoiseRobustDiceLoss
from monai_noisylabel.losses.normalized import NormalizedCrossEntropyLoss, NormalizedGeneralizedCrossEntropyLoss
from monai_noisylabel.losses.peer_logits import peer_logits
from monai_noisylabel.losses.pick_and_learn import PickAndLearnLoss, require_joint_batch
from monai_noisylabel.losses.reverse_cross_entropy import ReverseCrossEntropyLoss
from monai_noisylabel.losses.self_cleansing import SelfCleansingLoss, pseudo_label_weight
from monai_noisylabel.losses.spatial_label_smoothing import SpatialLabelSmoothingLoss, smoothed_label
from monai_noisylabel.losses.superpixel import SuperpixelLoss
from monai_noisylabel.losses.symmetric_cross_entropy import SymmetricCrossEntropyLoss
from monai_noisylabel.losses.t_loss import TLoss
from monai_noisylabel.losses.tri_network import TriNetworkLoss
from monai_noisylabel.losses.weighted import WeightedLoss

__all__ = [
    "NAMED_LOSSES",
    "ActivePassiveLoss",
    "BackwardCorrectedLoss",
    "CLCSLoss",
    "CoTeachingLoss",
    "CrossEntropyLoss",
    "ForwardCorrectedLoss",
    "GeneralizedCrossEntropyLoss",
    "JCASLoss",
    "JoCoRLoss",
    "MeanAbsoluteErrorLoss",
    "NCEandMAELoss",
    "NCEandRCELoss",
    "NGCEandMAELoss",
    "NGCEandRCELoss",
    "NoiseMatrices",
    "NoiseRobustDiceLoss",
    "NormalizedCrossEntropyLoss",
    "NormalizedGeneralizedCrossEntropyLoss",
    "PickAndLearnLoss",
    "ReverseCrossEntropyLoss",
    "SelfCleansingLoss",
    "SpatialLabelSmoothingLoss",
    "SuperpixelLoss",
    "SymmetricCrossEntropyLoss",
    "TLoss",
    "TriNetworkLoss",
    "WeightedLoss",
    "affinity_loss",
    "corrected_cross_entropy",
    "discrepancy_loss",
    "jocor_loss",
    "named_loss",
    "noise_balance_loss",
    "peer_logits",
    "pseudo_label_weight",
    "require_joint_batch",
    "sampled_rows",
    "smoothed_label",
    "symmetric_kl",
]
