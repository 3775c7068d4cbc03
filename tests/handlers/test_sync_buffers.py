"""Normalisation statistics are one set for all ranks."""

from __future__ import annotations

import pytest
from handler_fakes import broadcast_buffers
from two_processes import run_on_two


def test_a_single_process_keeps_its_buffers() -> None:
    state = broadcast_buffers(4)
    assert set(state.values()) == {5.0}


@pytest.mark.distributed
def test_all_ranks_get_the_buffers_of_the_first_and_keep_their_weights() -> None:
    # rank r holds r + 1 everywhere; weights are DistributedDataParallel's to keep equal, so they stay as
    # they are
    for rank, state in enumerate(run_on_two(broadcast_buffers)):
        assert (state["running_mean"], state["running_var"], state["num_batches_tracked"]) == (1.0, 1.0, 1.0)
        assert (state["weight"], state["bias"]) == (rank + 1.0, rank + 1.0)
