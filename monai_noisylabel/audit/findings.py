"""Findings of an audit: what seems wrong, where, how, and how sure that is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from monai_noisylabel.handlers.atomic import write_atomically

__all__ = ["Finding", "most_suspicious_first", "write_findings"]


@dataclass(frozen=True)
class Finding:
    """One thing that seems wrong with one case.

    Args:
        case: case id.
        structure: name of the structure; empty where it concerns the whole case.
        type: kind of error.
        suspicion: in [0, 1], what the list is sorted by: about the share of the structure that is wrong, times how
            sure that is; 1 for a case that cannot be used.
        confidence: in [0, 1], how sure it is that there is an error at all.
        message: what was found, in a sentence.
        source: ``"check"``, which needs no model, or ``"model"``.
        voxels: size, where it is a region.
        size: the same in mm^3, or pixels of a picture.
        share: of the structure.
        thickness: of the region in mm, or pixels.
        shift: of the boundary in mm, or pixels; positive: the label is too large there.
        place: middle of it, voxel index in the label file, with commas.
        world: the same in mm (RAS); empty for pictures.
        slice: slice along the last axis after orientation on which it is largest.
        overlay: file of a picture of it below the audit's folder.
    """

    case: str
    structure: str
    type: str
    suspicion: float
    confidence: float
    message: str
    source: str
    voxels: int | None = None
    size: float | None = None
    share: float | None = None
    thickness: float | None = None
    shift: float | None = None
    place: str = ""
    world: str = ""
    slice: int | None = None
    overlay: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Fields as plain values."""
        return asdict(self)


def most_suspicious_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by falling suspicion; equal ones by case and structure."""
    return sorted(findings, key=lambda finding: (-finding.suspicion, finding.case, finding.structure, finding.type))


def write_findings(findings: Iterable[Finding], path: Path) -> None:
    """Write findings as CSV, one row each, the most suspicious first."""
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    names = [field.name for field in fields(Finding)]
    table.writerow(["rank", *names])
    for rank, finding in enumerate(most_suspicious_first(findings), start=1):
        values = finding.as_dict()
        table.writerow([rank, *(_shown(values[name]) for name in names)])
    write_atomically(stream.getvalue(), path)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
