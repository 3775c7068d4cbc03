"""Cells on a Dask cluster of this machine, and the job that starts workers in a queue."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from study_fakes import COMMAND, plan, runs_of, study

from monai_noisylabel.study.cells import cells_of
from monai_noisylabel.study.page import write_report
from monai_noisylabel.study.records import read_records
from monai_noisylabel.study.runner import Executor, run_study

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
PAGE = Path(__file__).parents[2] / "docs" / "studies.md"


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler, and two workers with a GPU (in name) and one thread each, or as many as a test asks for."""
    threads = str(getattr(request, "param", 1))
    file = tmp_path / "scheduler.json"
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3"}
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    worker = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        "--nthreads",
        threads,
        "--no-nanny",
        "--no-dashboard",
    ]
    commands = [
        [*start, "--scheduler-file", str(file)],
        *[[*worker, "--scheduler-file", str(file), "--resources", "GPU=1", "--name", f"w{n}"] for n in (0, 1)],
    ]
    processes = []
    for command in commands:
        log = (tmp_path / f"dask{len(processes)}.log").open("wb")
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log))
        while not file.exists():
            time.sleep(0.05)
    with distributed.Client(scheduler_file=str(file)) as client:
        client.wait_for_workers(2, timeout=120)
        address = client.scheduler.address
    yield address, processes[1:]
    for process in reversed(processes):
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.distributed
def test_a_worker_is_killed_and_no_cell_is_lost_or_counted_twice(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, workers = cluster
    out = tmp_path / "out"
    plan(out, wait=["t_loss"], seconds=0.2)
    made_up = study(seeds=[0, 1, 2])
    cells = cells_of(made_up, out)
    killed: list[int] = []

    def kill_the_first_that_waits() -> None:
        while not any(line.startswith("process") for line in runs_of(out)):
            time.sleep(0.05)
        waiting = next(int(line.split()[1]) for line in runs_of(out) if line.startswith("process"))
        parent = int(Path(f"/proc/{waiting}/stat").read_text().rpartition(")")[2].split()[1])
        killed.append(parent)
        os.kill(parent, signal.SIGKILL)

    # the fake cells of t_loss wait for the end of their worker when they run for the first time; the other worker's
    # are let go by marking them as tried
    for cell in cells:
        if cell.method == "t_loss" and cell.seed != 0:
            cell.folder(out).mkdir(parents=True)
            (cell.folder(out) / "tried").touch()
    (out / "study.json").write_text(made_up.model_dump_json())
    thread = threading.Thread(target=kill_the_first_that_waits)
    thread.start()
    tally = run_study(made_up, out, Executor(scheduler=address, command=COMMAND))
    thread.join()
    assert killed[0] in [worker.pid for worker in workers], "it was a worker of the cluster that was killed"
    assert sorted(tally.finished) == sorted(cell.name for cell in cells)
    assert tally.failed == {}
    ended = [line for line in runs_of(out) if line.endswith("end")]
    assert sorted(ended) == sorted(f"{cell.name} end" for cell in cells), "each to its end once"
    began = [line for line in runs_of(out) if line.endswith("begin")]
    assert len(began) == len(cells) + 1, "the one that was lost began twice"
    records = read_records(cells, out)
    keys = ["dataset", "noise", "method", "seed"]
    assert len(records.cost) == len(records.cost[keys].drop_duplicates()) == len(cells)
    write_report(made_up, out)
    assert "failed" not in (out / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("cluster", [3], indirect=True)
def test_a_worker_with_one_gpu_takes_one_cell_at_a_time(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    plan(out, seconds=0.3)
    tally = run_study(study(), out, Executor(scheduler=cluster[0], gpus=("any",), command=COMMAND))
    assert len(tally.finished) == 8
    running, peak = 0, 0
    for line in runs_of(out):
        running += 1 if line.endswith("begin") else -1
        peak = max(peak, running)
    assert peak == 2


def test_without_a_scheduler_it_says_so(tmp_path: Path) -> None:
    impatient = dask.config.set({"distributed.comm.timeouts.connect": "0.5s"})
    executor = Executor(scheduler="tcp://127.0.0.1:9", command=COMMAND)
    with impatient, pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        run_study(study(), tmp_path / "out", executor)


def test_without_dask_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install .*monai_noisylabel\[cluster\]"):
        run_study(study(), tmp_path / "out", Executor(scheduler="tcp://127.0.0.1:9", command=COMMAND))


def test_the_job_script_of_a_slurm_queue() -> None:
    """The recipe of docs/studies.md: a job is one worker, with one cell at a time and one GPU."""
    jobqueue = pytest.importorskip("dask_jobqueue")
    code = PAGE.read_text().partition("```python\n")[2].partition("```")[0]
    made = code.partition("cluster = ")[2].partition("\ncluster.")[0]
    job = jobqueue.slurm.SLURMJob(scheduler="tcp://head:8786", name="worker", **_arguments(made))
    script = job.job_script()
    for line in ("#SBATCH -p gpu", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=30G", "#SBATCH -t 08:00:00"):
        assert line in script
    assert "#SBATCH --gres=gpu:1" in script
    assert "--nthreads 1" in script
    assert "--resources GPU=1" in script
    assert "source /home/me/venv/bin/activate" in script
    assert "tcp://head:8786" in script


def _arguments(call: str) -> dict[str, object]:
    """The keyword arguments of a call that is written out in the documentation."""
    parsed = ast.parse(call.strip(), mode="eval").body
    assert isinstance(parsed, ast.Call)
    return {word.arg: ast.literal_eval(word.value) for word in parsed.keywords if word.arg}
