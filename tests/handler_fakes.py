"""Labels that can be worked with by hand, and engines that hand out what a test wants them to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import Dataset, decollate_batch, list_data_collate
from monai.engines import Evaluator, Trainer
from monai.transforms import Compose
from torch import Tensor, nn

from monai_noisylabel.data import LabelStore
from monai_noisylabel.handlers import CaseDice, KeepRates, LabelCleansing, SuperpixelRelabel, SyncBuffers
from monai_noisylabel.losses import CoTeachingLoss

WIDTH = 10


def strip(count: int, value: int = 1) -> Tensor:
    """A row whose first ``count`` voxels are foreground: Dice of two is 2 min(a, b) / (a + b)."""
    label = torch.zeros(1, 1, WIDTH, dtype=torch.uint8)
    label[..., :count] = value
    return label


def fake_evaluator(
    batches: Sequence[Any], outputs: Callable[[Engine, Any], Any], handlers: Sequence[Any] = ()
) -> Evaluator:
    """An evaluator over decollated batches that answers with ``outputs(engine, batch)``."""
    return Evaluator(
        device="cpu",
        val_data_loader=batches,
        iteration_update=outputs,
        decollate=False,
        val_handlers=handlers,
    )


def fake_trainer(
    max_epochs: int,
    handlers: Sequence[Any] = (),
    step: Callable[[Engine, Any], Any] = lambda engine, batch: [{"loss": 0.0}],
    batches: Sequence[Any] = (0, 1),
) -> Trainer:
    """A trainer whose step does what a test wants, and nothing else."""
    return Trainer(
        device="cpu",
        max_epochs=max_epochs,
        data_loader=batches,
        iteration_update=step,
        decollate=False,
        handlers=handlers,
    )


class FakeSweep:
    """A sweep over named samples whose predictions and proposals are made by hand.

    Args:
        given: case -> given label.
        stored: looks up the label in use of a case; None for the given one.
        batch_size: samples per batch.
        cases: the order in which cases come, perhaps with repetitions; None: each once.
    """

    def __init__(
        self,
        given: Mapping[str, Tensor],
        stored: Callable[[str], Any] = lambda case: None,
        batch_size: int = 2,
        cases: Sequence[str] | None = None,
    ) -> None:
        self.given = given
        self.stored = stored
        self.predicted: dict[str, Tensor] = {}
        self.proposed: dict[str, Tensor] = {}
        order = list(given) if cases is None else list(cases)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        self.evaluator = fake_evaluator(batches, self._answer)
        self.epochs: list[int] = []

    def _answer(self, engine: Engine, cases: Sequence[str]) -> list[dict[str, Any]]:
        if engine.state.iteration == 1:
            self.epochs.append(engine.state.epoch)
        engine.state.batch = [self._item(case) for case in cases]
        return [{"pred": self.predicted[case], "candidate": self.proposed[case]} for case in cases]

    def _item(self, case: str) -> dict[str, Any]:
        stored = self.stored(case)
        label = self.given[case]
        return {
            "case": case,
            "label": label,
            "pseudo_label": label if stored is None else torch.as_tensor(stored),
        }


def measure_cases(rank: int, shares: Sequence[Sequence[tuple[str, str, int, int]]]) -> dict[str, float]:
    """Metrics of a :class:`CaseDice` on the share of one rank, of (case, volume, predicted, given) each."""
    metric = CaseDice(["liver"], num_classes=2)
    batches = [
        [{"case": case, "volume": volume, "pred": strip(pred), "label": strip(given)}]
        for case, volume, pred, given in shares[rank]
    ]
    evaluator = fake_evaluator(batches, lambda engine, batch: batch)
    metric.attach(evaluator, "dice")
    evaluator.run()
    return dict(evaluator.state.metrics)


def cleanse(rank: int, folder: str, shares: Sequence[Sequence[str]]) -> dict[str, int]:
    """Counts of the second round of a :class:`LabelCleansing` in which each rank sweeps its share."""
    store = LabelStore(folder)
    given = {case: strip(count) for case, count in CLEANSED_GIVEN.items()}
    sweep = FakeSweep(given, store.read, cases=shares[rank])
    sweep.predicted = dict.fromkeys(given, strip(5))
    sweep.proposed = {case: strip(count) for case, count in CLEANSED_PROPOSED.items()}
    trainer = fake_trainer(3, [LabelCleansing(sweep.evaluator, store, warm_up=1, interval=1, num_classes=2)])
    trainer.run()
    return {name: int(value) for name, value in trainer.state.metrics.items() if name.startswith("labels_")}


CLEANSED_GIVEN = {"a": 5, "b": 5, "c": 5, "d": 1, "e": 1, "f": 0}
"""Foreground voxels of the given labels: three agree with a prediction of five voxels, three do not."""
CLEANSED_PROPOSED = {"a": 4, "b": 4, "c": 4, "d": 5, "e": 0, "f": 6}
"""Foreground voxels of the proposals: nothing is proposed for e."""


def superpixel_sweep(items: Sequence[Mapping[str, Any]], relabel: SuperpixelRelabel) -> Evaluator:
    """A sweep over items that bring along what the networks answer, two per batch."""
    complete = [{"pseudo_label": item["label"], **item} for item in items]
    batches = [list_data_collate(complete[start : start + 2]) for start in range(0, len(complete), 2)]

    def answer(engine: Engine, batch: Any) -> list[dict[str, Any]]:
        engine.state.batch = decollate_batch(batch)
        return [{"pred": item["pred"]} for item in engine.state.batch]

    return fake_evaluator(batches, answer, [relabel])


def broadcast_buffers(rank: int) -> dict[str, Any]:
    """State of a network before and after :class:`SyncBuffers`, its numbers being those of the rank."""
    network = nn.BatchNorm1d(2)
    for tensor in network.state_dict().values():
        tensor.fill_(rank + 1)
    fake_trainer(1, [SyncBuffers(network)]).run()
    return {name: tensor.float().mean().item() for name, tensor in network.state_dict().items()}


def doubted(case: int, channels: int = 3) -> dict[str, Any]:
    """A sample that a network has an opinion on: ``logits``, a ``label`` half of which is wrong, and the clean one.

    Multi-class, or with two channels two overlapping structures.
    """
    generator = torch.Generator().manual_seed(case)
    clean = torch.randint(0, 3, (1, 6, 7), generator=generator)
    noisy = torch.where(torch.rand(1, 6, 7, generator=generator) < 0.5, clean, (clean + case) % 3)
    if channels == 2:
        clean, noisy = (torch.cat([label > 0, label == 2]).long() for label in (clean, noisy))
    votes = clean if channels == 2 else torch.cat([clean == c for c in range(3)])
    logits = 2.0 * votes - 1 + torch.randn(votes.shape, generator=generator)
    return {"case": f"case {case}", "label": noisy.to(torch.uint8), "clean_label": clean, "logits": logits}


def doubting_sweep(samples: Sequence[dict[str, Any]]) -> Evaluator:
    """A sweep over samples of :func:`doubted`, two in a batch."""
    batches = [samples[start : start + 2] for start in range(0, len(samples), 2)]
    return fake_evaluator(batches, lambda engine, batch: [{"pred": sample["logits"]} for sample in batch])


def rates_of_share(rank: int, source: str, shares: Sequence[Sequence[int]]) -> tuple[list[float], list[str]]:
    """Keep rates that a rank ends with, and the cases it read from the dataset of all; the sweep sees its share."""
    loss, read = CoTeachingLoss(num_classes=3), []

    def note(item: dict[str, Any]) -> dict[str, Any]:
        read.append(item["case"])
        return item

    dataset = Dataset([doubted(case) for share in shares for case in share], Compose([note]))
    sweep = doubting_sweep([doubted(case) for case in shares[rank]])
    handler = KeepRates(loss, source, classes=["a", "b"], num_classes=3, sweep=sweep, dataset=dataset, warm_up=1)
    fake_trainer(2, [handler]).run()
    return loss.keep_rates.tolist(), read
