"""The table a training ends with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["print_report"]


def print_report(summary: Mapping[str, Any], output_dir: Path, console: Console | None = None) -> None:
    """Print test Dice, label quality and where the files are."""
    console = console or Console()
    console.print(_table("Dice on the test set", _test_rows(summary), summary["classes"]))
    label_rows = _label_rows(summary["training_labels"])
    if label_rows:
        console.print(_table("Dice of the training labels", label_rows, summary["classes"]))
    console.print(f"Details: {output_dir}/summary.json, metrics.csv, report.png", soft_wrap=True, highlight=False)


def _test_rows(summary: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    rows = {}
    for key, title in (("b_model", "B-model (best on validation)"), ("l_model", "L-model (last)")):
        if key in summary["test_dice"]:
            result = summary["test_dice"][key]
            rows[f"{title}, epoch {result['epoch']}"] = result["dice"]
    return rows


def _label_rows(labels: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    titles = {
        "given_to_clean": "given labels to the clean ones",
        "cleansed_to_clean": "cleansed labels to the clean ones",
        "cleansed_to_given": "cleansed labels to the given ones",
    }
    return {title: labels[key] for key, title in titles.items() if key in labels}


def _table(title: str, rows: Mapping[str, Mapping[str, float]], classes: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    names = ["mean", *classes] if len(classes) > 1 else ["mean"]
    for name in names:
        table.add_column(name, justify="right")
    for row, values in rows.items():
        table.add_row(row, *(_shown(values[name]) for name in names))
    return table


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
