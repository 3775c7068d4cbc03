"""The records of a study's cells as tidy tables: one row per number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from monai_noisylabel.handlers.atomic import draft_of
from monai_noisylabel.study.cells import Cell
from monai_noisylabel.study.process import FAILURE, RECORD

__all__ = ["LAST_EPOCHS", "Records", "read_records", "write_tables"]

LAST_EPOCHS = 10
KEYS = ["dataset", "noise", "method", "seed"]
COLUMNS = {
    "results": [*KEYS, "bundle", "model", "epoch", "class", "dice"],
    "cases": [*KEYS, "model", "case", "patient", "class", "dice"],
    "epochs": [*KEYS, "epoch", "train_loss", "val_dice", "test_dice"],
    "cost": [*KEYS, "epochs", "seconds_per_epoch", "peak_memory_mib", "peak_gpu_memory_mib", "wall_seconds"],
}
COLUMNS["cost"] += ["runner_seconds", "threads", "device"]


@dataclass(frozen=True)
class Records:
    """What the cells of a study left.

    Attributes:
        results: Dice on the test set per cell, model (``b_model``, ``l_model``, ``last_10``) and class, and their
            ``mean``.
        cases: Dice per cell, model, test case and class.
        epochs: loss, validation and test Dice per cell and epoch.
        cost: time and memory per cell.
        failed: cell -> why it failed.
        missing: cells that have not run, or not to their end.
        versions: what made the cells, each combination of versions and devices once.
    """

    results: pd.DataFrame
    cases: pd.DataFrame
    epochs: pd.DataFrame
    cost: pd.DataFrame
    failed: dict[str, str]
    missing: list[str]
    versions: list[dict[str, str]]

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {name: getattr(self, name) for name in COLUMNS}


def read_records(cells: Sequence[Cell], out: Path) -> Records:
    """Gather what the cells left, each once, in the order of the study.

    Args:
        cells: the cells of the study.
        out: its folder.
    """
    rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    failed: dict[str, str] = {}
    missing: list[str] = []
    versions: list[dict[str, str]] = []
    for cell in cells:
        folder = cell.folder(out)
        if (folder / RECORD).exists():
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            for name, frame in _tables_of(cell, folder, record).items():
                rows[name].append(frame)
            versions += [] if record["made_by"] in versions else [record["made_by"]]
        elif (folder / FAILURE).exists():
            failed[cell.name] = json.loads((folder / FAILURE).read_text(encoding="utf-8"))["message"]
        else:
            missing.append(cell.name)
    frames = {
        name: pd.concat(rows[name], ignore_index=True) if rows[name] else pd.DataFrame(columns=columns)
        for name, columns in COLUMNS.items()
    }
    return Records(**frames, failed=failed, missing=missing, versions=versions)


def write_tables(records: Records, out: Path) -> list[Path]:
    """Write every table as CSV and as Parquet.

    Returns:
        The files.
    """
    written = []
    for name, frame in records.frames().items():
        for ending, write in ((".csv", frame.to_csv), (".parquet", frame.to_parquet)):
            path = out / f"{name}{ending}"
            with draft_of(path) as draft:
                write(draft, index=False)
            written.append(path)
    return written


def _tables_of(cell: Cell, folder: Path, record: dict[str, Any]) -> dict[str, pd.DataFrame]:
    keys = {name: getattr(cell, name) for name in KEYS}
    history = pd.read_csv(folder / "eval" / "metrics.csv")
    epochs_of = _epochs_of_models(history, record["summary"]["test_dice"])
    frames = {
        "results": _results(history, record["summary"], epochs_of).assign(bundle=Path(cell.bundle).name),
        "cases": _cases(folder / "eval" / "test_cases.csv", epochs_of),
        "epochs": history.rename(columns={"val_mean_dice": "val_dice", "test_mean_dice": "test_dice"}),
        "cost": pd.DataFrame([{**record["cost"], **_setting(cell, record)}]),
    }
    return {name: frame.assign(**keys).reindex(columns=COLUMNS[name]) for name, frame in frames.items()}


def _setting(cell: Cell, record: dict[str, Any]) -> dict[str, Any]:
    return {"epochs": record["summary"]["epochs"], "threads": cell.threads, "device": record["made_by"]["device"]}


def _epochs_of_models(history: pd.DataFrame, test_dice: dict[str, Any]) -> dict[str, list[int]]:
    """The epochs whose test results make up each model."""
    tested = history.loc[history["test_mean_dice"].notna(), "epoch"] if "test_mean_dice" in history else []
    models = [name for name in ("b_model", "l_model") if name in test_dice]
    found: dict[str, list[int]] = {name: [int(test_dice[name]["epoch"])] for name in models}
    return {**found, "last_10": [int(epoch) for epoch in tested][-LAST_EPOCHS:]}


def _results(history: pd.DataFrame, summary: dict[str, Any], epochs_of: dict[str, list[int]]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for model, epochs in epochs_of.items():
        names = {"mean": "test_mean_dice", **{name: f"test_mean_dice_{name}" for name in summary["classes"]}}
        if model == "last_10":
            lines = history[history["epoch"].isin(epochs)]
            dice = {name: float(lines[column].mean()) for name, column in names.items() if column in lines}
        else:
            dice = summary["test_dice"][model]["dice"]
        epoch = epochs[-1] if epochs else None
        rows += [{"model": model, "epoch": epoch, "class": name, "dice": dice.get(name)} for name in names]
    return pd.DataFrame(rows)


def _cases(path: Path, epochs_of: dict[str, list[int]]) -> pd.DataFrame:
    lines = pd.read_csv(path, dtype={"case": str, "patient": str, "class": str}, keep_default_na=True)
    lines = lines.drop_duplicates(["epoch", "case", "class"], keep="last")
    parts = []
    for model, epochs in epochs_of.items():
        chosen = lines[lines["epoch"].isin(epochs)]
        means = chosen.groupby(["case", "patient", "class"], sort=False, as_index=False)["dice"].mean()
        parts.append(means.assign(model=model))
    return pd.concat(parts, ignore_index=True)
