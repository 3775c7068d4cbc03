"""What becomes of cells: finished once, failed and told, interrupted and resumed, never mixed up."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlflow
import pytest
from dataset_files import manifest, write_ct_dataset
from study_fakes import COMMAND, PHANTOM, plan, runs_of, study

from monai_noisylabel.study import runner
from monai_noisylabel.study.cells import CellChangedError
from monai_noisylabel.study.honesty import DishonestError
from monai_noisylabel.study.local import default_processes
from monai_noisylabel.study.process import FAILURE, LOG, RECORD, run_cell
from monai_noisylabel.study.runner import Executor, read_study, run_study
from monai_noisylabel.study.tracking import default_tracking_uri

ALL = [
    "phantom/clean/baseline/seed0",
    "phantom/clean/baseline/seed1",
    *(f"phantom/missing/{method}/seed{seed}" for method in ("baseline", "t_loss", "jocor") for seed in (0, 1)),
]


def executor(processes: int = 1, **options: object) -> Executor:
    return Executor(processes, command=COMMAND, **options)


def test_every_cell_runs_once_and_only_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    tally = run_study(study(seeds=[0]), out, executor())
    assert tally.finished == [name for name in ALL if name.endswith("seed0")]
    began = [line.split()[0] for line in runs_of(out) if line.endswith("begin")]
    assert began == tally.finished, "in the order of the study, baselines first"
    again = run_study(study(), out, executor())  # a seed more
    assert again.kept == tally.finished
    assert sorted(again.finished) == [name for name in sorted(ALL) if name.endswith("seed1")]
    assert len(runs_of(out)) == 2 * len(ALL)
    assert read_study(out) == study()


def test_two_processes_run_at_a_time_and_results_are_the_same(tmp_path: Path) -> None:
    plan(tmp_path / "two", seconds=0.3)
    for name, processes in (("one", 1), ("two", 2)):
        run_study(study(), tmp_path / name, executor(processes))
    for name, most in (("one", 1), ("two", 2)):
        running, peak = 0, 0
        for line in runs_of(tmp_path / name):
            running += 1 if line.endswith("begin") else -1
            peak = max(peak, running)
        assert peak == most
    left, right = ({cell: _results(tmp_path / name, cell) for cell in ALL} for name in ("one", "two"))
    assert left == right


def test_the_experiment_is_there_before_the_first_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cells that start at once would both make it, and one of them would fail."""
    seen = []

    def run(folders: Sequence[Path], *arguments: object) -> Iterator[object]:
        client = mlflow.MlflowClient(tracking_uri=default_tracking_uri(tmp_path / "out"))
        seen.append(client.get_experiment_by_name(study().name))
        return iter(())

    monkeypatch.setattr(runner, "run_locally", run)
    run_study(study(), tmp_path / "out", Executor(2))
    assert seen[0] is not None


def _results(out: Path, cell: str) -> object:
    return json.loads((out / "cells" / cell / RECORD).read_text())["summary"]


def test_threads_of_a_cell_do_not_depend_on_how_many_run(tmp_path: Path) -> None:
    assert default_processes(10_000, ()) == 1
    assert default_processes(1, ("0", "1", "2")) == 3
    assert default_processes(1, ()) == len(os.sched_getaffinity(0))
    folder = tmp_path / "cell"
    folder.mkdir()
    (folder / "cell.json").write_text('{"threads": 3}')
    script = "import os, sys; open(sys.argv[1] + '/record.json', 'w').write(os.environ['OMP_NUM_THREADS'])"
    assert run_cell(folder, {"OMP_NUM_THREADS_": "x"}, [sys.executable, "-c", script]).state == "finished"
    assert (folder / RECORD).read_text() == "3"


def test_a_gpu_takes_one_cell_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan(out, seconds=0.2)
    run_study(study(), out, executor(2, gpus=("3", "5")))
    devices = [json.loads((out / "cells" / name / RECORD).read_text())["made_by"]["device"] for name in ALL]
    assert set(devices) == {"3", "5"}
    pairs = {frozenset(devices[at : at + 2]) for at in range(0, len(ALL), 2)}
    assert pairs == {frozenset({"3", "5"})}, "two that run side by side have different GPUs"


