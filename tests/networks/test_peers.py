"""Networks side by side: as if they were trained apart, and the first one alone when it counts."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from monai_noisylabel.losses import peer_logits
from monai_noisylabel.networks import AllPeers, PeerNetworks, SelfCleansingNet


def networks(spatial_dims: int, count: int = 2) -> list[nn.Module]:
    torch.manual_seed(0)
    return [SelfCleansingNet(spatial_dims, 1, 3, channels=(4, 4, 8, 8), norm="instance") for _ in range(count)]


def exchanged(outputs: Sequence[Tensor]) -> Tensor:
    """A loss in which every network's voxels are chosen by the other one's."""
    first, second = outputs
    return (first * (second.detach() > 0)).pow(2).mean() + (second * (first.detach() < 0)).pow(2).mean()


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("count", [2, 3])
def test_all_in_training_and_the_first_in_evaluation(spatial_dims: int, count: int) -> None:
    parts = networks(spatial_dims, count)
    peers, image = PeerNetworks(parts), torch.rand(2, 1, *(16,) * spatial_dims)
    outputs = peer_logits(peers(image), count)
    assert len(outputs) == count
    for output, network in zip(outputs, parts, strict=True):
        assert torch.equal(output, network(image))
    assert not torch.equal(outputs[0], outputs[1])
    assert torch.equal(peers.eval()(image), parts[0](image))


def test_a_sweep_hears_all_of_them_in_evaluation_mode() -> None:
    parts = networks(2)
    peers, image = PeerNetworks(parts), torch.rand(2, 1, 16, 16)
    everyone = AllPeers(peers).eval()
    assert not any(network.training for network in parts)
    for output, network in zip(peer_logits(everyone(image), 2), parts, strict=True):
        assert torch.equal(output, network(image))
    everyone.train()
    assert all(network.training for network in parts)
    assert peers.training


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_one_optimizer_equals_one_per_network(optimizer: type[torch.optim.Optimizer]) -> None:
    together = networks(2)
    apart = copy.deepcopy(together)
    peers = PeerNetworks(together)
    one = optimizer(peers.parameters(), lr=0.01)  # type: ignore[call-arg]
    several = [optimizer(network.parameters(), lr=0.01) for network in apart]  # type: ignore[call-arg]
    for step in range(4):
        image = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(step))
        one.zero_grad()
        exchanged(peer_logits(peers(image), 2)).backward()
        one.step()
        for each in several:
            each.zero_grad()
        exchanged([network(image) for network in apart]).backward()
        for each in several:
            each.step()
    difference = max(
        float((ours - theirs).abs().max())
        for left, right in zip(together, apart, strict=True)
        for ours, theirs in zip(left.parameters(), right.parameters(), strict=True)
    )
    assert difference == 0.0


def test_a_saved_first_network_is_a_plain_state_dict() -> None:
    parts = networks(2)
    peers = PeerNetworks(parts)
    names = {name.removeprefix("networks.0.") for name in peers.state_dict() if name.startswith("networks.0.")}
    assert names == set(parts[0].state_dict())


def test_what_are_no_peers_is_refused() -> None:
    network = nn.Conv2d(1, 2, 1)
    with pytest.raises(ValueError, match="two or more different networks, got 1"):
        PeerNetworks([network, network])
    with pytest.raises(ValueError, match="two or more different networks, got 0"):
        PeerNetworks([])
    with pytest.raises(ValueError, match=r"logits of 2 networks .* its 3 channels"):
        peer_logits(torch.zeros(1, 3, 4, 4), 2)
