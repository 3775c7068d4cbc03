"""Scores of regions, structures and cases."""

from __future__ import annotations

import numpy as np
import pytest

from monai_noisylabel.audit.findings import Finding
from monai_noisylabel.audit.ranking import ranked
from monai_noisylabel.audit.regions import error_regions
from monai_noisylabel.audit.scores import (
    case_suspicion,
    evidence_against,
    region_score,
    structure_suspicion,
)


def _disc(size: int, radius: float) -> np.ndarray:
    grid = np.indices((size, size)) - (size - 1) / 2
    return np.asarray(radius - np.hypot(*grid))


def _soft(distance: np.ndarray, width: float) -> np.ndarray:
    """Probabilities that fall over some voxels around the boundary."""
    p = 1 / (1 + np.exp(-(distance - 1e-3) / width))
    return np.stack([1 - p, p]).astype(np.float32)


@pytest.mark.parametrize("width", [0.2, 1.0, 3.0])
def test_perfect_labels_score_the_same_in_small_and_large_images(width: float) -> None:
    found = []
    for size in (64, 256):
        distance = _disc(size, size / 4)
        given = (distance > 1e-3).astype(np.uint8)
        p = _soft(distance, width)
        assert error_regions(given, p, np.ones(given.shape, bool), (1.0, 1.0)) == []
        found.append(evidence_against(given, p, 1, (1.0, 1.0)))
    assert found == [0.0, 0.0]
    assert structure_suspicion(found[0], 0.0) == 0.0


@pytest.mark.parametrize("size", [64, 128, 256])
def test_the_same_error_scores_the_same_on_a_finer_grid_and_in_a_larger_image(size: int) -> None:
    scale = size / 64
    distance = _disc(size, 12 * scale)
    given = (distance > 5 * scale).astype(np.uint8)  # too far in by 5 of 64
    p = _soft(distance, 0.2)
    voxels = float((distance > 0).sum())
    (region,) = error_regions(given, p, np.ones(given.shape, bool), (1 / scale,) * 2)
    assert region.shift == pytest.approx(5.0, abs=1.0)
    share = 1 - (7 / 12) ** 2
    assert region_score(region, [0.0, voxels]) == pytest.approx(share, rel=0.12)
    assert evidence_against(given, p, 1, (1 / scale,) * 2) / voxels == pytest.approx(share, rel=0.12)
    wide = np.pad(p, ((0, 0), (size, size), (size, size)), constant_values=0)
    wide[0] = 1 - wide[1]
    assert evidence_against(np.pad(given, size), wide, 1, (1.0, 1.0)) == evidence_against(given, p, 1, (1.0, 1.0))


def test_a_contradiction_within_the_tolerance_counts_a_quarter() -> None:
    given = (_disc(64, 16.0) > 0).astype(np.uint8)
    p = _soft(_disc(64, 17.0), 1e-3)
    rim = int((p[1] > 0.5).sum() - given.sum())
    assert evidence_against(given, p, 1, (1.0, 1.0)) == pytest.approx(rim / 4, rel=1e-3)
    p = _soft(_disc(64, 19.0), 1e-3)
    rim = int((p[1] > 0.5).sum() - given.sum())
    assert evidence_against(given, p, 1, (1.0, 1.0)) == pytest.approx(rim, rel=1e-3)


def test_one_wrong_structure_of_many_is_not_overlooked() -> None:
    one_of_ten = case_suspicion([0.3] * 9 + [0.98])
    assert one_of_ten > 0.7 > 0.3 == pytest.approx(case_suspicion([0.3] * 10))


def _result(evidence: float, dice: float, *findings: Finding) -> dict[str, object]:
    measures = {"liver": {"evidence": evidence, "dice": dice}}
    return {"findings": [finding.as_dict() for finding in findings], "measures": measures}


def test_cases_are_seen_beside_the_others() -> None:
    found = Finding("b", "liver", "missing", 0.5, 0.9, "", "model")
    checked = Finding("c", "liver", "hole", 0.4, 0.6, "", "check")
    results = {"a": _result(0.1, 0.8), "b": _result(0.5, 0.4, found), "c": _result(0.0, 0.9, checked)}
    findings, scores = ranked(results, ["liver"])
    # the median Dice is 0.8, the median evidence 0.1
    assert [(f.case, f.suspicion, f.confidence) for f in findings] == [
        ("b", pytest.approx(0.4), pytest.approx(0.72)),
        ("c", 0.4, 0.6),
    ]
    assert scores["a"]["liver"] == pytest.approx(1 - (1 + 0.1 / 0.12) ** -0.8)
    assert scores["b"]["liver"] == pytest.approx(1 - (1 + 0.5 / 0.12) ** -0.8)
    assert scores["c"]["liver"] == pytest.approx(0.4)
    assert scores["b"][""] == scores["b"]["liver"]
    without = {"c": {"findings": [checked.as_dict()], "measures": {}}}
    assert ranked(without, ["liver", "tumour"])[1]["c"] == {
        "liver": pytest.approx(0.4),
        "tumour": 0.0,
        "": pytest.approx(1 - 0.6**0.5),
    }
