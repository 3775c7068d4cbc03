"""Label cleansing in its linear form against the loops of the paper, on one sample of the paper's size."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from reference import prototype_loops

from monai_noisylabel.correction import clean_up_label, relabel

pytestmark = pytest.mark.benchmark


@pytest.fixture
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    """Features (32, 256, 256) and a round predicted region of radius 16, small for the sake of the loops."""
    features = torch.rand(32, 256, 256, generator=torch.Generator().manual_seed(0))
    axis = torch.arange(256) - 128
    region = axis[:, None] ** 2 + axis**2 < 16**2
    features[:4] += 2 * region
    return features, region


def test_relabel_against_the_double_loop(
    benchmark: BenchmarkFixture,
    sample: tuple[torch.Tensor, torch.Tensor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    features, region = sample
    prediction = region[None].to(torch.uint8)
    label = benchmark(relabel, features, prediction, num_classes=2)

    start = time.perf_counter()
    expected = prototype_loops.pseudo_label(features.numpy(), region.numpy())
    loops = time.perf_counter() - start

    differing = int((label[0].numpy() != expected).sum())
    assert differing <= 2  # voxels within rounding of the threshold
    if benchmark.stats is None:  # run with --benchmark-disable
        return
    linear = benchmark.stats.stats.median
    benchmark.extra_info["ratio"] = loops / linear
    with capsys.disabled():
        print(f"\ndouble loop {loops:.1f} s, linear form {1e3 * linear:.2f} ms: {loops / linear:.0f} x")


def test_relabel_of_a_large_region(benchmark: BenchmarkFixture, sample: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, _ = sample
    prediction = torch.zeros(1, 256, 256, dtype=torch.uint8)
    prediction[:, 64:192, 64:192] = 1
    benchmark(relabel, features, prediction, num_classes=2)


def test_clean_up_of_a_speckled_label(benchmark: BenchmarkFixture) -> None:
    label = np.zeros((1, 256, 256), dtype=np.uint8)
    label[:, 64:192, 64:192] = np.random.default_rng(0).random((128, 128)) < 0.9
    benchmark(clean_up_label, label, 2)
