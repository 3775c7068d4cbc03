"""The last step of an audit: what was found in each case, seen beside the other cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from monai_noisylabel.audit.findings import Finding
from monai_noisylabel.audit.scores import case_suspicion, structure_suspicion

__all__ = ["ranked"]

Results = Mapping[str, Mapping[str, Any]]


def ranked(results: Results, classes: Sequence[str]) -> tuple[list[Finding], dict[str, dict[str, float]]]:
    """Findings and structures of all cases with their suspicion.

    What a model found counts as much as the model knows the structure: suspicion and confidence are multiplied by its
    median Dice over the cases.

    Args:
        results: of every case, from :meth:`~monai_noisylabel.audit.case_audit.CaseAuditor.audit`.
        classes: names of the structures.

    Returns:
        The findings, and for each case the suspicion of each structure and, under the empty name, of the case.
    """
    known = {name: _median(results, name, "dice", 1.0) for name in classes}
    usual = {name: _median(results, name, "evidence", 0.0) for name in classes}
    findings: list[Finding] = []
    scores = {}
    for case, result in results.items():
        own = [_weighted(Finding(**values), known) for values in result["findings"]]
        findings += own
        checks = {
            name: max((f.suspicion for f in own if f.structure == name and f.source == "check"), default=0.0)
            for name in classes
        }
        shares = {name: result["measures"].get(name, {}).get("evidence", 0.0) for name in classes}
        scores[case] = {
            name: structure_suspicion(shares[name], usual[name], known[name], checks[name]) for name in classes
        }
        scores[case][""] = case_suspicion(list(scores[case].values()))
    return findings, scores


def _weighted(finding: Finding, known: Mapping[str, float]) -> Finding:
    if finding.source != "model":
        return finding
    weight = known[finding.structure]
    return replace(finding, suspicion=finding.suspicion * weight, confidence=finding.confidence * weight)


def _median(results: Results, name: str, key: str, default: float) -> float:
    values = [result["measures"][name][key] for result in results.values() if name in result["measures"]]
    return float(np.median(values)) if values else default
