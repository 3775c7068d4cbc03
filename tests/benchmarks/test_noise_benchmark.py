"""Relative boundary noise by nearest voxels against the iterated steps of the public code, at beta 0.7."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from reference import released_noise

from monai_noisylabel.corruption.relative_boundary import change_volume

pytestmark = pytest.mark.benchmark


def _blob(size: int, radius: float, axes: int) -> np.ndarray:
    """A ball with a wavy surface, about the middle of the image."""
    grid = np.moveaxis(np.indices((size,) * axes) - (size - 1) / 2, 0, -1)
    distance = np.linalg.norm(grid, axis=-1)
    return distance <= radius * (1 + 0.1 * np.sin(5 * np.arctan2(grid[..., 0], grid[..., 1])))


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("ratio", [0.7, -0.7])
@pytest.mark.parametrize(("size", "radius", "axes"), [(128, 24, 3), (128, 36, 3), (512, 100, 2)])
def test_relative_boundary_against_iterated_steps(
    benchmark: BenchmarkFixture,
    capsys: pytest.CaptureFixture[str],
    size: int,
    radius: float,
    axes: int,
    ratio: float,
) -> None:
    mask = _blob(size, radius, axes)
    changed = benchmark.pedantic(change_volume, (mask, ratio), rounds=15, warmup_rounds=2)

    iterated = []
    for _ in range(5):
        start = time.process_time()
        expected = released_noise.relative_boundary(mask, ratio)
        iterated.append(time.process_time() - start)

    target = mask.sum() + (1 if ratio > 0 else -1) * int(0.7 * mask.sum())
    assert changed.sum() == target  # exact, where the steps are not
    assert abs(int(expected.sum()) - target) < 0.2 * target
    if benchmark.stats is None:  # run with --benchmark-disable
        return
    nearest, slow = benchmark.stats.stats.median, float(np.median(iterated))
    benchmark.extra_info["ratio"] = slow / nearest
    with capsys.disabled():
        print(f"\niterated {1e3 * slow:.0f} ms, nearest {1e3 * nearest:.1f} ms: {slow / nearest:.0f} x")
    assert slow / nearest >= 5
