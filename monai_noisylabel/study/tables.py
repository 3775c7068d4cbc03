"""Tables of a study as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from monai_noisylabel.study.comparison import MODELS
from monai_noisylabel.study.records import Records
from monai_noisylabel.study.spec import CLEAN, Study

__all__ = ["TextTable", "class_table", "cost_table", "main_table", "method_label"]


@dataclass(frozen=True)
class TextTable:
    """A table of strings.

    Args:
        title: its title.
        columns: heads of the columns.
        rows: cells.
        best: indices of rows to set in bold.

    Example:
        >>> print(TextTable("Dice", ("method", "Dice"), [("a", "0.5"), ("b|c", "0.7")], best=(1,)).markdown())
        | method | Dice |
        |---|---|
        | a | 0.5 |
        | **b\\|c** | **0.7** |
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: Sequence[int] = ()

    def markdown(self) -> str:
        """The table without its title, in Markdown."""
        lines = ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        for number, row in enumerate(self.rows):
            cells = [cell.replace("|", "\\|") for cell in row]
            if number in self.best:
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def html(self) -> str:
        """The table without its title, in HTML."""
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        body = "".join(
            f"<tr{' class=best' if number in self.best else ''}>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in row)
            + "</tr>"
            for number, row in enumerate(self.rows)
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def method_label(method: str, labels: str) -> str:
    """Name of a row."""
    return f"{method}, clean labels" if labels == CLEAN else method


def main_table(study: Study, comparison: pd.DataFrame, dataset: str, noise: str) -> TextTable:
    """Models, interval, gap, rank and tests; the method on noisy labels with the best headline model in bold.

    Args:
        study: the study.
        comparison: from :func:`~monai_noisylabel.study.comparison.compare`.
        dataset: name of the dataset.
        noise: name of the noise.
    """
    rows = _rows(comparison, dataset, noise)
    headline = study.protocol.headline
    percent = f"{study.protocol.confidence:.0%} CI".replace("%", " %")
    columns = ["method", "runs", *MODELS.values(), f"{percent} of {MODELS[headline]}", "gap closed", "mean rank"]
    cells = [
        [
            method_label(row.method, row.noise_of_labels),
            f"{row.runs}/{len(study.seeds)}",
            *(_mean_sd(getattr(row, model), getattr(row, f"{model}_sd")) for model in MODELS),
            f"{row.low:.3f} to {row.high:.3f}" if _known(row.low) else "",
            f"{row.gap_closed:.0%}".replace("%", " %") if _known(row.gap_closed) else "",
            f"{row.rank:.2f}" if _known(row.rank) else "",
            _p(row.p_baseline),
            _p(row.p_best),
        ]
        for row in rows.itertuples()
    ]
    noisy = rows[(rows["noise_of_labels"] != CLEAN) & rows[headline].notna()].reset_index()
    best = [] if noisy.empty else [int(noisy.loc[noisy[headline].idxmax(), "index"])]
    return TextTable(_title(dataset, noise), [*columns, "p to baseline", "p to best"], cells, best)


def class_table(study: Study, records: Records, dataset: str, noise: str) -> TextTable | None:
    """Dice per structure of the headline model; None where there is one structure, or no result yet."""
    found = records.results[
        (records.results["dataset"] == dataset)
        & records.results["noise"].isin([noise, CLEAN])
        & (records.results["model"] == study.protocol.headline)
    ]
    classes = [name for name in dict.fromkeys(found["class"]) if name != "mean"]
    if len(classes) < 2:
        return None
    cells = []
    for (labels, method), rows in found.groupby(["noise", "method"], sort=False):
        dice = rows.groupby("class")["dice"]
        values = [_mean_sd(dice.mean().get(name, math.nan), dice.std().get(name, math.nan)) for name in classes]
        cells.append([method_label(str(method), str(labels)), *values])
    title = f"{_title(dataset, noise)}: {MODELS[study.protocol.headline]} by structure"
    return TextTable(title, ["method", *classes], cells)


def cost_table(comparison: pd.DataFrame, dataset: str, noise: str) -> TextTable:
    """Time and memory of each method, and its time in relation to the baseline's."""
    rows = _rows(comparison, dataset, noise)
    reference = rows["seconds_per_epoch"].iloc[1]
    cells = [
        [
            method_label(row.method, row.noise_of_labels),
            f"{row.seconds_per_epoch:.2f}" if _known(row.seconds_per_epoch) else "",
            f"{row.seconds_per_epoch / reference:.2f}" if _known(row.seconds_per_epoch / reference) else "",
            f"{row.memory_mib:.0f}" if _known(row.memory_mib) else "",
        ]
        for row in rows.itertuples()
    ]
    columns = ["method", "seconds per epoch", "relative to the baseline", "peak memory, MiB"]
    return TextTable(f"{_title(dataset, noise)}: cost", columns, cells)


def _rows(comparison: pd.DataFrame, dataset: str, noise: str) -> pd.DataFrame:
    chosen = (comparison["dataset"] == dataset) & (comparison["noise"] == noise)
    return comparison[chosen].reset_index(drop=True)


def _title(dataset: str, noise: str) -> str:
    return f"{dataset}, {noise}"


def _known(value: float) -> bool:
    return not math.isnan(value)


def _mean_sd(mean: float, sd: float) -> str:
    if not _known(mean):
        return ""
    return f"{mean:.3f} ± {sd:.3f}" if _known(sd) else f"{mean:.3f}"


def _p(value: float) -> str:
    return "" if not _known(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
