"""Cells on this machine, several at a time."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from monai_noisylabel.study.process import Outcome, run_cell

__all__ = ["default_processes", "run_locally"]


def default_processes(threads: int, gpus: Sequence[str]) -> int:
    """As many cells at a time as there are GPUs, or else as the cores allow at so many threads each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return len(gpus) or max(1, cores // threads)


def run_locally(
    folders: Iterable[Path],
    processes: int,
    gpus: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
) -> Iterator[tuple[Path, Outcome]]:
    """Run cells, and say of each how it ended as soon as it has.

    If the consumer stops early, as by Ctrl-C, the cells that run are interrupted, and keep the epochs they have done.

    Args:
        folders: of the cells, in the order in which they are started.
        processes: how many cells may run at a time.
        gpus: values for ``CUDA_VISIBLE_DEVICES``, one per slot: a cell has a slot to itself. A GPU that is named twice
            takes two cells. None: the cells see what this process sees.
        environment: variables for all cells.
        command: see :func:`~monai_noisylabel.study.process.run_cell`.
    """
    slots: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for number in range(processes):
        slots.put(gpus[number % len(gpus)] if gpus else None)
    stop = threading.Event()

    def run(folder: Path) -> Outcome:
        if stop.is_set():
            return Outcome("stopped")
        slot = slots.get()
        try:
            visible = {} if slot is None else {"CUDA_VISIBLE_DEVICES": slot}
            return run_cell(folder, {**(environment or {}), **visible}, command, stop.is_set)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(processes, thread_name_prefix="cell") as pool:
        futures = {pool.submit(run, folder): folder for folder in folders}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
