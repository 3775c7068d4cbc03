"""Confident learning over a stream of volumes: memory against their number, and memory and time against cleanlab.

Memory is the resident memory of a process at its peak, beyond what it held before; time is its processor time.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from confident_costs import in_new_process, ours, theirs

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is read from /proc"),
]


def test_memory_does_not_grow_with_the_number_of_volumes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**18))  # freed blocks go back at once: no gaps are counted
    few, many = (in_new_process(ours, count, (96, 96, 96)) for count in (10, 200))
    with capsys.disabled():
        print(
            f"\n10 volumes of 96^3: {few.bytes / 2**20:.0f} MiB, {few.seconds:.1f} s; "
            f"200: {many.bytes / 2**20:.0f} MiB, {many.seconds:.1f} s"
        )
    assert many.bytes < 1.02 * few.bytes
    assert many.errors > 15 * few.errors


def test_against_cleanlab(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cleanlab")
    own, other = (in_new_process(run, 4, (96, 256, 256)) for run in (ours, theirs))
    with capsys.disabled():
        print(
            f"\n4 volumes of 96x256x256, 4 classes: {own.bytes / 2**20:.0f} MiB and {own.seconds:.1f} s beside "
            f"{other.bytes / 2**20:.0f} MiB and {other.seconds:.1f} s; {own.errors} and {other.errors} voxels found"
        )
    assert other.bytes >= 3 * own.bytes
    assert other.seconds >= 2 * own.seconds
    assert own.errors == pytest.approx(other.errors, rel=1e-3)
