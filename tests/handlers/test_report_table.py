"""The table at the end of a training."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from monai_noisylabel.handlers.report_table import print_report

ONE = {"mean": 0.91234, "liver": 0.91234}
TWO = {"mean": 0.5, "liver": 0.75, "tumour": 0.25}


def _printed(summary: dict[str, Any]) -> list[list[str]]:
    """The lines printed, cut at the table's borders."""
    text = io.StringIO()
    print_report(summary, Path("out"), Console(file=text, width=100))
    lines = text.getvalue().replace("┃", "│").splitlines()
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in lines if set(line) - set("━─┏┡└┓┩┘┳╇┴┼├┤ ")
    ]


def test_both_models_and_all_labels(capsys: pytest.CaptureFixture[str]) -> None:
    summary = {
        "classes": ["liver", "tumour"],
        "test_dice": {
            "l_model": {"epoch": 40, "dice": TWO},
            "b_model": {"epoch": 7, "dice": {"mean": 1.0, "liver": 1.0, "tumour": 1.0}},
            "last_10_mean": 0.5,
        },
        "training_labels": {
            "cases": 3,
            "given_to_clean": TWO,
            "cleansed_to_clean": TWO,
            "cleansed_to_given": TWO,
            "changed_cases": 1,
        },
    }
    assert _printed(summary) == [
        ["Dice on the test set"],
        ["", "mean", "liver", "tumour"],
        ["B-model (best on validation), epoch 7", "1.000", "1.000", "1.000"],
        ["L-model (last), epoch 40", "0.500", "0.750", "0.250"],
        ["Dice of the training labels"],
        ["", "mean", "liver", "tumour"],
        ["given labels to the clean ones", "0.500", "0.750", "0.250"],
        ["cleansed labels to the clean ones", "0.500", "0.750", "0.250"],
        ["cleansed labels to the given ones", "0.500", "0.750", "0.250"],
        ["Details: out/summary.json, metrics.csv, report.png"],
    ]
    assert capsys.readouterr().out == "", "a console that is given is printed to"


def test_one_class_needs_no_mean_and_unknown_labels_no_table() -> None:
    summary = {
        "classes": ["liver"],
        "test_dice": {"l_model": {"epoch": 2, "dice": ONE}, "last_10_mean": None},
        "training_labels": {"cases": 0},
    }
    assert _printed(summary) == [
        ["Dice on the test set"],
        ["", "mean"],
        ["L-model (last), epoch 2", "0.912"],
        ["Details: out/summary.json, metrics.csv, report.png"],
    ]


def test_what_is_not_defined_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    undefined = {"mean": float("nan"), "liver": float("nan")}
    summary = {
        "classes": ["liver"],
        "test_dice": {"l_model": {"epoch": 2, "dice": undefined}},
        "training_labels": {"cleansed_to_given": ONE},
    }
    print_report(summary, Path("out"))
    assert "    - │" in capsys.readouterr().out