def test_a_failed_cell_is_told_and_tried_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan(out, fail_once=["t_loss"])
    told = []
    tally = run_study(
        study(seeds=[0]), out, executor(), lambda cell, outcome, _: told.append((cell.name, outcome.state))
    )
    name = "phantom/missing/t_loss/seed0"
    assert list(tally.failed) == [name]
    assert len(tally.finished) == 3
    assert (name, "failed") in told
    message = tally.failed[name]
    assert message.startswith(f"exit status 3; {out / 'cells' / name / LOG} ends with")
    assert message.endswith("this method is made to fail")
    assert json.loads((out / "cells" / name / FAILURE).read_text())["message"] == message
    again = run_study(study(seeds=[0]), out, executor())
    assert (again.finished, again.failed) == ([name], {})
    assert not (out / "cells" / name / FAILURE).exists()


def test_other_settings_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_study(study(seeds=[0]), out, executor())
    before = (out / "cells" / ALL[0] / "cell.json").read_bytes()
    changed = study(seeds=[0, 1], overrides={"max_epochs": 7})
    with pytest.raises(CellChangedError, match="max_epochs: not set there, 7 now"):
        run_study(changed, out, executor())
    assert (out / "cells" / ALL[0] / "cell.json").read_bytes() == before
    assert not (out / "cells" / ALL[1]).exists()
    assert read_study(out) == study(seeds=[0])


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something else than a study"):
        run_study(study(), tmp_path, executor())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_runners_do_not_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_study(study(seeds=[0]), out, executor())
    with (out / ".study.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FileExistsError, match=f"Another runner, of process {os.getpid()}, is at work"):
            run_study(study(), out, executor())
    assert not (out / "cells" / ALL[1]).exists()


def test_a_dataset_that_crosses_splits_is_refused_before_anything_runs(tmp_path: Path) -> None:
    write_ct_dataset(tmp_path / "data")
    rules = {"train": {"cases": ["c0", "c1"]}, "val": {"cases": ["c2"]}, "test": {"cases": ["c3", "c0b"]}}
    for kind in ("images", "labels"):
        folder = tmp_path / "data" / kind
        (folder / "c0b.nii.gz").write_bytes((folder / "c0.nii.gz").read_bytes())
    (tmp_path / "crossing.json").write_text(manifest(patient=r"(c\d)b?", splits=rules).model_dump_json())
    datasets = {"d": {"manifest": str(tmp_path / "crossing.json"), "dataset_dir": str(tmp_path / "data")}}
    with pytest.raises(DishonestError, match="in two splits"):
        run_study(study(datasets=datasets), tmp_path / "out", executor())
    assert not (tmp_path / "out" / "cells").exists()


def test_unknown_phantom_settings(tmp_path: Path) -> None:
    datasets = {"p": {"manifest": "phantom_hcc", "phantom": {**PHANTOM, "patients": 3}}}
    with pytest.raises(ValueError, match=r"datasets\.p\.phantom: .*patients"):
        run_study(study(datasets=datasets), tmp_path / "out", executor())


RUNNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from study_fakes import COMMAND, study
from monai_noisylabel.study.runner import Executor, run_study
run_study(study(seeds=[0]), Path(sys.argv[1]), Executor(1, command=COMMAND))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_of_a_runner_that_ends_goes_on(how: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C and kill -9, while the cell of a method runs; another runner then goes on with what is left."""
    out = tmp_path / "out"
    plan(out, wait=["t_loss"])
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(out), str(Path(__file__).parents[1])],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stderr=subprocess.DEVNULL,
    )
    cell_process = _process_that_waits(out, process)
    process.send_signal(how)
    process.wait(60)
    _wait_until(lambda: not _alive(cell_process))
    tally = run_study(study(seeds=[0]), out, executor())
    assert tally.kept == ["phantom/clean/baseline/seed0", "phantom/missing/baseline/seed0"]
    assert tally.finished == ["phantom/missing/t_loss/seed0", "phantom/missing/jocor/seed0"]
    ended = [line for line in runs_of(out) if line.endswith("end")]
    assert len(ended) == len(set(ended)) == 4


def _process_that_waits(out: Path, runner: subprocess.Popen[bytes]) -> int:
    found: list[int] = []

    def look() -> bool:
        found.extend(int(line.split()[1]) for line in runs_of(out) if line.startswith("process"))
        return bool(found) or runner.poll() is not None

    _wait_until(look)
    assert found, "the runner ended before the cell began"
    return found[0]


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_until(true: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_a_cell_is_stopped_on_demand(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    folder.mkdir()
    (folder / "cell.json").write_text('{"threads": 1}')
    script = (
        "import signal; signal.signal(signal.SIGINT, lambda *_: exit(130)); print('on', flush=True); signal.pause()"
    )
    outcome = run_cell(folder, None, [sys.executable, "-c", script], lambda: "on" in (folder / LOG).read_text())
    assert outcome.state == "stopped"
    assert not (folder / FAILURE).exists()
