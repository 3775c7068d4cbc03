"""Pictures of a study: memorisation, methods against noise, and what the models draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from monai_noisylabel.handlers.atomic import save_figure_atomically
from monai_noisylabel.handlers.overlay import draw_outlines
from monai_noisylabel.study.comparison import MODELS
from monai_noisylabel.study.spec import CLEAN

__all__ = ["draw_heat_map", "draw_memorisation", "draw_samples", "read_samples"]

Sample = Mapping[str, np.ndarray]


def draw_memorisation(epochs: pd.DataFrame, dataset: str, noise: str, path: Path) -> None:
    """Test Dice against epoch, a line per method: the mean over seeds, in a band from the worst to the best of them.

    A method that memorises label noise rises and falls again.

    Args:
        epochs: rows per cell and epoch.
        dataset: name of the dataset.
        noise: name of the noise; plain training on clean labels is drawn dashed.
        path: the PNG file.
    """
    chosen = epochs[(epochs["dataset"] == dataset) & epochs["noise"].isin([noise, CLEAN]) & epochs["test_dice"].notna()]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    for number, ((labels, method), rows) in enumerate(chosen.groupby(["noise", "method"], sort=False)):
        dice = rows.groupby("epoch")["test_dice"].agg(["mean", "min", "max"])
        clean = labels == CLEAN
        colour = "black" if clean or method == "baseline" else colours[number % len(colours)]
        name = f"{method}, clean labels" if clean else str(method)
        axes.plot(dice.index, dice["mean"], "--" if clean else "-", color=colour, label=name)
        axes.fill_between(dice.index, dice["min"], dice["max"], color=colour, alpha=0.12, linewidth=0)
    axes.set(xlabel="epoch", ylabel="test Dice", title=f"{dataset}, {noise}")
    axes.grid(alpha=0.3)
    if len(chosen):
        axes.legend(fontsize=7, ncols=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure_atomically(figure, path)


def draw_heat_map(comparison: pd.DataFrame, dataset: str, model: str, path: Path) -> None:
    """Test Dice of every method under every noise, as colours and numbers.

    Args:
        comparison: from :func:`~monai_noisylabel.study.comparison.compare`.
        dataset: name of the dataset.
        model: ``l_model``, ``last_10`` or ``b_model``.
        path: the PNG file.
    """
    rows = comparison[comparison["dataset"] == dataset]
    rows = rows.assign(label=np.where(rows["noise_of_labels"] == CLEAN, "(clean labels)", rows["method"]))
    table = rows.pivot_table(index="label", columns="noise", values=model, sort=False, dropna=False)
    figure = Figure(figsize=(3.2 + 1.1 * table.shape[1], 1.2 + 0.34 * table.shape[0]), layout="constrained")
    axes = figure.add_subplot()
    values = table.to_numpy(dtype=float)
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)
    axes.imshow(values, cmap="viridis", aspect="auto", vmin=low, vmax=high)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value < (low + high) / 2 else "black"
            axes.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(table.shape[1]), table.columns)
    axes.set_yticks(range(table.shape[0]), table.index)
    axes.set_title(f"{dataset}: test Dice, {MODELS[model]}", fontsize=9)
    save_figure_atomically(figure, path)


def read_samples(path: Path) -> Mapping[str, Sample]:
    """Case -> ``image``, ``label`` and ``pred``, as a cell left them; nothing where there is no file."""
    samples: dict[str, dict[str, np.ndarray]] = {}
    if path.exists():
        with np.load(path) as arrays:
            for name in arrays.files:
                case, _, key = name.rpartition("|")
                samples.setdefault(case, {})[key] = arrays[name]
    return samples


def draw_samples(methods: Sequence[tuple[str, Mapping[str, Sample]]], title: str, path: Path) -> None:
    """A sheet with a row per test case: the image with its label, then with the prediction of each L-model.

    Args:
        methods: name and samples of each method; the image and the label are the first one's.
        title: title of the sheet.
        path: the PNG file.
    """
    cases = list(methods[0][1])
    figure = Figure(figsize=(1.5 * (len(methods) + 1), 1.6 * len(cases) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(len(cases), len(methods) + 1, squeeze=False)
    for row, case in enumerate(cases):
        first = methods[0][1][case]
        panels = [("label", first["label"]), *((name, samples[case]["pred"]) for name, samples in methods)]
        for axes, (name, masks) in zip(grid[row], panels, strict=True):
            draw_outlines(axes, first["image"].astype(np.float32), masks, width=0.8)
            if row == 0:
                axes.set_title(name.replace(", ", ",\n"), fontsize=6)
        grid[row][0].text(0.02, 0.98, case, transform=grid[row][0].transAxes, fontsize=5, color="yellow", va="top")
    save_figure_atomically(figure, path)
