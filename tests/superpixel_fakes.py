"""Three cases of five superpixels whose relabelling can be worked out by hand, alone or shared by processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from handler_fakes import fake_trainer, superpixel_sweep
from torch import Tensor

from monai_noisylabel.data import LabelStore
from monai_noisylabel.handlers import SuperpixelRefinement, SuperpixelRelabel
from monai_noisylabel.losses import SuperpixelLoss

PAIRS = torch.arange(1, 6).repeat_interleave(2).view(1, 1, 10)
"""Five superpixels of two voxels."""


def bits(text: str) -> Tensor:
    return torch.tensor([int(sign) for sign in text], dtype=torch.uint8).view(1, 1, -1)


def logits(*probabilities: Sequence[float]) -> Tensor:
    """Logits (2 * 2, 1, 10) of two networks with the given probabilities of class 1 in each superpixel."""
    z = [torch.tensor(p, dtype=torch.float64).logit().float() for p in probabilities]  # of 0.1 and 0.9 exactly opposite
    z = [part.repeat_interleave(2).view(1, 1, 10) for part in z]
    return torch.cat([part for half in z for part in (-half / 2, half / 2)])


SURE = (0.1, 0.1, 0.9, 0.9, 0.9)
"""What both networks find: the first four voxels are background."""
CASES = {
    "a": {"label": bits("0000111111"), "pred": logits(SURE, SURE)},  # right
    "b": {"label": bits("0000000011"), "pred": logits(SURE, SURE)},  # two superpixels missing
    "c": {"label": bits("1100111111"), "pred": logits(SURE, SURE)},  # one superpixel too many
}


def case_items(**more: Any) -> list[dict[str, Any]]:
    truth = bits("0000111111")
    return [
        {"case": name, "superpixels": PAIRS, "clean_label": truth, **entry, **more} for name, entry in CASES.items()
    ]


def relabelling(store: LabelStore, loss: SuperpixelLoss, over_set: bool = True) -> SuperpixelRelabel:
    return SuperpixelRelabel(store, loss, None if loss.sigmoid else loss.num_classes, over_set, "clean_label")


def refined_share(
    rank: int, folder: str, shares: Sequence[Sequence[str]], gaps: Sequence[tuple[float, int]]
) -> dict[str, float]:
    """Metrics of a refinement after the first epoch, for which each rank has its cases and its gaps."""
    items = {item["case"]: item for item in case_items()}
    loss = SuperpixelLoss(2, 14 / 15, ramp_epochs=0, per_class=False)
    relabel = relabelling(LabelStore(folder), loss)
    sweep = superpixel_sweep([items[name] for name in shares[rank]], relabel)
    metrics: dict[str, float] = {}

    def step(engine: Any, batch: Any) -> list[dict[str, float]]:
        metrics.update(engine.state.metrics)
        loss._gaps = torch.tensor(gaps[rank], dtype=torch.float64)
        return [{"loss": 0.0}]

    fake_trainer(2, [SuperpixelRefinement(sweep, relabel, ["lung"], max_stage=1)], step).run()
    return metrics
