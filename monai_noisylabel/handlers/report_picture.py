"""The picture a training ends with: its curves, and what became of the labels it changed most or weighed least."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from monai.data import Dataset

from monai_noisylabel.handlers.atomic import save_figure_atomically
from monai_noisylabel.handlers.label_quality import LabelQuality
from monai_noisylabel.handlers.overlay import draw_outlines
from monai_noisylabel.handlers.run_history import RunHistory
from monai_noisylabel.masks import to_masks

__all__ = ["draw_report"]

_SHOWN_CASES = 4
_TICK_WIDTH = 12


def draw_report(
    history: RunHistory,
    items: Dataset,
    quality: LabelQuality,
    path: Path,
    num_classes: int | None,
    truth_known: bool,
) -> None:
    """Draw curves over epochs and overlays of clean, given and cleansed labels, and save them to ``path``.

    Of a method that weighs cases, the weights are drawn in order, wrong labels in red where the truth is known, and
    the cases shown go from the lowest weight to the highest.

    Args:
        history: the run's rows.
        items: un-augmented training items.
        quality: label comparisons of these items.
        path: the PNG file.
        num_classes: classes including background (multi-class), or None (multi-label).
        truth_known: whether ``clean_label`` is the truth and worth showing.
    """
    keys = {"clean_label": "clean"} if truth_known else {}
    keys |= {"label": "given"}
    keys |= {"pseudo_label": "cleansed"} if quality.cleansed_to_given else {}
    shown = _cases_to_show(quality, len(items))
    published = _published(history)
    panels = len(published) + bool(quality.weights)
    heights = [1.2, *[0.6] * panels, *[1.0] * len(keys)]
    figure = Figure(figsize=(2.6 * max(3, len(shown)), 2.6 * sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), len(shown), height_ratios=heights)
    _curves(figure.add_subplot(grid[0, :]), history)
    for row, (group, names) in enumerate(published.items(), start=1):
        _values(figure.add_subplot(grid[row, :]), history, group, names)
    if quality.weights:
        _weights(figure.add_subplot(grid[panels, :]), quality)
    for column, index in enumerate(shown):
        item = items[index]
        plane = _plane(item, list(keys), num_classes)
        for row, (key, title) in enumerate(_titled(keys, quality, item["case"]).items(), start=1 + panels):
            axes = figure.add_subplot(grid[row, column])
            _overlay(axes, item, key, plane, num_classes)
            axes.set_title(f"{item['case']}: {title}" if key == next(iter(keys)) else title, fontsize=8)
    save_figure_atomically(figure, path, dpi=110)


def _titled(keys: Mapping[str, str], quality: LabelQuality, case: str) -> dict[str, str]:
    """The titles of a case's rows, with its weight if it has one."""
    weight = quality.weights.get(case)
    return {
        key: f"{title}, weight {weight:.2f}" if key == "label" and weight is not None else title
        for key, title in keys.items()
    }


def _cases_to_show(quality: LabelQuality, count: int) -> list[int]:
    if quality.weights:
        ranked = [quality.cases.index(case) for case, _ in quality.by_weight()]
        return [ranked[pick] for pick in _spread(len(ranked))]
    reference = quality.cleansed_to_given or quality.given_to_clean
    agreement = [float(value.nanmean().nan_to_num(1.0)) for value in reference.values()]
    if not agreement:
        return list(range(min(_SHOWN_CASES, count)))
    order = np.argsort(agreement, kind="stable")
    changed = [int(index) for index in order if agreement[index] < 1.0] or [int(index) for index in order]
    return [changed[pick] for pick in _spread(len(changed))]


def _spread(count: int) -> list[int]:
    """The first, the last and some between of so many."""
    return [int(pick) for pick in np.linspace(0, count - 1, min(_SHOWN_CASES, count)).round()]


