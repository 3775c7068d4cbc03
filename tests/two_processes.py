"""Runs a function on two processes of one gloo group, as torchrun would, and hands back what each returns."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing


def run_on_two(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Results of ``function(rank, *arguments)`` on ranks 0 and 1.

    Args:
        function: of a helper module, which a new process can import: pytest alone can import a test module.
        arguments: anything that can be pickled.
    """
    if "." in function.__module__:
        raise ValueError(
            f"{function.__module__} is a test module: move {function.__name__} to one that lies in tests/."
        )
    # one clean process imports torch and MONAI, and each rank is a fork of it
    multiprocessing.get_context("forkserver").set_forkserver_preload(["monai_noisylabel"])
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(_rank, (function, arguments, folder), nprocs=2, start_method="forkserver")
        return [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(2)]


def _rank(rank: int, function: Callable[..., Any], arguments: tuple[Any, ...], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        Path(folder, str(rank)).write_bytes(pickle.dumps(function(rank, *arguments)))
    finally:
        dist.destroy_process_group()
