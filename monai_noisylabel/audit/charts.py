"""Charts of an audit as SVG, to stand in its page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from monai_noisylabel.metrics import effort_to_find, review_curve

__all__ = ["review_chart", "score_histogram", "type_chart"]

INK, FAINT, BLUE = "#1b2733", "#8795a1", "#0072b2"
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "audit"}
SHARE = 0.8


def review_chart(scores: Sequence[float], errors: Sequence[float]) -> tuple[str, int]:
    """Errors that are expected to be found against the number of cases reviewed, the most suspicious first.

    Args:
        scores: suspicion of each case.
        errors: errors expected in each case.

    Returns:
        The chart, and after how many cases four fifths of the expected errors are found.
    """
    curve = review_curve(torch.tensor(scores, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64))
    enough = int(np.ceil(effort_to_find(curve, SHARE)))
    reviewed, found = curve.numpy()
    figure, axes = _figure()
    axes.plot([0, reviewed[-1]], [0, found[-1]], color=FAINT, linestyle="--", linewidth=1.2, label="in any order")
    axes.plot(reviewed, found, color=BLUE, linewidth=2.2, label="in this order")
    if found[-1] > 0:
        axes.plot([enough] * 2, [0, np.interp(enough, reviewed, found)], color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlabel="cases reviewed", ylabel="expected errors found", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure), enough


def score_histogram(scores: Sequence[float]) -> str:
    """Number of cases against their suspicion."""
    figure, axes = _figure()
    axes.hist(scores, bins=np.linspace(0, 1, 21).tolist(), color=BLUE, edgecolor="white")
    axes.set(xlabel="suspicion of the case", ylabel="cases", xlim=(0, 1))
    return _svg(figure)


def type_chart(counts: Sequence[tuple[str, int]]) -> str:
    """Number of findings of each type."""
    figure, axes = _figure()
    bars = axes.barh(range(len(counts)), [count for _, count in counts], color=BLUE)
    axes.set_yticks(range(len(counts)), [name for name, _ in counts], fontsize=9)
    axes.bar_label(bars, padding=3, color=INK, fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="findings")
    axes.margins(x=0.12)
    return _svg(figure)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 2.9), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
