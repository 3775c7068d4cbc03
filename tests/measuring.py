"""What a step costs: processor time of one thread, and the most memory it holds at once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from torch.profiler import ProfilerActivity, profile

Step = Callable[[], object]


def seconds(ours: Step, theirs: Step, runs: int = 25) -> tuple[float, float]:
    """Least processor times of two steps, in runs that alternate, so that what else the machine does stays out."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for run, taken in zip((ours, theirs), times, strict=True):
            start = time.process_time()
            run()
            taken.append(time.process_time() - start)
    return min(times[0]), min(times[1])


def peak_bytes(run: Step) -> int:
    """Peak of what the allocator handed out during a step, beyond what there was before; after one to warm up."""
    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    held = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def compare(name: str, ours: Step, theirs: Step, capsys: pytest.CaptureFixture[str], runs: int) -> tuple[float, float]:
    """Print what two steps take, and return the ratios ours / theirs of time and of memory."""
    peaks = peak_bytes(ours), peak_bytes(theirs)
    times = seconds(ours, theirs, runs)
    with capsys.disabled():
        print(
            f"\n{name}: time {1e3 * times[0]:.1f} / {1e3 * times[1]:.0f} ms = {times[0] / times[1]:.3f}, memory "
            f"{peaks[0] / 2**20:.1f} / {peaks[1] / 2**20:.0f} MiB = {peaks[0] / peaks[1]:.4f}"
        )
    return times[0] / times[1], peaks[0] / peaks[1]
