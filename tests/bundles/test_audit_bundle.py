"""An audit that makes its own probabilities: a bundle trained once per fold, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from running_bundles import REPOSITORY
from simulated import digests

from monai_noisylabel.audit import BundleFolds, audit_dataset
from monai_noisylabel.data import make_phantom

pytestmark = [pytest.mark.slow, pytest.mark.bundle]


def test_probabilities_by_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    phantom = make_phantom(tmp_path / "set", cases=8, shape=(64, 64, 6), spacing=(5, 5, 25))
    before = digests(phantom)
    how = BundleFolds(REPOSITORY / "bundles/baseline", 2, ("max_epochs=1", "network_def#channels=[4,4,8,8]"))
    lines: list[str] = []
    report = audit_dataset(
        "phantom_hcc", phantom, tmp_path / "out", folds=how, progress=lambda what, done, total: lines.append(what)
    )
    assert report.failed == {}
    assert digests(phantom) == before
    made = sorted((tmp_path / "out/probabilities").iterdir())
    assert [path.stem for path in made] == sorted(row.case for row in report.cases)
    for path in made:
        with np.load(path) as content:
            p = content["probability"].astype(np.float32)
        assert p.shape == (3, 64, 64, 6)
        np.testing.assert_allclose(p.sum(0), 1, atol=5e-3)
    assert any("fold 1 of 2, training: " in line for line in lines)
    lines.clear()
    again = audit_dataset("phantom_hcc", phantom, tmp_path / "out", folds=how)
    assert again == report
