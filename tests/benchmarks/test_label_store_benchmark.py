from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

from monai_noisylabel.data.label_store import LabelStore

CASES = 64


def blobs(shape: tuple[int, ...]) -> np.ndarray:
    """A three-class label with smooth borders, a harder case for compression than most organs."""
    axes = np.meshgrid(*[np.linspace(0, 3 * np.pi, size) for size in shape], indexing="ij")
    wave = sum(np.sin(axis * (i + 1)) for i, axis in enumerate(axes))
    return ((wave > 0.5).astype(np.uint8) + (wave > 1.2))[None].astype(np.uint8)


def training_step(spatial_dims: int, batch: int, size: int) -> Callable[[], None]:
    """One optimiser step of a small U-Net: forward, loss, backward, update."""
    net = UNet(spatial_dims, 1, 3, channels=(16, 32, 64), strides=(2, 2), num_res_units=1)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(net.parameters())
    image = torch.rand(batch, 1, *[size] * spatial_dims)
    label = torch.randint(0, 3, image.shape).float()

    def step() -> None:
        optimizer.zero_grad()
        loss(net(image), label).backward()
        optimizer.step()

    return step


def median_seconds(call: Callable[[], object], rounds: int) -> float:
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@pytest.mark.benchmark
@pytest.mark.parametrize(("spatial_dims", "batch", "size"), [(2, 8, 128), (3, 2, 48)])
def test_reading_a_batch_against_a_training_step(
    benchmark: Callable, tmp_path: Path, spatial_dims: int, batch: int, size: int
) -> None:
    store = LabelStore(tmp_path / "store")
    label = blobs((size,) * spatial_dims)
    for number in range(3):
        for index in range(number, CASES):
            store.propose(f"case/{index:03d}", label, reference=label)
        store.commit(f"round {number}")

    def read() -> None:
        for index in range(batch):
            assert store.read(f"case/{index:03d}") is not None

    step = median_seconds(training_step(spatial_dims, batch, size), rounds=5)
    benchmark.pedantic(read, rounds=50, warmup_rounds=5)
    ratio = benchmark.stats.stats.median / step
    benchmark.extra_info["ratio_to_training_step"] = ratio
    print(
        f"\n{spatial_dims}D, batch of {batch}, {size}^{spatial_dims}: "
        f"reading {benchmark.stats.stats.median * 1e3:.2f} ms, "
        f"training step {step * 1e3:.1f} ms, ratio {ratio:.2%} (target: below 5 %)"
    )


@pytest.mark.benchmark
def test_reading_a_volume_of_256_cubed(benchmark: Callable, tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "store")
    store.propose("volume", blobs((256, 256, 256)))
    store.commit("round")
    assert benchmark.pedantic(store.read, args=("volume",), rounds=10, warmup_rounds=1) is not None
    stored = (store.root / "rounds" / "0001" / "volume.label").stat().st_size
    benchmark.extra_info["bytes"] = stored


@pytest.mark.benchmark
def test_committing_a_thousand_slices(benchmark: Callable, tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "store")
    label = blobs((128, 128))

    def propose() -> None:
        for index in range(1000):
            store.propose(f"case/{index:04d}", label, reference=label)

    benchmark.pedantic(store.commit, args=("round",), setup=propose, rounds=3)
