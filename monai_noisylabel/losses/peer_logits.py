"""The logits of several networks that learn side by side, as a loss gets them."""

from __future__ import annotations

import torch
from torch import Tensor

from .voxel_target import TargetFlags

__all__ = ["peer_logits", "read_peers"]


def peer_logits(logits: Tensor, peers: int) -> tuple[Tensor, ...]:
    r"""The logits of each peer.

    Args:
        logits: what :class:`~monai_noisylabel.networks.PeerNetworks` gives in training mode.
        peers: number of networks.

    Shape:
        logits (B, N C, \*S); result N times (B, C, \*S).

    Raises:
        ValueError: if the channels cannot be shared out evenly.

    Example:
        >>> import torch
        >>> [part.shape[1] for part in peer_logits(torch.zeros(2, 6, 4, 4), peers=2)]
        [3, 3]
    """
    if logits.shape[1] % peers:
        raise ValueError(
            f"The input must hold the logits of {peers} networks one after the other along the channels (PeerNetworks "
            f"in training mode gives them so); its {logits.shape[1]} channels cannot be shared out evenly."
        )
    return logits.chunk(peers, dim=1)


def read_peers(
    flags: TargetFlags, input: Tensor, target: Tensor, weight: Tensor | None, peers: int, num_classes: int
) -> tuple[list[Tensor], Tensor, Tensor | None]:
    r"""Logits of every network, labels and weight, as K problems of exclusive classes over V voxels.

    Args:
        flags: how to read them.
        input: logits of all networks.
        target: class indices, or one channel per structure.
        weight: per voxel or per sample, or None.
        peers: number N of networks.
        num_classes: output channels C of one network.

    Shape:
        input (B, N C, \*S); target (B, 1, \*S) or (B, C, \*S); weight (B, 1, \*S) or (B,).

    Returns:
        Logits (B, C', K, V) of every network, with C' = C and K = 1 for multi-class, C' = 2 and a problem per structure
        for multi-label, the logit of label 0 being 0; the label (B, K, V), int64; the weight (B, 1, V), (B, 1, 1) or
        None. Without the background, voxels of class 0 have the weight 0, and structure 0 is left out.

    Raises:
        ValueError: if the channels are not those of N networks, or forms do not go together.
    """
    parts = peer_logits(input, peers)
    if parts[0].shape[1] != num_classes:
        raise ValueError(
            f"The input must hold {peers} networks of {num_classes} channels each, got {input.shape[1]} channels: "
            "it is what PeerNetworks and CollaborativeNetwork give in training mode."
        )
    if not flags.sigmoid and target.shape[1] != 1:
        raise ValueError(f"The target must be class indices, in one channel; got {target.shape[1]} channels.")
    read = [flags.read(part, target, weight) for part in parts]
    logits, (_, label, weight) = [part for part, _, _ in read], read[0]
    if flags.sigmoid:
        return [torch.stack([torch.zeros_like(part), part], 1) for part in logits], (label > 0).long(), weight
    if flags.skipped_classes:
        foreground = (label != 0).float()
        weight = foreground if weight is None else weight * foreground
    return [part[:, :, None] for part in logits], label, weight
