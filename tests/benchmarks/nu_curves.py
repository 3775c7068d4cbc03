"""Draw docs/images/t_loss_nu.png: T-Loss's nu, and the test Dice, over trainings of the bundle t_loss.

``python tests/benchmarks/nu_curves.py [--out FILE] "clean labels=RUN" "noisy labels=RUN" ...`` where RUN is the output
folder (``--output_dir``) of a training.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "t_loss_nu.png"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000")


def read(folder: Path, name: str) -> tuple[list[int], list[float]]:
    """Epochs in which a number was measured, and the number."""
    with open(folder / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(name)]
    return [int(row["epoch"]) for row in rows], [float(row[name]) for row in rows]


def draw(runs: dict[str, Path], path: Path) -> None:
    """Write the picture."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    tolerance, dice = figure.subplots(1, 2)
    for (label, folder), color in zip(runs.items(), COLORS, strict=False):
        tolerance.plot(*read(folder, "nu"), label=label, color=color, linewidth=1.8)
        dice.plot(*read(folder, "test_mean_dice"), label=label, color=color, linewidth=1.4)
    tolerance.set(ylabel="degrees of freedom nu", yscale="log")
    dice.set(ylabel="test Dice", ylim=(0.6, 1))
    dice.legend(frameon=False, fontsize=9, loc="lower left")
    for panel in (tolerance, dice):
        style(panel)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def style(panel: Axes) -> None:
    """What both panels share."""
    panel.set_xlabel("epoch")
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="#e5e5e5", linewidth=0.6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=PICTURE)
    parser.add_argument("runs", nargs="+", help="LABEL=FOLDER")
    arguments = parser.parse_args()
    draw({label: Path(folder) for label, folder in (run.rsplit("=", 1) for run in arguments.runs)}, arguments.out)
