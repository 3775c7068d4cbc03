"""The report of a study: one page in Markdown and in HTML, with its tables and pictures."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import pandas as pd

from monai_noisylabel.handlers.atomic import write_atomically
from monai_noisylabel.study.cells import Cell, cells_of
from monai_noisylabel.study.comparison import MODELS, compare, settings_of, uses_clean_labels
from monai_noisylabel.study.pictures import draw_heat_map, draw_memorisation, draw_samples, read_samples
from monai_noisylabel.study.process import RECORD
from monai_noisylabel.study.records import LAST_EPOCHS, Records, read_records, write_tables
from monai_noisylabel.study.spec import Study
from monai_noisylabel.study.tables import TextTable, class_table, cost_table, main_table, method_label

__all__ = ["write_report"]

PICTURES = "pictures"
STYLE = (
    "body{font-family:sans-serif;max-width:72em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #bbb;padding:.25em .6em;text-align:right}td:first-child,th:first-child{text-align:left}"
    "tr.best{font-weight:bold}img{max-width:100%}pre{background:#f4f4f4;padding:.6em;overflow:auto}"
)
Part = str | TextTable | Path
"""A paragraph (a heading if it begins with #), a table or a picture."""


def write_report(study: Study, out: Path) -> list[Path]:
    """Write the tables, the pictures and the page of a study from what its cells left.

    Cells that failed or have not run are named; tables are of those that finished.

    Args:
        study: the study.
        out: its folder.

    Returns:
        The files: ``report.md``, ``report.html``, ``comparison.csv``, and ``results``, ``cases``, ``epochs`` and
        ``cost`` as CSV and Parquet.

    Raises:
        FileNotFoundError: if no cell has finished.
    """
    cells = cells_of(study, out)
    records = read_records(cells, out)
    if records.cost.empty:
        raise FileNotFoundError(f"No cell in {out} has finished; nothing can be reported yet.")
    comparison = compare(study, records)
    files = write_tables(records, out)
    write_atomically(comparison.to_csv(index=False), out / "comparison.csv")
    parts = _parts(study, cells, records, comparison, out)
    write_atomically("\n\n".join(_markdown(part, out) for part in parts) + "\n", out / "report.md")
    body = "\n".join(map(_html, parts))
    page = f"<!doctype html><meta charset=utf-8><title>{escape(study.name)}</title><style>{STYLE}</style>{body}\n"
    write_atomically(page, out / "report.html")
    return [out / "report.md", out / "report.html", out / "comparison.csv", *files]


def _parts(study: Study, cells: list[Cell], records: Records, comparison: pd.DataFrame, out: Path) -> list[Part]:
    parts: list[Part] = [f"# {study.name}", *([study.description] if study.description else []), _rules(study)]
    oracles = uses_clean_labels(study)
    if oracles:
        parts.append(f"Told what only clean labels can tell (oracle): {', '.join(oracles)}.")
    parts += _unfinished(records)
    for dataset, noise in settings_of(study):
        parts += [f"## {dataset}, {noise}", main_table(study, comparison, dataset, noise)]
        by_class = class_table(study, records, dataset, noise)
        parts += [] if by_class is None else [f"### {by_class.title}", by_class]
        costs = cost_table(comparison, dataset, noise)
        parts += [f"### {costs.title}", costs]
        parts += _pictures(cells, records, dataset, noise, out)
    parts.append("## Methods and noise")
    for dataset in study.datasets:
        path = out / PICTURES / f"{dataset}_heat_map.png"
        draw_heat_map(comparison, dataset, study.protocol.headline, path)
        parts.append(path)
    made = ["; ".join(f"{name} {version}" for name, version in made.items()) for made in records.versions]
    return [*parts, f"Made by: {' | '.join(made)}. Threads of a run: {study.protocol.threads}."]


def _rules(study: Study) -> str:
    protocol = study.protocol
    validation = "as noisy as the training labels" if protocol.noisy_validation else "clean"
    seeds = f"seeds {', '.join(map(str, study.seeds))}" if len(study.seeds) > 1 else f"one seed, {study.seeds[0]}"
    return (
        f"Test Dice against the given test labels, {seeds}: mean ± standard deviation over seeds. L-model: the last "
        f"epoch. Last {LAST_EPOCHS} epochs: mean of the last {LAST_EPOCHS} that were evaluated. B-model: best on the "
        f"validation set, whose labels are {validation}. Interval, gap, ranks and tests are about the "
        f"{MODELS[protocol.headline]}. The interval is a bootstrap over test patients and says nothing about other "
        "seeds. Gap closed = (method - noisy baseline) / (clean baseline - noisy baseline), empty where noise costs "
        "nothing. Ranks and p: over test patients, mean of all seeds; Wilcoxon signed-rank tests, corrected by Holm "
        "over the methods of a table."
    )


def _unfinished(records: Records) -> list[Part]:
    parts: list[Part] = []
    if records.failed:
        parts.append(f"**{len(records.failed)} cells failed and are in no table:**")
        parts += [f"    {name}: {message.splitlines()[0]}" for name, message in records.failed.items()]
    if records.missing:
        parts.append(f"**{len(records.missing)} cells have not finished:** {', '.join(records.missing)}")
    return parts


def _pictures(cells: list[Cell], records: Records, dataset: str, noise: str, out: Path) -> list[Part]:
    curves = out / PICTURES / f"{dataset}_{noise}_memorisation.png"
    draw_memorisation(records.epochs, dataset, noise, curves)
    finished = [cell for cell in cells if cell.dataset == dataset and (cell.folder(out) / RECORD).exists()]
    finished = [cell for cell in finished if cell.noise in (noise, "clean")]
    shown = [cell for cell in finished if cell.seed == finished[0].seed]
    samples = [
        (method_label(cell.method, cell.noise), read_samples(cell.folder(out) / "eval" / "samples.npz"))
        for cell in shown
    ]
    samples = [(name, found) for name, found in samples if found]
    if not samples:
        return [curves]
    sheet = out / PICTURES / f"{dataset}_{noise}_samples.png"
    draw_samples(samples, f"{dataset}, {noise}: L-models of seed {shown[0].seed} on test cases", sheet)
    return [curves, sheet]


def _markdown(part: Part, out: Path) -> str:
    if isinstance(part, Path):
        return f"![{part.stem}]({part.relative_to(out).as_posix()})"
    return part.markdown() if isinstance(part, TextTable) else part


def _html(part: Part) -> str:
    if isinstance(part, Path):
        data = base64.b64encode(part.read_bytes()).decode()
        return f'<img alt="{escape(part.stem)}" src="data:image/png;base64,{data}">'
    if isinstance(part, TextTable):
        return part.html()
    if part.startswith("#"):
        level = len(part) - len(part.lstrip("#"))
        return f"<h{level}>{escape(part.lstrip('# '))}</h{level}>"
    if part.startswith("    "):
        return f"<pre>{escape(part.strip())}</pre>"
    return f"<p>{escape(part).replace('**', '')}</p>"
