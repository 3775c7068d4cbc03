"""Confident learning's verdict on a training set during a sweep: which voxels are wrong, and what they seem to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from torch import Tensor

from monai_noisylabel.data.label_geometry import geometry_of
from monai_noisylabel.data.label_store import LabelStore
from monai_noisylabel.estimation import softmin_quality
from monai_noisylabel.handlers.decollated import decollated
from monai_noisylabel.handlers.out_of_sample import OutOfSample, PredictedCase
from monai_noisylabel.handlers.processes import gather_from_all, is_main, sum_over_all, wait_for_all
from monai_noisylabel.handlers.relabelled import Relabelled, dice_to_truth
from monai_noisylabel.metrics import detection_counts
from monai_noisylabel.selection import ConfidentLimits, PruningRule, confident_limits, label_errors

__all__ = ["ConfidentRelabel"]


class ConfidentRelabel:
    r"""During a sweep: finds the voxels whose label is wrong, and proposes the label that they seem to have.

    The sweep, a stock evaluator over the un-augmented training set, predicts every case by a network that has not
    learned from this patient; its logits go to disk. At its end the whole set is counted and judged
    (:func:`~monai_noisylabel.selection.confident_limits`, :func:`~monai_noisylabel.selection.label_errors`), and each
    case with wrong voxels gets a proposal in the store: the most probable class there, the given label elsewhere. Who
    runs the sweep commits them (:class:`~monai_noisylabel.handlers.ConfidentLearning`). Structures that may overlap are
    judged one by one, each as a problem of two classes.

    Attach it to an evaluator whose batches hold ``case`` and ``label`` and whose outputs hold ``pred``, logits.

    Args:
        store: where labels are proposed.
        folder: where predictions are kept during the sweep.
        num_classes: classes including background (multi-class), or None (multi-label).
        structures: number K of foreground structures.
        rule: how wrong voxels are chosen, see :func:`~monai_noisylabel.selection.confident_limits`; Zhang et al., in
            their code: ``"both"``.
        truth_key: key of the true label, to find out how good the choice is; None: unknown.

    Attributes:
        kept: numbers (from 1) of structures whose voxels stay as they are and which are proposed nowhere;
            :class:`~monai_noisylabel.handlers.KeepUnlearned` sets it.
        limits: what the last sweep counted, per problem.
        changes: what it did to every case, in the order of their names; the same on every rank, as all of these.
        voxels: of every class (those of one structure after those of the other), the voxels given it; those of them
            that were found wrong and are, were found wrong, and are wrong. (N, 4) int64.
    """

    def __init__(
        self,
        store: LabelStore,
        folder: str | Path,
        num_classes: int | None,
        structures: int,
        rule: PruningRule = "both",
        truth_key: str | None = None,
    ) -> None:
        self.store = store
        self.predictions = OutOfSample(folder, num_classes)
        self.num_classes = num_classes
        self.structures = structures
        self.rule = rule
        self.truth_key = truth_key
        self.kept: frozenset[int] = frozenset()
        self.limits: list[ConfidentLimits] = []
        self.changes: list[Relabelled] = []
        self.voxels = torch.zeros(0, 4, dtype=torch.int64)
        self._geometry: dict[str, dict[str, Any] | None] = {}

    def attach(self, engine: Evaluator) -> None:
        """Act in every run of the sweep ``engine``."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def start(self) -> None:
        """Forget the sweep before."""
        self.predictions.cases, self._geometry = [], {}

    def collect(self, engine: Engine) -> None:
        """Keep the predictions of one batch."""
        for item, output in decollated(engine):
            case = str(item["case"])
            truth = None if self.truth_key is None else item[self.truth_key]
            self.predictions.add(case, output["pred"], item["label"].to(torch.uint8), truth)
            self._geometry[case] = geometry_of(item["label"])

    def __call__(self, engine: Evaluator) -> None:
        """Judge all cases, and stage the new labels of those that this process saw."""
        problems = range(self.structures if self.num_classes is None else 1)
        self.limits = [confident_limits(self.predictions.problem(k), self.rule, sum_over_all) for k in problems]
        classes = sum(len(limits.thresholds) for limits in self.limits)
        voxels, changes = torch.zeros(classes, 4, dtype=torch.int64), []
        for case in self.predictions.cases:
            counts, change = self._relabel(case)
            voxels += counts
            changes.append(change)
        self.voxels = sum_over_all(voxels)
        everywhere = {change.case: change for part in gather_from_all(changes) for change in part}
        self.changes = [everywhere[name] for name in sorted(everywhere)]
        wait_for_all()
        if is_main():
            self.predictions.clear()

    def _relabel(self, case: str) -> tuple[Tensor, Relabelled]:
        """Judge one case, and stage its label if it is another one."""
        parts = [self.predictions.read(case, k) for k in range(len(self.limits))]
        errors = [self._errors(k, part) for k, part in enumerate(parts)]
        counts = torch.cat([_class_counts(*pair) for pair in zip(parts, errors, strict=True)])
        new = [
            torch.where(wrong, part.probability.argmax(0), part.given)
            for part, wrong in zip(parts, errors, strict=True)
        ]
        given, label = (torch.stack(channels).to(torch.uint8) for channels in ([part.given for part in parts], new))
        changed = int((label != given).sum())
        if changed:
            quality = min(softmin_quality(part.probability, part.given) for part in parts)
            self.store.propose(
                case,
                label,
                reference=given,
                geometry=self._geometry[case],
                voxels_found_wrong=changed,
                label_quality=quality,
            )
        truths = [part.truth for part in parts if part.truth is not None]
        truth = torch.stack(truths).to(torch.uint8) if truths else None
        before, after = (dice_to_truth(part, truth, self.num_classes) for part in (given, label))
        return counts, Relabelled(case, changed, before, after)

    def _errors(self, number: int, case: PredictedCase) -> Tensor:
        """Wrong voxels of one problem, but those of structures that are kept."""
        errors = label_errors(case.probability, case.given, self.limits[number])
        if not self.kept:
            return errors
        if self.num_classes is None:
            return errors & (number + 1 not in self.kept)
        kept = torch.tensor(sorted(self.kept))
        return errors & ~torch.isin(case.given, kept) & ~torch.isin(case.probability.argmax(0), kept)


def _class_counts(case: PredictedCase, errors: Tensor) -> Tensor:
    """Per given class: voxels; found and wrong, found, wrong."""
    wrong = torch.zeros_like(errors) if case.truth is None else case.given != case.truth
    of_class = [case.given == value for value in range(len(case.probability))]
    return torch.stack([torch.cat([own.sum()[None], detection_counts(errors & own, wrong & own)]) for own in of_class])
