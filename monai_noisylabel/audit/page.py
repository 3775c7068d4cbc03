"""The page of an audit: one HTML file that shows everything, from a disk, without a network."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from monai_noisylabel.audit.charts import review_chart, score_histogram, type_chart
from monai_noisylabel.audit.findings import Finding
from monai_noisylabel.data.dataset_spec import DatasetSpec
from monai_noisylabel.handlers.atomic import write_atomically

__all__ = ["CaseRow", "write_cases", "write_page"]

NOTABLE = 0.1
TYPES = 12


@dataclass(frozen=True)
class CaseRow:
    """A case in the list of cases.

    Args:
        case: case id.
        patient: patient id.
        score: suspicion in [0, 1].
        findings: their number.
        expected: errors expected, in whole structures: the sum of the suspicions of the findings.
        scores: suspicion of each structure.
    """

    case: str
    patient: str
    score: float
    findings: int
    expected: float
    scores: Mapping[str, float]


def write_cases(rows: Sequence[CaseRow], classes: Sequence[str], path: Path) -> None:
    """Write the list of cases as CSV."""
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["rank", "case", "patient", "score", "findings", "expected_errors", *classes])
    for rank, row in enumerate(rows, start=1):
        own = [f"{row.scores[name]:.6g}" if name in row.scores else "" for name in classes]
        table.writerow([rank, row.case, row.patient, f"{row.score:.6g}", row.findings, f"{row.expected:.4g}", *own])
    write_atomically(stream.getvalue(), path)


def write_page(
    spec: DatasetSpec, findings: Sequence[Finding], rows: Sequence[CaseRow], out: Path, with_model: bool
) -> Path:
    """Write ``audit.html``.

    Pictures stand in it as text and are drawn when they come into view; it asks nothing of a network.

    Args:
        spec: the dataset.
        findings: the most suspicious first.
        rows: the cases, the most suspicious first.
        out: folder of the audit, which holds the pictures.
        with_model: whether there were probabilities.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = resources.files("monai_noisylabel.audit").joinpath("page.html").read_text(encoding="utf-8")
    curve, enough = review_chart([row.score for row in rows], [row.expected for row in rows]) if rows else ("", 0)
    counts = Counter(finding.type for finding in findings).most_common(TYPES)
    charts = [
        ("Review the first n cases", curve, f"Expected errors found against cases reviewed; 80 % after {enough} cases"),
        ("Suspicion of the cases", score_histogram([row.score for row in rows]), "Histogram of the cases' suspicion"),
        ("Kinds of findings", type_chart(counts), ", ".join(f"{count} {name}" for name, count in counts)),
    ]
    pictures = {finding.overlay: _data(out / finding.overlay) for finding in findings if finding.overlay}
    content = environment.from_string(template).render(
        manifest=spec.manifest,
        dims=spec.spatial_dims,
        classes=spec.classes,
        with_model=with_model,
        findings=findings,
        rows=rows,
        charts=[chart for chart in charts if chart[1]],
        enough=enough,
        notable=len({finding.case for finding in findings if finding.suspicion >= NOTABLE}),
        notable_limit=NOTABLE,
        types=sorted({finding.type for finding in findings}),
        structures=[*spec.classes],
        pictures=_script(pictures),
    )
    path = out / "audit.html"
    write_atomically(content, path)
    return path


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""


def _script(value: Any) -> str:
    """JSON that may stand in a script element whatever it holds."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
