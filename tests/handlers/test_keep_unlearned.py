"""Which structures a sweep leaves alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from handler_fakes import fake_evaluator

from monai_noisylabel.handlers import KeepUnlearned, RunHistory
from monai_noisylabel.transforms import PrototypeRelabeld


def _kept(
    metrics: dict[str, float], min_dice: float = 0.2, rows: Sequence[dict[str, float]] = (), validated: int = 4
) -> frozenset[int]:
    """Structures kept by a sweep of epoch 4, after a validation in epoch ``validated``."""
    relabel = PrototypeRelabeld("pred", num_outputs=3)
    validator = fake_evaluator([], lambda engine, batch: [])
    validator.state.metrics, validator.state.epoch = dict(metrics), validated
    history = RunHistory()
    history.rows.extend(rows)
    sweep = fake_evaluator([0], lambda engine, batch: [])
    KeepUnlearned(relabel, validator, history, ["liver", "tumour"], min_dice).attach(sweep)
    sweep.run(global_epoch=4)
    return relabel.kept


def test_a_structure_below_the_least_dice_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    metrics = {"val_mean_dice": 0.5, "val_mean_dice_liver": 0.9, "val_mean_dice_tumour": 0.19}
    with caplog.at_level(logging.INFO, logger="monai_noisylabel"):
        assert _kept(metrics) == {2}
    assert "Labels of structure 2 stay: val_mean_dice_tumour is 0.190, below 0.2." in caplog.messages


def test_a_learned_structure_is_relabelled_again() -> None:
    assert _kept({"val_mean_dice_liver": 0.9, "val_mean_dice_tumour": 0.2}) == frozenset()


def test_without_a_validation_in_this_epoch_the_history_counts() -> None:
    # as in a resumed run, whose validator has not run yet, or holds an older result
    rows = [{"epoch": 2, "val_mean_dice_liver": 0.1, "val_mean_dice_tumour": 0.9}, {"epoch": 3}]
    old = {"val_mean_dice_liver": 0.9, "val_mean_dice_tumour": 0.1}
    assert _kept({}, rows=rows, validated=0) == {1}
    assert _kept(old, rows=rows, validated=2) == {1}
    assert _kept(old, rows=rows) == {2}


def test_without_a_validation_nothing_is_kept() -> None:
    assert _kept({}) == frozenset()


def test_a_structure_that_no_validation_case_has_is_not_kept() -> None:
    assert _kept({"val_mean_dice_liver": 0.9, "val_mean_dice_tumour": float("nan")}) == frozenset()


@pytest.mark.parametrize("min_dice", [-0.1, 1.1])
def test_a_least_dice_is_a_dice(min_dice: float) -> None:
    with pytest.raises(ValueError, match="min_dice must lie in"):
        _kept({}, min_dice)
