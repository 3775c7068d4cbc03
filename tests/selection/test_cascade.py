from __future__ import annotations

import numpy as np
import pytest

from monai_noisylabel.selection import CleanSplit, Verdict, cascade, split_clean


def split(*clean: bool) -> CleanSplit:
    verdicts = np.array(clean, dtype=bool)
    return CleanSplit(verdicts, verdicts.astype(float), (), "made by hand")


def test_truth_table() -> None:
    verdicts = cascade(split(True, True, False, False), split(True, False, True, False))
    assert verdicts.dtype == np.int64
    assert verdicts.tolist() == [
        Verdict.KEEP_MANUAL,
        Verdict.KEEP_MANUAL,
        Verdict.KEEP_PSEUDO,
        Verdict.RELABEL,
    ]


def test_numbers_of_the_verdicts() -> None:
    assert [verdict.value for verdict in Verdict] == [0, 1, 2]
    counts = np.bincount(cascade(split(True, False), split(True, False)), minlength=len(Verdict))
    assert counts.tolist() == [1, 0, 1]


def test_without_pseudo_labels_every_noisy_sample_is_relabelled() -> None:
    verdicts = cascade(split(True, False, False), None)
    assert verdicts.dtype == np.int64
    assert verdicts.tolist() == [Verdict.KEEP_MANUAL, Verdict.RELABEL, Verdict.RELABEL]


def test_a_sample_without_a_pseudo_label_is_relabelled() -> None:
    pseudo = split_clean(np.array([np.nan, np.nan, 0.1, 0.9]))
    verdicts = cascade(split(True, False, False, False), pseudo)
    assert verdicts.tolist() == [Verdict.KEEP_MANUAL, Verdict.RELABEL, Verdict.KEEP_PSEUDO, Verdict.RELABEL]


def test_splits_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="must judge the same samples in the same order, got 2 and 3 verdicts"):
        cascade(split(True, True), split(True, True, True))
