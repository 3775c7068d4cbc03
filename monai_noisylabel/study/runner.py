"""Running a study: its folder, its cells, and what became of each."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_noisylabel.data import load_dataset
from monai_noisylabel.handlers.atomic import write_atomically
from monai_noisylabel.study.cells import Cell, cells_of, make_datasets, prepare_cells
from monai_noisylabel.study.dask_executor import run_on_cluster
from monai_noisylabel.study.honesty import refuse_dishonest_data
from monai_noisylabel.study.local import default_processes, run_locally
from monai_noisylabel.study.process import RECORD, Outcome
from monai_noisylabel.study.spec import Study
from monai_noisylabel.study.tracking import NO_TRACKING, TRACKING_VARIABLE, default_tracking_uri, open_store

__all__ = ["STUDY", "Executor", "Tally", "read_study", "run_study"]

STUDY, LOCK = "study.json", ".study.lock"
DATA_OPTIONS = ("spatial_dims", "classes", "size")


@dataclass(frozen=True)
class Executor:
    """Where the cells run.

    Attributes:
        processes: cells at a time on this machine; None: as many as GPUs, or as the cores allow.
        gpus: values for ``CUDA_VISIBLE_DEVICES``, a slot each.
        scheduler: address of a Dask scheduler; None: this machine.
        tracking_uri: of MLflow; None: SQLite in the study's folder; ``"none"``: no tracking.
        command: see :func:`~monai_noisylabel.study.process.run_cell`.
    """

    processes: int | None = None
    gpus: Sequence[str] = ()
    scheduler: str | None = None
    tracking_uri: str | None = None
    command: Sequence[str] | None = None


@dataclass
class Tally:
    """What became of the cells.

    Attributes:
        total: number of cells.
        kept: names of those that had finished before.
        finished: names of those that finished now.
        failed: name -> what its process printed last.
    """

    total: int
    kept: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def run_study(
    study: Study,
    out: Path,
    executor: Executor | None = None,
    progress: Callable[[Cell, Outcome, Tally], None] = lambda cell, outcome, tally: None,
) -> Tally:
    """Run all cells of a study that have not finished yet.

    The baseline cells come first. A cell that fails is told and does not stop the others; the next call tries it again.
    After an interruption the next call goes on, each cell from its last finished epoch.

    Args:
        study: the study.
        out: folder of its own; a former run of the same study may be there, with fewer or more methods and seeds.
        executor: where the cells run.
        progress: called after each cell.

    Raises:
        FileExistsError: if the folder holds something else, or another runner is at work there.
        CellChangedError: if a cell there has other settings.
        DishonestError: if a dataset has noisy test labels, or a patient in two splits.
        ValueError: if a dataset cannot be used.
    """
    executor, out = executor or Executor(), out.resolve()
    _refuse_other_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    with _alone_in(out):
        cells = cells_of(study, out)
        if not (out / STUDY).exists():
            _write(study, out)  # from now on the folder is known as a study's
        make_datasets(study, out)
        check_data(cells)
        prepare_cells(cells, out)
        _write(study, out)
        return _run(cells, out, executor, study.protocol.threads, progress)


def read_study(out: Path) -> Study:
    """The study that ran in a folder.

    Raises:
        FileNotFoundError: if none did.
    """
    path = out / STUDY
    if not path.is_file():
        raise FileNotFoundError(f"{out} is no study's folder: it has no {STUDY}. Run one with --out {out}.")
    return Study.model_validate_json(path.read_text(encoding="utf-8"))


def check_data(cells: Sequence[Cell]) -> None:
    """Load every dataset once, as its first cell does, and refuse one that makes a study void."""
    seen: set[str] = set()
    for cell in cells:
        if cell.dataset not in seen:
            seen.add(cell.dataset)
            options: dict[str, Any] = {name: cell.options.get(name) for name in DATA_OPTIONS}
            refuse_dishonest_data(load_dataset(cell.options["manifest"], cell.options["dataset_dir"], **options))


def _run(
    cells: Sequence[Cell],
    out: Path,
    executor: Executor,
    threads: int,
    progress: Callable[[Cell, Outcome, Tally], None],
) -> Tally:
    tally = Tally(len(cells), kept=[cell.name for cell in cells if (cell.folder(out) / RECORD).exists()])
    waiting = {cell.folder(out): cell for cell in cells if cell.name not in tally.kept}
    if not waiting:
        return tally
    for folder, outcome in _executed(waiting, out, executor, threads):
        cell = waiting[folder]
        if outcome.state == "failed":
            tally.failed[cell.name] = outcome.message
        elif outcome.state != "stopped":
            tally.finished.append(cell.name)
        progress(cell, outcome, tally)
    return tally


def _executed(
    cells: Mapping[Path, Cell], out: Path, executor: Executor, threads: int
) -> Iterator[tuple[Path, Outcome]]:
    folders = list(cells)
    uri = executor.tracking_uri or default_tracking_uri(out)
    if uri != NO_TRACKING and executor.command is None:
        open_store(uri, cells[folders[0]].study)
    environment = {TRACKING_VARIABLE: uri}
    if executor.scheduler is not None:
        return run_on_cluster(folders, executor.scheduler, environment, executor.command, gpu=bool(executor.gpus))
    processes = executor.processes or default_processes(threads, executor.gpus)
    return run_locally(folders, processes, executor.gpus, environment, executor.command)


def _write(study: Study, out: Path) -> None:
    write_atomically(study.model_dump_json(indent=2) + "\n", out / STUDY)


def _refuse_other_folder(out: Path) -> None:
    if out.exists() and not (out / STUDY).is_file() and any(entry.name != LOCK for entry in out.iterdir()):
        raise FileExistsError(f"{out} holds something else than a study; give a folder of its own with --out.")


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    with (out / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FileExistsError(f"Another runner, of process {_holder(out)}, is at work in {out}.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _holder(out: Path) -> str:
    return (out / LOCK).read_text(encoding="utf-8") or "unknown"
