"""Processes that must not go on, or must wait."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from handler_fakes import fake_evaluator, strip

from monai_noisylabel.handlers import CaseDice
from monai_noisylabel.study import cell_run, end_with_parent
from monai_noisylabel.study.case_record import CaseRecord
from monai_noisylabel.study.process import RECORD

CHILD = """
import runpy, sys, time
runpy.run_path(sys.argv[1])["end_with_parent"]()
print("on", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize(("closed", "status", "seconds"), [(True, 70, 60), (False, 0, 0.3)])
def test_a_process_ends_when_its_input_is_closed(closed: bool, status: int, seconds: float) -> None:
    arguments = [sys.executable, "-c", CHILD, str(end_with_parent.__file__), str(seconds)]
    child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"on\n"
    if closed:
        child.stdin.close()
    assert child.wait(30) == status
    child.stdout.close()
    child.stdin.close()


def test_a_cell_waits_for_who_trains_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was given up for lost may still train; the second one then finds the cell finished."""
    trained: list[Path] = []
    monkeypatch.setattr(cell_run, "train", lambda cell, folder: trained.append(folder))
    monkeypatch.setattr(cell_run, "end_with_parent", lambda: None)
    (tmp_path / "cell.json").write_text(json.dumps({}))
    second = threading.Thread(target=cell_run.main, args=([str(tmp_path)],))
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second.start()
        time.sleep(0.3)
        assert second.is_alive()
        (tmp_path / RECORD).write_text("{}")
    second.join()
    assert trained == []
    (tmp_path / RECORD).unlink()
    cell_run.main([str(tmp_path)])
    assert trained == [tmp_path]


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "eval" / "test_cases.csv"
    path.parent.mkdir()
    path.write_text('epoch,case,patient,class,dice\n1,"a","p",liver,0.5\n2,"a","p",li')
    metric = CaseDice(["liver"], 2)
    record = CaseRecord(metric, path, [{"case": "a", "patient": "p"}], max_epochs=9)

    def answer(engine: object, batch: object) -> list[dict[str, object]]:
        engine.state.batch = [{"case": "a"}]  # type: ignore[attr-defined]
        return [{"pred": strip(2), "label": strip(6)}]

    evaluator = fake_evaluator([0], answer)
    metric.attach(evaluator, "dice")
    record.attach(evaluator)
    evaluator.run(global_epoch=2)
    # 2 of 2 and 6 voxels: 2 * 2 / 8
    assert path.read_text().splitlines()[1:] == ['1,"a","p",liver,0.5', '2,"a","p","liver",0.500000']
