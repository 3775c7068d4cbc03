"""The logits of several networks that learn side by side, as a loss gets them."""

from __future__ import annotations

from torch import Tensor

__all__ = ["peer_logits"]


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
