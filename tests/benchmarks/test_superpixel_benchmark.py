"""Means over superpixels by one scatter-add against the one-hot form, and the loss against a step of two networks.

Times are processor times of one thread, the least of several runs that alternate with the other side's. Memory is the
peak of what the allocator handed out, beyond the inputs.
"""

from __future__ import annotations

import math

import pytest
import torch
from measuring import peak_bytes, seconds
from reference.superpixel_loops import one_hot_means
from torch import Tensor

from monai_noisylabel.losses import SuperpixelLoss
from monai_noisylabel.networks import PeerNetworks, SelfCleansingNet
from monai_noisylabel.selection import superpixel_map, superpixel_means
from monai_noisylabel.transforms import Superpixels

pytestmark = [pytest.mark.benchmark, pytest.mark.usefixtures("one_thread")]


@pytest.mark.parametrize(("space", "count"), [((256, 256), 800), ((96, 96, 96), 2000)], ids=str)
def test_means_against_the_one_hot_form(space: tuple[int, ...], count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one image, two classes; the one-hot array of the volume has 1.8e9 entries, so a twelfth is measured."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(1, 2, *space, generator=generator)
    ids = torch.randint(count, (1, 1, *space), generator=generator)
    ids.flatten()[:count] = torch.arange(count)

    def ours() -> Tensor:
        return superpixel_means(values, superpixel_map(ids))

    pieces = 1 if math.prod(space) * count < 10**8 else 12
    thin = math.prod(space) // pieces

    def theirs() -> Tensor:
        """One piece: of the memory and the time of the whole, the share of the voxels."""
        cut_values, cut_ids = values.flatten(2)[..., :thin].clone(), ids.flatten(2)[..., :thin].clone()
        cut_ids[..., -count:] = torch.arange(count)
        return one_hot_means(cut_values, cut_ids)

    if pieces == 1:
        torch.testing.assert_close(ours(), one_hot_means(values, ids), rtol=1e-4, atol=1e-6)
    our_time, their_time = seconds(ours, theirs, 3 if pieces > 1 else 7)
    their_time *= pieces
    our_peak, their_peak = peak_bytes(ours), pieces * peak_bytes(theirs)
    with capsys.disabled():
        print(
            f"\n{space}, K {count}: time {1e3 * our_time:.1f} / {1e3 * their_time:.0f} ms = 1 / "
            f"{their_time / our_time:.0f}, memory {our_peak / 2**20:.1f} / {their_peak / 2**20:.0f} MiB = 1 / "
            f"{their_peak / our_peak:.0f}"
        )
    assert our_peak * 20 <= their_peak
    assert our_time < their_time


@pytest.mark.parametrize(
    ("space", "batch"), [((128, 128), 8), ((40, 56, 40), 2)], ids=["radiographs 128x128", "volumes 40x56x40"]
)
def test_share_of_the_loss_in_a_step(space: tuple[int, ...], batch: int, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    networks = PeerNetworks([SelfCleansingNet(len(space), 1, 3) for _ in range(2)])
    image = torch.rand(batch, 1, *space)
    ids = torch.stack([Superpixels()(part) for part in image])
    target = torch.cat([torch.randint(3, (batch, 1, *space)), ids], 1).float()
    loss = SuperpixelLoss(3, 0.8, ramp_epochs=0)
    logits = networks(image).detach().requires_grad_()

    def network_step() -> None:
        networks(image).square().mean().backward()

    def loss_step() -> None:
        torch.autograd.grad(loss(logits, target), logits)

    network_time, loss_time = seconds(network_step, loss_step, 3)
    network_peak, loss_peak = peak_bytes(network_step), peak_bytes(loss_step)
    with capsys.disabled():
        print(
            f"\n{batch} of {space}: loss {1e3 * loss_time:.0f} ms beside {1e3 * network_time:.0f} ms of two networks, "
            f"{loss_peak / 2**20:.0f} MiB beside {network_peak / 2**20:.0f}"
        )
    assert loss_time < 0.2 * network_time
    assert loss_peak < 0.5 * network_peak
