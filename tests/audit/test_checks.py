"""Checks that need no model: facts of masks, what is usual, and what is not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from monai_noisylabel.audit.checks import check_case, of_problem
from monai_noisylabel.audit.cohort import Cohort, side_pairs, usual_range
from monai_noisylabel.audit.findings import Finding
from monai_noisylabel.audit.shape_facts import shape_facts
from monai_noisylabel.data import Problem


def _box(*parts: tuple[int, int], size: int = 24) -> np.ndarray:
    mask = np.zeros((size,) * len(parts), bool)
    mask[tuple(slice(*part) for part in parts)] = True
    return mask


def _facts(*masks: np.ndarray, spacing: float = 1.0) -> list[dict[str, Any]]:
    foreground = np.any(masks, axis=0)
    return [shape_facts(mask, foreground, (spacing,) * mask.ndim) for mask in masks]


def _usual(number: int) -> np.ndarray:
    return _box((4 + number % 2, 12), (5, 13 + number % 3), (6, 14))


def _audited(odd: np.ndarray, others: int = 12) -> list[Finding]:
    facts = {f"c{n}": _facts(_usual(n)) for n in range(others)} | {"odd": _facts(odd)}
    cohort = Cohort(facts, ["liver"])
    for n in range(others):
        assert check_case(f"c{n}", facts[f"c{n}"], cohort) == []
    return check_case("odd", facts["odd"], cohort)


def test_facts_of_a_mask() -> None:
    (facts,) = _facts(_box((4, 12), (5, 13), (6, 14)), spacing=2.0)
    assert (facts["voxels"], facts["volume"], facts["components"]) == (512, 4096.0, 1)
    assert facts["centre"] == pytest.approx([7.5 / 23, 8.5 / 23, 9.5 / 23])
    assert facts["islands"] == facts["holes"] == facts["gaps"] == []
    (empty,) = _facts(np.zeros((4, 4), bool))
    assert (empty["voxels"], empty["components"]) == (0, 0)


def test_another_structure_fills_no_hole() -> None:
    wall, cavity = _box((4, 12), (4, 12)), _box((6, 10), (6, 10))
    wall &= ~cavity
    assert _facts(wall, cavity)[0]["holes"] == []
    assert _facts(wall)[0]["holes"] == [{"voxels": 16, "middle": [7, 7]}]


def test_two_structures_side_by_side_are_no_gap() -> None:
    lungs = _box((4, 20), (4, 10)) | _box((4, 20), (11, 18))
    assert [gap["index"] for gap in _facts(lungs)[0]["gaps"]] == [10]
    lungs = _box((4, 11), (4, 10)) | _box((12, 20), (11, 18))
    assert _facts(lungs)[0]["gaps"] == []


def test_a_usual_case_has_no_findings_and_an_empty_one_has() -> None:
    (finding,) = _audited(np.zeros((24, 24, 24), bool))
    assert finding.type == "missing structure"
    # 12 of 13 cases hold it: 2 * 12 / 13 - 1
    assert finding.suspicion == pytest.approx(11 / 13)
    assert "92% of the cases" in finding.message


def test_an_island() -> None:
    odd = _usual(0) | _box((20, 22), (20, 22), (20, 22))
    (finding,) = _audited(odd)
    assert (finding.type, finding.voxels, finding.place) == ("island", 8, "20,20,20")
    assert finding.share == pytest.approx(8 / 520)
    assert finding.suspicion == pytest.approx(8 / 520 * 12 / 13)


def test_a_hole_and_a_gap() -> None:
    odd = _usual(0)
    odd[7:9, 8:10, 9:11] = False
    (finding,) = _audited(odd)
    assert (finding.type, finding.voxels) == ("hole", 8)
    assert finding.suspicion == pytest.approx(8 / 512 * 12 / 13)
    odd = _usual(0)
    odd[..., 9] = False
    found = {finding.type: finding for finding in _audited(odd)}
    assert set(found) == {"gap", "island"}
    assert found["gap"].message.startswith("one slice lacks it between two that have it along axis 2 at 9")
    assert found["gap"].voxels == 64
    assert found["gap"].place.endswith(",9")


def test_volume_and_place() -> None:
    found = {finding.type: finding for finding in _audited(_box((4, 8), (5, 9), (6, 10)))}
    assert found["small volume"].suspicion > 0.5
    assert "0.12 times the median" in found["small volume"].message
    found = {finding.type: finding for finding in _audited(_box((14, 22), (5, 13), (6, 14)))}
    assert set(found) == {"unusual place"}
    assert "of axis 0" in found["unusual place"].message


def test_few_cases_say_nothing_of_what_is_usual() -> None:
    facts = {f"c{n}": _facts(_usual(n)) for n in range(6)} | {"odd": _facts(_box((4, 8), (5, 9), (6, 10)))}
    assert check_case("odd", facts["odd"], Cohort(facts, ["liver"])) == []
    assert usual_range([1.0] * 7, 0.1) is None


def test_half_of_the_values_may_be_wrong() -> None:
    values = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02] + [50.0] * 5
    usual = usual_range(values, 0.01)
    assert usual is not None
    assert usual.low < 0.9
    assert usual.high < 3


def test_sides_that_are_swapped() -> None:
    left, right = _box((3, 8), (4, 12)), _box((15, 20), (4, 12))
    facts = {f"c{n}": _facts(left, right) for n in range(9)} | {"odd": _facts(right, left)}
    cohort = Cohort(facts, ["left kidney", "right kidney"])
    found = [finding for finding in check_case("odd", facts["odd"], cohort) if "swapped" in finding.type]
    assert [finding.suspicion for finding in found] == [pytest.approx(0.9)]
    assert "left kidney and right kidney lie the other way round than in 90% of the cases" in found[0].message
    assert [finding.type for finding in check_case("c0", facts["c0"], cohort)] == []
    few = {name: facts[name] for name in ("c0", "c1", "odd")}
    assert math.isnan(Cohort(few, ["left kidney", "right kidney"]).sides[(0, 1)])
    assert check_case("odd", few["odd"], Cohort(few, ["left kidney", "right kidney"])) == []


def test_names_of_sides() -> None:
    assert side_pairs(["Lung_R", "Lung_L"]) == [(1, 0)]
    assert side_pairs(["right ventricle", "myocardium", "left ventricle"]) == [(2, 0)]
    assert side_pairs(["liver", "colour left"]) == []
    assert side_pairs(["leftover", "rightover"]) == []


def test_problems_of_the_dataset_are_findings() -> None:
    worse = of_problem(Problem("a", "labels/a.nii", "label values", "unknown values 7"))
    harmless = of_problem(Problem("b", "images/b.nii", "image without label", "it has none"))
    assert (worse.suspicion, worse.message) == (1.0, "unknown values 7 (labels/a.nii)")
    assert harmless.suspicion == 0.5
