"""One cell in a process of its own: started, watched, interrupted, and told how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monai_noisylabel.handlers.atomic import write_atomically

__all__ = ["FAILURE", "LOG", "RECORD", "Outcome", "run_cell"]

RECORD, FAILURE, LOG = "record.json", "failure.json", "log.txt"
COMMAND = ("-m", "monai_noisylabel.study.cell_run")
POLL_SECONDS, GRACE_SECONDS = 0.2, 60.0
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
LAST_LINES = 15


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes:
        state: ``finished``; ``kept``, it had finished before; ``failed``; or ``stopped``, on demand.
        message: of a failure, what its process printed last.
    """

    state: Literal["finished", "kept", "failed", "stopped"]
    message: str = ""


def run_cell(
    folder: str | Path,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run a cell until its end, unless it has finished before.

    The process writes ``record.json`` as its last act, which is what finished means. It ends with the process that
    runs this function, however that ends: its standard input is then closed. What it prints goes to ``log.txt``.

    Args:
        folder: the cell's folder, with ``cell.json``.
        environment: variables that are added to those of this process.
        command: what to run, with the folder as an additional argument; by default the training.
        stopped: asked several times a second whether to stop, as by Ctrl-C; the cell can be resumed then.
    """
    folder = Path(folder)
    if (folder / RECORD).exists():
        return Outcome("kept")
    threads = str(json.loads((folder / "cell.json").read_text(encoding="utf-8"))["threads"])
    variables = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, threads), **(environment or {})}
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [*(command or (sys.executable, *COMMAND)), str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,  # Ctrl-C in a terminal reaches the runner alone, which passes it on
        )
        try:
            was_stopped = _watch(process, stopped)
        finally:
            _end(process)
    if process.returncode == 0 and (folder / RECORD).exists():
        (folder / FAILURE).unlink(missing_ok=True)
        return Outcome("finished")
    return Outcome("stopped") if was_stopped else _failure(folder, process.returncode)


def _watch(process: subprocess.Popen[bytes], stopped: Callable[[], bool]) -> bool:
    """Wait for the end of a process; True if it was stopped on the way."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
            return False
        if stopped():
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """See to it that nothing of a process goes on, nor of what it started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _failure(folder: Path, code: int) -> Outcome:
    printed = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    ended = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
    message = "\n".join([f"{ended}; {folder / LOG} ends with", *printed[-LAST_LINES:]])
    failure = {"exit_status": code, "message": message, "time": time.time()}
    write_atomically(json.dumps(failure, indent=2) + "\n", folder / FAILURE)
    return Outcome("failed", message)