def _curves(axes: Axes, history: RunHistory) -> None:
    for key, style in (("test_mean_dice", "-"), ("val_mean_dice", "--")):
        points = history.values(key)
        if points:
            axes.plot(*zip(*points, strict=True), style, label=key.replace("_", " "), color="black", alpha=0.8)
    for name in sorted({key for row in history.rows for key in row if key.startswith("test_mean_dice_")}):
        axes.plot(*zip(*history.values(name), strict=True), linewidth=0.8, label=name.removeprefix("test_mean_dice_"))
    for number, (epoch, _) in enumerate(history.values("labels_relabel")):
        axes.axvline(epoch, color="grey", linewidth=0.4, label=None if number else "label round")
    axes.set(xlabel="epoch", ylabel="Dice", ylim=(0, 1))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, ncols=3, loc="lower right")


def _published(history: RunHistory) -> dict[str, list[str]]:
    """Names of what the method published, by what they have in common before the slash."""
    groups: dict[str, list[str]] = {}
    for name in history.published():
        groups.setdefault(name.split("/")[0], []).append(name)
    return groups


def _values(axes: Axes, history: RunHistory, group: str, names: Sequence[str]) -> None:
    """Curves over epochs; of entries of a matrix, named ``row to column``, the last values as a heat map."""
    ends = {name: tuple(name.removeprefix(f"{group}/").split(" to ")) for name in names}
    if all(len(pair) == 2 for pair in ends.values()):
        _matrix(axes, group, {pair: history.values(name)[-1][1] for name, pair in ends.items()})
        return
    for name in names:
        points = history.values(name)
        marker = "o" if len(points) == 1 else None  # which a line would not show
        axes.plot(*zip(*points, strict=True), marker=marker, label=name.removeprefix(f"{group}/"))
    axes.set(xlabel="epoch", ylabel=group.replace("_", " "))
    if len(names) > 1:
        axes.legend(fontsize=7, ncols=3)


def _weights(axes: Axes, quality: LabelQuality) -> None:
    """The weight of every case, the lowest first."""
    ranked = quality.by_weight()
    wrong = quality.wrong
    for kind, colour in (("wrong", "tab:red"), ("right", "tab:blue")) if wrong else (("", "black"),):
        points = [
            (rank, weight)
            for rank, (case, weight) in enumerate(ranked, start=1)
            if not wrong or wrong.get(case) == (kind == "wrong")
        ]
        axes.scatter([rank for rank, _ in points], [weight for _, weight in points], s=9, color=colour, label=kind)
    axes.axhline(1, color="grey", linewidth=0.4)
    axes.set(xlabel="training case, by rank in labels.csv", ylabel="weight")
    if wrong:
        axes.legend(fontsize=7, ncols=2)


def _matrix(axes: Axes, title: str, entries: Mapping[tuple[str, ...], float]) -> None:
    rows, columns = (list(dict.fromkeys(entry[axis] for entry in entries)) for axis in (0, 1))
    values = np.array([[entries.get((row, column), np.nan) for column in columns] for row in rows])
    axes.imshow(values, vmin=0, vmax=1, cmap="Blues", aspect=0.5)
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color="w" if value > 0.6 else "k")
    axes.set_xticks(range(len(columns)), [textwrap.fill(name, _TICK_WIDTH) for name in columns], fontsize=7)
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    axes.set_title(title.replace("_", " "), fontsize=8)


def _plane(item: Mapping[str, Any], keys: Sequence[str], num_classes: int | None) -> int | None:
    """The slice of a volume, along the last axis, on which its labels differ most; None in 2D."""
    labels = [_masks(item[key], num_classes) for key in keys]
    if labels[0].ndim == 3:
        return None
    area = sum((label ^ labels[0]).sum((0, 1, 2)) for label in labels[1:]) if len(labels) > 1 else 0
    if not np.any(area):
        area = labels[0].sum((0, 1, 2))
    return int(np.argmax(area))


def _overlay(axes: Axes, item: Mapping[str, Any], key: str, plane: int | None, num_classes: int | None) -> None:
    image = torch.as_tensor(item["image"]).numpy()
    masks = _masks(item[key], num_classes)
    if plane is not None:
        image, masks = image[..., plane], masks[..., plane]
    if plane is not None or "slice" in item:  # radiological view: patient's right on the left, front on top
        image, masks = image[:, ::-1, ::-1], masks[:, ::-1, ::-1]
    draw_outlines(axes, image, masks, width=1.0)


def _masks(label: Any, num_classes: int | None) -> np.ndarray:
    return to_masks(torch.as_tensor(label), num_classes).numpy()
