"""The few things a handler asks of a distributed run; one process is the special case of one rank."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather_from_all", "is_main", "own_share", "sum_over_all", "wait_for_all"]


def is_main() -> bool:
    """Whether this process writes files and decides for the others."""
    return not _distributed() or dist.get_rank() == 0


def wait_for_all() -> None:
    """Return once every rank has come here."""
    if _distributed():
        dist.barrier()


def gather_from_all(value: Any) -> list[Any]:
    """The values of all ranks, in the order of the ranks."""
    if not _distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def sum_over_all(counts: Tensor) -> Tensor:
    """The sum of what the ranks counted, on each of them."""
    return functools.reduce(torch.add, gather_from_all(counts))


def own_share(number: int) -> range:
    """The indices below ``number`` that fall to this process; all of them in a single one."""
    return range(dist.get_rank(), number, dist.get_world_size()) if _distributed() else range(number)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
