"""A picture of a simulation: some of its cases, with the clean and the noisy contour on the image."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from monai_noisylabel.corruption.window import square_window
from monai_noisylabel.data.case_label import read_case_image, read_case_label
from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.data.original_label import read_original
from monai_noisylabel.handlers.atomic import save_figure_atomically

__all__ = ["choose_cases", "draw_contact_sheet"]

SHOWN, COLUMNS = 12, 4
WIDE, NARROW = ("#00e5ff", 3.0), ("#ff9500", 1.2)  # clean below noisy; told apart without red and green
CONTEXT = 1.5  # side of a panel over the longer side of what is labelled in it

Line = Mapping[str, Any]


def draw_contact_sheet(
    lines: Sequence[Line], items: Mapping[str, Mapping[str, Any]], spec: DatasetSpec, out: Path, title: str
) -> Path:
    """Draw up to twelve noisy cases as they are on disk, and save them as ``contact_sheet.png``.

    A volume is shown on the slice along its last axis that its noise changes most.

    Args:
        lines: records of the simulation.
        items: items of the dataset by case.
        spec: the dataset.
        out: folder of the simulation.
        title: what to write above.
    """
    shown = choose_cases(lines)
    rows = max(1, -(-len(shown) // COLUMNS))
    figure = Figure(figsize=(3.0 * COLUMNS, 3.35 * rows + 0.9), layout="constrained", facecolor="white")
    figure.suptitle(textwrap.fill(title, 120), fontsize=11)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, line in zip(panels, shown, strict=False):
        _draw(axes, line, items[line["case"]], spec, out)
    for axes in panels:
        axes.set_axis_off()
    clean, noisy = (Line2D([], [], color=colour, linewidth=width) for colour, width in (WIDE, NARROW))
    handles: list[Any] = [clean, noisy, (clean, noisy)]
    figure.legend(handles, ["clean label", "noisy label", "both"], loc="outside lower center", ncols=3, frameon=False)
    path = out / "contact_sheet.png"
    save_figure_atomically(figure, path)
    return path


def choose_cases(lines: Sequence[Line], count: int = SHOWN) -> list[Line]:
    """Cases that show what a simulation is like: every model, from its mildest to its worst case.

    A volume is shown once, with the changed slice that has most foreground. Of cases alike in model and Dice (to
    two digits) the first is shown, if there are enough others. If fewer cases are noisy, no clean ones take their
    places; if none is, the first ones are shown.

    Args:
        lines: records of the simulation.
        count: how many cases to choose.

    Returns:
        Their records, by model and falling Dice.
    """
    best: dict[str, Line] = {}
    for line in lines:
        if _mean_dice(line) < 1:
            rival = best.get(line["volume"])
            if rival is None or _foreground(line) > _foreground(rival):
                best[line["volume"]] = line
    ordered = sorted(best.values() or list(lines)[:count], key=lambda line: (line["model"], -_mean_dice(line)))
    unlike = list({(line["model"], round(_mean_dice(line), 2)): line for line in reversed(ordered)}.values())[::-1]
    groups: dict[str, list[Line]] = defaultdict(list)
    for line in unlike if len(unlike) >= count else ordered:
        groups[line["model"]].append(line)
    quota = dict.fromkeys(groups, 0)
    while sum(quota.values()) < min(count, sum(map(len, groups.values()))):
        open_groups = [model for model, group in groups.items() if quota[model] < len(group)]
        quota[min(open_groups, key=lambda model: quota[model])] += 1
    return [line for model, group in groups.items() for line in _evenly(group, quota[model])]


def _evenly(lines: Sequence[Line], count: int) -> list[Line]:
    return [lines[pick] for pick in np.linspace(0, len(lines) - 1, count).round().astype(int)]


def _mean_dice(line: Line) -> float:
    """Mean over the structures that the clean or the noisy label holds."""
    held = [dice for number, dice in line["dice"].items() if _voxels_of(line, number)]
    return float(np.mean(held)) if held else 1.0


def _voxels_of(line: Line, number: str) -> int:
    table = np.array(line["voxels"])
    table, index = (table[int(number) - 1], 1) if table.ndim == 3 else (table, int(number))
    return int(table[index].sum() + table[:, index].sum())


def _foreground(line: Line) -> int:
    table = np.array(line["voxels"])
    return int(table[..., 1:, :].sum())


def _draw(axes: Axes, line: Line, item: Mapping[str, Any], spec: DatasetSpec, out: Path) -> None:
    label = read_case_label(item, spec)
    files = [out / name for name in line["checksums"]["files"]]
    noisy = label.masks_in([read_original(file, coloured=spec.manifest.coloured).values for file in files])
    image = read_case_image(item, label, spec)
    clean, plane = label.masks, item.get("slice")
    if clean.ndim == 4:
        plane = _most_changed(clean, noisy) if plane is None else plane
        image, clean, noisy = image[..., plane], clean[..., plane], noisy[..., plane]
        if (label.axes or "")[:2] == "RA":  # radiological view: patient's right on the left, front on top
            image, clean, noisy = (array[:, ::-1, ::-1] for array in (image, clean, noisy))
    box = square_window((clean | noisy).any(0), label.spacing[:2], CONTEXT)
    picture = image[(slice(None), *box)]
    low, high = spec.manifest.preprocessing.window or np.percentile(picture, (1, 99)).tolist()
    picture = ((picture - low) / max(high - low, 1e-6)).clip(0, 1)
    aspect = label.spacing[1] / label.spacing[0]
    axes.imshow(
        np.moveaxis(picture, 0, -1).swapaxes(0, 1) if len(picture) == 3 else picture[0].T, "gray", aspect=aspect
    )
    for masks, (colour, width) in ((clean, WIDE), (noisy, NARROW)):
        for mask in masks:
            _contour(axes, mask[box], colour, width)
    where = "" if plane is None or "slice" in item else f", slice {plane}"
    axes.set_title(f"{line['case']}{where}\n{line['model']}, Dice {_mean_dice(line):.2f}", fontsize=8.5)


def _most_changed(clean: np.ndarray, noisy: np.ndarray) -> int:
    changed = (clean ^ noisy).sum((0, 1, 2))
    return int(np.argmax(changed if changed.any() else clean.sum((0, 1, 2))))


def _contour(axes: Axes, mask: np.ndarray, colour: str, width: float) -> None:
    """Outline of a mask, closed at the border of the panel."""
    if mask.any():
        across, down = (np.arange(-1, size + 1) for size in mask.shape)
        axes.contour(across, down, np.pad(mask.T, 1).astype(float), levels=[0.5], colors=colour, linewidths=width)
