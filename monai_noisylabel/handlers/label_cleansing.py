"""The label cleansing of deep self-cleansing: which labels to keep, and new ones for the others, every few epochs."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer

from monai_noisylabel.data.label_geometry import geometry_of
from monai_noisylabel.data.label_store import LabelStore
from monai_noisylabel.handlers.decollated import decollated
from monai_noisylabel.handlers.processes import is_main, wait_for_all
from monai_noisylabel.handlers.sweep_record import SampleRecord, gather_records, record_sample
from monai_noisylabel.selection import CleanSplit, Verdict, cascade, split_clean

__all__ = ["LabelCleansing"]

logger = logging.getLogger(__name__)


class LabelCleansing:
    r"""Every k epochs: sweep the training set, split the labels in clean and noisy ones, replace the noisy ones.

    1. The sweep, a stock evaluator over the un-augmented training set, predicts every sample and proposes a corrected
       label (:class:`~monai_noisylabel.transforms.PrototypeRelabeld` in its post-processing).
    2. l_i = 1 - Dice(prediction, given label) and l'_i = 1 - Dice(prediction, corrected label in use) are split by a
       Gaussian mixture each (:func:`~monai_noisylabel.selection.split_clean`).
    3. Cascade (:func:`~monai_noisylabel.selection.cascade`): a clean given label stands; a noisy given label with a
       clean correction keeps the correction; where both are noisy the proposal of this sweep becomes the new
       correction.
    4. The changes become one round of the label store, which the next epoch's samples are read from.

    Use it where a good part of the labels is right: the mixture splits what it is given, also a set without noise.

    Args:
        sweep: evaluator whose batches hold ``case``, ``label`` and ``pseudo_label`` and whose outputs hold ``pred``
            and ``candidate``.
        store: where corrected labels go.
        warm_up: epochs before the first round; the paper: a tenth of the training.
        interval: k, epochs between rounds; the paper: 5.
        num_classes: classes including background (multi-class), or None (multi-label).
        components: components of the mixtures; the paper: 2. ``"auto"`` chooses 2 or 3 by BIC.
        min_gap: smallest difference of the component means, in units of 1 - Dice, for a split to count; below it
            every label is kept. The paper: 0.
        min_missing: an empty given label is noisy where the network finds at least this fraction of what it usually
            finds in a sample with a label (the median), else clean.
        renew: ``"noisy"`` keeps a correction as long as its mixture calls it clean, as in the paper; ``"always"``
            renews the correction of every sample whose given label is noisy.

    Deviation:
        Empty given labels are not asked of the mixture: their losses are all 1 or all 0 and would take a component for
        themselves, beside which wrong boundaries look clean. ``min_missing`` decides on them.
        The paper starts from all-zero pseudo-labels. Here the given label stands until it is replaced, and the second
        mixture is fitted on the samples that have a correction: a missing correction cannot be judged clean.

    References:
        Dong et al., Deep Self-cleansing for Medical Image Segmentation with Noisy Labels, 2024, sections 2.2-2.4.
    """

    def __init__(
        self,
        sweep: Evaluator,
        store: LabelStore,
        *,
        warm_up: int,
        interval: int = 5,
        num_classes: int | None,
        components: int | Literal["auto"] = 2,
        min_gap: float = 0.0,
        min_missing: float = 0.1,
        renew: Literal["noisy", "always"] = "noisy",
    ) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1 epoch, got {interval}.")
        if not min_missing >= 0:
            raise ValueError(f"min_missing must not be negative, got {min_missing}.")
        if renew not in ("noisy", "always"):
            raise ValueError(f"renew must be 'noisy' or 'always', got {renew!r}.")
        self.sweep = sweep
        self.store = store
        self.warm_up = warm_up
        self.interval = interval
        self.num_classes = num_classes
        self.split: dict[str, Any] = {"components": components, "min_gap": min_gap}
        self.min_missing = min_missing
        self.renew = renew
        self._records: list[SampleRecord] = []
        sweep.add_event_handler(Events.ITERATION_COMPLETED, self.collect)

    def attach(self, engine: Trainer) -> None:
        """Cleanse at the end of the due epochs of the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def due(self, epoch: int, max_epochs: int) -> bool:
        """Whether a round follows ``epoch`` (from 1); none follows the last one, for nobody would learn from it."""
        return self.warm_up <= epoch < max_epochs and (epoch - self.warm_up) % self.interval == 0

    def __call__(self, engine: Trainer) -> None:
        """One round, if it is due; its counts go to ``engine.state.metrics``."""
        if not self.due(engine.state.epoch, engine.state.max_epochs):
            return
        self._records = []
        self.sweep.run(global_epoch=engine.state.epoch)
        records = gather_records(self._records)
        given, stored = self.judge(records)
        verdicts = self.decide(records, given, stored)
        if is_main():
            self._commit(engine.state.epoch, records, verdicts, given, stored)
        wait_for_all()
        counts = Counter(verdicts)
        for verdict in Verdict:
            engine.state.metrics[f"labels_{verdict.name.lower()}"] = counts[verdict]

    def collect(self, engine: Engine) -> None:
        """Stage the proposals of one batch of the sweep, and note its losses."""
        for item, output in decollated(engine):
            record = record_sample(item, output, self.num_classes)
            self._records.append(record)
            self.store.propose(
                record.case,
                torch.as_tensor(output["candidate"]).cpu().numpy().astype(np.uint8),
                reference=torch.as_tensor(item["label"]).cpu().numpy().astype(np.uint8),
                geometry=geometry_of(item["label"]),
            )

    def judge(self, records: Sequence[SampleRecord]) -> tuple[CleanSplit, CleanSplit]:
        """Split the given labels of all samples, and the corrections of those that have one."""
        known = [np.nan if record.given_empty else record.given_loss for record in records]
        given = split_clean(np.array(known), **self.split)
        rightly_empty = _rightly_empty(records, self.min_missing)
        given = dataclasses.replace(given, clean=given.clean | rightly_empty)
        losses = [record.stored_loss if record.corrected else np.nan for record in records]
        return given, split_clean(np.array(losses), **self.split)

    def decide(self, records: Sequence[SampleRecord], given: CleanSplit, stored: CleanSplit) -> list[Verdict]:
        """The verdict on every sample; an empty proposal never replaces a label."""
        verdicts = []
        for record, rule in zip(records, cascade(given, stored), strict=True):
            verdict = Verdict(rule)
            if verdict is Verdict.KEEP_PSEUDO and self.renew == "always":
                verdict = Verdict.RELABEL
            if verdict is Verdict.RELABEL and record.empty:
                verdict = Verdict.KEEP_PSEUDO
            verdicts.append(verdict)
        return verdicts

    def _commit(
        self,
        epoch: int,
        records: Sequence[SampleRecord],
        verdicts: Sequence[Verdict],
        given: CleanSplit,
        stored: CleanSplit,
    ) -> None:
        for record, verdict in zip(records, verdicts, strict=True):
            if verdict is not Verdict.RELABEL:
                self.store.discard(record.case)
            if verdict is Verdict.KEEP_MANUAL and record.corrected:
                self.store.withdraw(record.case)
        counts = Counter(verdict.name.lower() for verdict in verdicts)
        parameters: dict[str, Any] = {
            "epoch": epoch,
            "samples": len(records),
            "decisions": dict(sorted(counts.items())),
            "empty_proposals": sum(record.empty for record in records),
            "given_labels": {"means": list(given.means), "reason": given.reason},
            "corrections": {"means": list(stored.means), "reason": stored.reason},
            "empty_given_labels": sum(record.given_empty for record in records),
            "renew": self.renew,
            "min_missing": self.min_missing,
            **self.split,
        }
        number = self.store.commit(f"cleansing after epoch {epoch}", method="self_cleansing", parameters=parameters)
        summary = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        logger.info(f"Label round {number} after epoch {epoch}: {summary} of {len(records)}; {given.reason}.")


def _rightly_empty(records: Sequence[SampleRecord], min_missing: float) -> np.ndarray:
    """Which empty given labels are believed: those where little is predicted, compared with labelled samples."""
    usual = [record.predicted for record in records if not record.given_empty and record.predicted]
    least = max(1.0, min_missing * float(np.median(usual))) if usual else 1.0
    return np.array([record.given_empty and record.predicted < least for record in records], dtype=bool)
