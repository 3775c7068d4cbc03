"""How unreliable the label of every superpixel is, and new labels for the unreliable ones, during a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import decollate_batch
from monai.engines import Evaluator
from torch import Tensor

from monai_noisylabel.correction import proposed_labels, relabel_units
from monai_noisylabel.data.label_geometry import geometry_of
from monai_noisylabel.data.label_store import LabelStore
from monai_noisylabel.handlers.decollated import decollated
from monai_noisylabel.handlers.processes import gather_from_all, sum_over_all
from monai_noisylabel.handlers.relabelled import Relabelled, dice_to_truth
from monai_noisylabel.losses import SuperpixelLoss
from monai_noisylabel.selection import (
    label_counts,
    mean_keep_rate,
    select_units,
    superpixel_map,
    superpixel_means,
    unit_index,
)

__all__ = ["CaseUnits", "SuperpixelRelabel", "unreliable_units"]


@dataclass(frozen=True)
class CaseUnits:
    """What the networks think of the label of one case.

    Attributes:
        case: the case's name.
        loss: how unreliable each unit is, (G, U); G is 1, or the number of structures that may overlap.
        size: its voxels, (G, U).
        given: class of its label, (G, U).
        proposed: class that the networks propose, (G, U).
        voxels: voxels of every class in the label, (G, C).
    """

    case: str
    loss: Tensor
    size: Tensor
    given: Tensor
    proposed: Tensor
    voxels: Tensor


def unreliable_units(
    cases: Sequence[CaseUnits], rates: Tensor, *, per_class: bool, over_set: bool
) -> dict[str, Tensor]:
    """Which units of each case are relabelled, eq. 6; (G, U) per case.

    Args:
        cases: all cases, in an order that does not depend on the processes.
        rates: keep rate R per group and class, (G, C).
        per_class: whether the share holds within every given class, or over all of them.
        over_set: whether the share holds over all cases together, or in each.
    """
    if not over_set:
        parts = [unreliable_units([case], rates, per_class=per_class, over_set=True) for case in cases]
        return {name: units for part in parts for name, units in part.items()}
    loss, size, given, voxels = (
        [getattr(case, name) for case in cases] for name in ("loss", "size", "given", "voxels")
    )
    if not per_class:
        rates = mean_keep_rate(rates, torch.stack(voxels).sum(0))
    sizes = torch.cat(size, 1)
    reliable = select_units(torch.cat(loss, 1), sizes, rates, torch.cat(given, 1) if per_class else None)
    rest = (~reliable & (sizes > 0)).split([part.shape[1] for part in size], dim=1)
    return {case.case: part for case, part in zip(cases, rest, strict=True)}


class SuperpixelRelabel:
    """During a sweep: relabels the unreliable superpixels of the training set, eq. 6 to 8.

    The sweep, a stock evaluator over the un-augmented training set, predicts every case, of which a few numbers per
    superpixel are kept. At its end these are ranked, over the whole set or case by case. A second pass over the data,
    without the networks, writes the new labels and proposes them to the store; who runs the sweep commits them
    (:class:`~monai_noisylabel.handlers.SuperpixelRefinement`).

    Networks whose loss weighs all classes alike propose rare ones too often. What they propose is therefore weighed by
    the share of all voxels that is labelled as each class, which a pass without the networks counts first.

    Attach it to an evaluator whose batches hold ``case``, ``label`` (given), ``pseudo_label`` (in use) and
    ``superpixels``, and whose outputs hold ``pred``, the logits of both networks
    (:class:`~monai_noisylabel.networks.AllPeers`).

    Args:
        store: where labels are proposed.
        loss: the loss that the networks are trained with: its keep rates and settings hold here too.
        num_classes: classes including background (multi-class), or None (multi-label).
        over_set: whether the share of reliable voxels holds over the whole set, or in each case.
        truth_key: key of the true label, to find out how good labels were before and after; None: unknown.

    Attributes:
        kept: numbers (from 1) of structures whose voxels stay as they are and which are proposed nowhere;
            :class:`~monai_noisylabel.handlers.KeepUnlearned` sets it.
        changes: what the last sweep did to every case, in the order of their names; the same on every rank.
    """

    def __init__(
        self,
        store: LabelStore,
        loss: SuperpixelLoss,
        num_classes: int | None,
        over_set: bool = True,
        truth_key: str | None = None,
    ) -> None:
        self.store = store
        self.loss = loss
        self.num_classes = num_classes
        self.over_set = over_set
        self.truth_key = truth_key
        self.kept: frozenset[int] = frozenset()
        self.changes: list[Relabelled] = []
        self._cases: list[CaseUnits] = []
        self._shares: Tensor | None = None

    def attach(self, engine: Evaluator) -> None:
        """Act in every run of the sweep ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.count)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def count(self, engine: Evaluator) -> None:
        """Count which share of all voxels is labelled as each class, where the loss takes no notice of it."""
        if not self.loss.class_balanced:
            return
        total = torch.zeros((), dtype=torch.int64)
        for item in _items(engine):
            label, ids = self.loss.labels_and_ids(_target(item))
            total = total + torch.stack(
                [row[place > 0].bincount(minlength=self._classes) for row, place in zip(label, ids, strict=True)]
            )
        voxels = sum_over_all(total).double()
        self._shares = voxels / voxels.sum(1, keepdim=True)

    @torch.no_grad()
    def collect(self, engine: Engine) -> None:
        """Judge the labels of one batch."""
        for item, output in decollated(engine):
            logits = output["pred"].as_subclass(Tensor)[None]
            label, ids = self.loss.labels_and_ids(_target(item).to(logits.device))
            log_p = self.loss.log_probabilities(logits)
            superpixels = superpixel_map(ids, ids > 0)
            counts = label_counts(label, superpixels, log_p.shape[2])
            first, second = superpixel_means(log_p.exp().flatten(1, 2), superpixels).chunk(2, 1)
            units, proposed = proposed_labels(first, second, counts, self.loss.lam, self.loss.variant, self._shares)
            found = [part.cpu() for part in (*units, proposed, counts.sum(2))]
            self._cases.append(CaseUnits(str(item["case"]), *found))

    def __call__(self, engine: Evaluator) -> None:
        """Decide on all cases, and stage the new labels of those that this process saw."""
        everywhere = {case.case: case for part in gather_from_all(self._cases) for case in part}
        self._cases = []
        cases = [everywhere[name] for name in sorted(everywhere)]
        rates = self.loss.keep_rates.cpu().view(len(cases[0].voxels), -1)
        per_class = self.loss.per_class or self.loss.variant == "released"
        unreliable = unreliable_units(cases, rates, per_class=per_class, over_set=self.over_set)
        done = []
        for item in _items(engine):
            case = everywhere[str(item["case"])]
            done.append(self.relabel(item, unreliable[case.case] & ~self._untouched(case), case.proposed))
        changes = {change.case: change for part in gather_from_all(done) for change in part}
        self.changes = [changes[name] for name in sorted(changes)]

    def relabel(self, item: Mapping[str, Any], unreliable: Tensor, proposed: Tensor) -> Relabelled:
        """Give the unreliable units of one case their proposed classes, and stage the label if it is another one."""
        label, ids = self.loss.labels_and_ids(_target(item))
        index = unit_index(superpixel_map(ids, ids > 0), label, self._classes, self.loss.variant)
        used = item["pseudo_label"].as_subclass(Tensor).cpu()
        new = relabel_units(label, index, unreliable, proposed).view(used.shape).to(torch.uint8)
        changed = int((new != used).sum())
        if changed:
            given = item["label"].as_subclass(Tensor).cpu().to(torch.uint8)
            geometry = geometry_of(item["label"])
            self.store.propose(str(item["case"]), new, reference=given, geometry=geometry, voxels_relabelled=changed)
        truth = None if self.truth_key is None else item[self.truth_key]
        before, after = (dice_to_truth(part, truth, self.num_classes) for part in (used, new))
        return Relabelled(str(item["case"]), changed, before, after)

    @property
    def _classes(self) -> int:
        return 2 if self.loss.sigmoid else self.loss.num_classes

    def _untouched(self, case: CaseUnits) -> Tensor:
        """Units of a case that belong, or would belong, to a structure that is kept."""
        kept = torch.tensor(sorted(self.kept), dtype=case.given.dtype)
        if self.num_classes is None:
            structures = torch.arange(1, len(case.given) + 1)
            return torch.isin(structures, kept)[:, None].expand_as(case.given)
        return torch.isin(case.given, kept) | torch.isin(case.proposed, kept)


def _items(engine: Evaluator) -> Iterator[Any]:
    return (item for batch in engine.data_loader for item in decollate_batch(batch))


def _target(item: Mapping[str, Any]) -> Tensor:
    """Label in use and superpixels as the loss takes them, for a batch of one."""
    parts = [item[key].as_subclass(Tensor).cpu() for key in ("pseudo_label", "superpixels")]
    return torch.cat([part.to(torch.int64) for part in parts])[None]
