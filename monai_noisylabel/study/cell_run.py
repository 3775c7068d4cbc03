"""The process of one cell: ``python -m monai_noisylabel.study.cell_run FOLDER``."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigWorkflow

import monai_noisylabel
from monai_noisylabel.handlers.atomic import write_atomically
from monai_noisylabel.study.end_with_parent import end_with_parent
from monai_noisylabel.study.honesty import refuse_dishonest_data, refuse_noisy_test
from monai_noisylabel.study.process import RECORD
from monai_noisylabel.study.tracking import NO_TRACKING, TRACKING_VARIABLE, note_results, tracking_settings

__all__ = ["main", "train"]

MEBIBYTE = 1024 * 1024
logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Train the cell in the folder that is named, unless it has finished meanwhile.

    While another process trains in that folder, on this or on another machine, this one waits for it.
    """
    end_with_parent()
    folder = Path(arguments[0])
    with _held(folder):
        if not (folder / RECORD).exists():
            train(json.loads((folder / "cell.json").read_text(encoding="utf-8")), folder)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def train(cell: Mapping[str, Any], folder: Path) -> None:
    """Run the training of a cell's bundle, or go on with it, and write ``record.json``.

    Args:
        cell: content of ``cell.json``.
        folder: where ``models`` and ``eval`` go.

    Raises:
        DishonestError: if the data or the bundle would make its numbers void.
    """
    began = time.monotonic()
    torch.set_num_threads(cell["threads"])
    uri = os.environ.get(TRACKING_VARIABLE, NO_TRACKING)
    run = "_".join([cell["dataset"], cell["noise"], cell["method"], f"seed{cell['seed']}"])
    workflow = ConfigWorkflow(
        str(Path(cell["bundle"]) / "configs" / "train.json"),
        workflow_type="train",
        tracking=None if uri == NO_TRACKING else tracking_settings(uri, cell["study"], run),
        **_overrides(cell, folder),
    )
    workflow.initialize()
    data = workflow.parser.get_parsed_content("data")
    test_preprocessing = workflow.parser.get_parsed_content("test#preprocessing")
    ready = time.monotonic()
    refuse_dishonest_data(data)
    refuse_noisy_test(test_preprocessing)
    checked = time.monotonic()
    workflow.run()
    workflow.finalize()
    trained = time.monotonic()
    record = _record(cell, folder)
    _note(uri, cell, run, record)
    ended = time.monotonic()
    record["cost"]["wall_seconds"] = round(ended - began, 2)
    record["cost"]["runner_seconds"] = round(checked - ready + ended - trained, 2)
    write_atomically(json.dumps(record, indent=2) + "\n", folder / RECORD)


def _overrides(cell: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    case_record = {
        "_target_": "monai_noisylabel.study.CaseRecord",
        "metric": "@test#dice",
        "path": str(folder / "eval" / "test_cases.csv"),
        "items": "$@data.test",
        "max_epochs": "@max_epochs",
    }
    return {
        "bundle_root": cell["bundle"],
        **cell["options"],
        "ckpt_dir": str(folder / "models"),
        "output_dir": str(folder / "eval"),
        "resume": True,
        "test#handlers": [case_record],
    }


def _record(cell: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "eval" / "summary.json").read_text(encoding="utf-8"))
    gpu = torch.cuda.is_available()
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return {
        "cell": dict(cell),
        "summary": summary,
        "cost": {
            "seconds_per_epoch": summary["seconds"] / max(1, summary["epochs"]),
            "peak_memory_mib": round(kibibytes / 1024),
            "peak_gpu_memory_mib": round(torch.cuda.max_memory_allocated() / MEBIBYTE) if gpu else None,
        },
        "made_by": {
            "monai_noisylabel": monai_noisylabel.__version__,
            "monai": monai.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": torch.cuda.get_device_name() if gpu else platform.machine(),
        },
    }


def _note(uri: str, cell: Mapping[str, Any], run: str, record: Mapping[str, Any]) -> None:
    """Add the results to the run of MLflow; a cell is not lost because this cannot be done."""
    if uri == NO_TRACKING:
        return
    dice = record["summary"]["test_dice"]
    found = {f"test_dice_{name}": dice[name]["dice"]["mean"] for name in ("b_model", "l_model") if name in dice}
    found["test_dice_last_10"] = dice["last_10_mean"]
    numbers = {name: value for name, value in {**found, **record["cost"]}.items() if value is not None}
    try:
        note_results(uri, cell, run, numbers)
    except Exception as error:
        logger.warning(f"The results could not be added to the run {run} in {uri}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
