"""Several networks of one architecture that learn side by side, behind one module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["AllPeers", "PeerNetworks"]


class PeerNetworks(nn.Module):
    r"""Networks that are trained together and judge each other's samples.

    In training mode all of them see the batch, and their logits come one after the other along the channels, for a
    loss that takes them apart again (:func:`~monai_noisylabel.losses.peer_logits`). In evaluation mode it is the
    first network alone: that one is validated, saved and used for inference, so that a saved model is an ordinary
    state dict of one network.

    One optimizer over all parameters is the same as one per network: no parameter is shared, and what the losses of
    the peers have in common is known to the gradient.

    Not worth its cost where a single network does as well: time and memory of training grow with the number of peers.

    Args:
        networks: at least two networks of one architecture, each with its own initialisation.

    Shape:
        image (B, Cin, \*S); result (B, N C, \*S) for N networks of C channels in training mode, else (B, C, \*S).

    Raises:
        ValueError: for fewer than two networks, or if one is in the list twice.

    Example:
        >>> peers = PeerNetworks([nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)])
        >>> peers(torch.zeros(2, 1, 4, 4)).shape, peers.eval()(torch.zeros(2, 1, 4, 4)).shape
        (torch.Size([2, 6, 4, 4]), torch.Size([2, 3, 4, 4]))

    References:
        B. Han et al., Co-teaching: robust training of deep neural networks with extremely noisy labels, NeurIPS 2018.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(networks) < 2 or len(set(map(id, networks))) < len(networks):
            raise ValueError(f"Peers are two or more different networks, got {len(set(map(id, networks)))}.")
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of all networks in training mode, of the first one otherwise."""
        if not self.training:
            first: Tensor = self.networks[0](image)
            return first
        return self.all_logits(image)

    def all_logits(self, image: Tensor) -> Tensor:
        """Logits of all networks, in either mode."""
        return torch.cat([network(image) for network in self.networks], dim=1)


class AllPeers(nn.Module):
    r"""Peers that all answer in evaluation mode too, for a sweep that needs what each of them predicts.

    Args:
        peers: the networks; they are shared, not copied.

    Shape:
        image (B, Cin, \*S); result (B, N C, \*S).

    Example:
        >>> peers = PeerNetworks([nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)])
        >>> AllPeers(peers).eval()(torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 6, 4, 4])
    """

    def __init__(self, peers: PeerNetworks) -> None:
        super().__init__()
        self.peers = peers

    def forward(self, image: Tensor) -> Tensor:
        """Logits of all networks."""
        return self.peers.all_logits(image)
