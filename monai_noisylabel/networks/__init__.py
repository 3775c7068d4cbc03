"""Networks and wrappers around networks: ordinary ``torch.nn.Module`` objects that return logits."""

from __future__ import annotations

from monai_noisylabel.networks.affinity import AffinityNetwork, affinity_reasoning, unit_features
from monai_noisylabel.networks.averaged import averaged_network
from monai_noisylabel.networks.collaborative import (
    BranchOutputs,
    CollaborativeNetwork,
    bottleneck_layer,
    collaborative_network,
)
from monai_noisylabel.networks.features import FeatureTap, candidate_layers
from monai_noisylabel.networks.fold_networks import FoldNetworks
from monai_noisylabel.networks.peers import AllPeers, PeerNetworks
from monai_noisylabel.networks.quality import JudgedOutput, QualityAwareNetwork, QualityNetwork
from monai_noisylabel.networks.running import ImageInferer, memory_format
from monai_noisylabel.networks.self_cleansing import SelfCleansingNet

__all__ = [
    "AffinityNetwork",
    "AllPeers",
    "BranchOutputs",
    "CollaborativeNetwork",
    "FeatureTap",
    "FoldNetworks",
    "ImageInferer",
    "JudgedOutput",
    "PeerNetworks",
    "QualityAwareNetwork",
    "QualityNetwork",
    "SelfCleansingNet",
    "affinity_reasoning",
    "averaged_network",
    "bottleneck_layer",
    "candidate_layers",
    "collaborative_network",
    "memory_format",
    "unit_features",
]
