"""Cells on a Dask cluster: several machines, or the queue of a computing centre."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_noisylabel.study.process import Outcome, run_cell

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["run_on_cluster"]

MISSING = 'A Dask scheduler needs dask.distributed: python -m pip install "monai_noisylabel[cluster]"'
SECONDS_BETWEEN_QUESTIONS = 2.0


def run_on_cluster(
    folders: Iterable[Path],
    scheduler: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
    gpu: bool = False,
) -> Iterator[tuple[Path, Outcome]]:
    """Run cells on the workers of a Dask cluster, and say of each how it ended as soon as it has.

    The workers see the study's folder and the datasets under the same paths, and have this library installed. A worker
    takes as many cells at a time as it has threads (``--nthreads 1``: one). A cell whose worker is lost goes on, from
    its last finished epoch, on another one; after three lost workers it counts as failed.

    Args:
        folders: of the cells.
        scheduler: address of the scheduler, such as ``tcp://host:8786``.
        environment: variables for all cells.
        command: see :func:`~monai_noisylabel.study.process.run_cell`.
        gpu: whether a cell takes one of the ``GPU`` that a worker was started with (``--resources GPU=1``).

    Raises:
        ImportError: if dask.distributed is not installed; the message says what to install.
        OSError: if no scheduler answers.
    """
    try:
        from distributed import Client, Event, as_completed
    except ImportError as error:
        raise ImportError(MISSING) from error

    with Client(scheduler) as client:
        name = f"noisylabel-stop-{uuid.uuid4().hex}"
        stop = Event(name, client=client)
        futures = {
            _submit(client, folder, name, dict(environment or {}), list(command or ()), gpu): folder
            for folder in folders
        }
        try:
            for future in as_completed(futures):
                yield futures[future], _outcome(future)
        finally:
            stop.set()
            client.cancel(list(futures))


def _submit(client: Client, folder: Path, stop: str, environment: dict[str, str], command: list[str], gpu: bool) -> Any:
    return client.submit(
        _run_on_worker,
        str(folder.resolve()),
        environment,
        command,
        stop,
        key=f"cell-{folder.resolve()}-{stop}",
        pure=False,
        resources={"GPU": 1} if gpu else None,
    )


def _outcome(future: Any) -> Outcome:
    error = future.exception()
    return future.result() if error is None else Outcome("failed", f"{type(error).__name__}: {error}")


def _run_on_worker(folder: str, environment: dict[str, str], command: list[str], stop: str) -> Outcome:
    """What a worker does: look after the process of one cell."""
    import time

    from distributed import Event

    event = Event(stop)
    asked = [time.monotonic(), False]

    def stopped() -> bool:
        if time.monotonic() - asked[0] > SECONDS_BETWEEN_QUESTIONS:
            asked[:] = [time.monotonic(), event.is_set()]
        return bool(asked[1])

    return run_cell(folder, environment, command or None, stopped)
