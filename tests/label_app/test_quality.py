"""Scores of labels by a bundle's probabilities."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from monai_noisylabel.audit.probabilities import ProbabilityFolder
from monai_noisylabel.data import load_dataset
from monai_noisylabel.label_app.quality import label_suspicions, mean_entropy


def test_scores_are_those_of_an_audit_with_the_same_probabilities(hearts: Path, tmp_path: Path) -> None:
    spec = load_dataset(hearts / "data.json", hearts / "data")
    items = {item["case"]: item for item in spec.train}
    found, failed = label_suspicions(spec, items, ProbabilityFolder(hearts / "p", spec), tmp_path / "scoring")
    with (hearts / "audit/cases.csv").open() as stream:
        audited = {row["case"]: row for row in csv.DictReader(stream)}
    assert failed == {}
    assert set(found) == set(audited)
    for case, row in audited.items():
        assert found[case][""] == pytest.approx(float(row["score"]), abs=1e-5)
        assert all(found[case][name] == pytest.approx(float(row[name]), abs=1e-5) for name in spec.classes)


def test_a_case_that_cannot_be_judged_is_named(hearts: Path, tmp_path: Path) -> None:
    (hearts / "p/h2.npz").write_bytes(b"no archive")
    spec = load_dataset(hearts / "data.json", hearts / "data")
    items = {item["case"]: item for item in spec.train}
    (hearts / "data/labels/h6.nii").write_bytes(b"no NIfTI")
    found, failed = label_suspicions(spec, items, ProbabilityFolder(hearts / "p", spec), tmp_path / "scoring")
    assert set(failed) == {"h2", "h6"}
    assert "cannot be read" in failed["h2"]
    assert set(found) == {"h3", "h4", "h5"}
    assert max(found, key=lambda case: found[case][""]) in ("h3", "h5")


def test_entropy_is_highest_for_a_coin_toss_and_leaves_out_what_was_not_seen() -> None:
    three = np.full((3, 2, 2), 1 / 3)
    assert mean_entropy(three, multi_label=False) == pytest.approx(1)
    assert mean_entropy(np.full((3, 2, 2), 0.5), multi_label=True) == pytest.approx(1)
    sure = np.stack([np.ones((2, 2)), np.zeros((2, 2))])
    assert mean_entropy(sure, multi_label=False) == pytest.approx(0, abs=1e-9)
    sure[:, 0, 0] = np.nan
    sure[:, 0, 1] = 0.5
    assert mean_entropy(sure, multi_label=False) == pytest.approx(1 / 3)
    assert mean_entropy(np.full((2, 3), np.nan), multi_label=False) == 0
