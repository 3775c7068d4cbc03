"""What confident learning costs on a stream of volumes, ours and cleanlab's, each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from monai_noisylabel.selection import confident_limits, label_errors

CLASSES = 4
RULE = "prune_by_noise_rate"


class Cost(NamedTuple):
    """Most memory beyond what there was before, processor time, and how many voxels were found wrong."""

    bytes: int
    seconds: float
    errors: int


class Volumes:
    """Probabilities and labels, a tenth of them wrong, that are made anew each time they are read."""

    def __init__(self, count: int, space: tuple[int, ...]) -> None:
        generator = torch.Generator().manual_seed(0)
        true = torch.randint(0, CLASSES, space, generator=generator)
        logits = torch.randn(CLASSES, *space, generator=generator).scatter_add_(
            0, true[None], torch.full((1, *space), 3.0)
        )
        wrong = torch.rand(space, generator=generator) < 0.1
        self.count, self.probability = count, logits.softmax(0)
        self.label = torch.where(wrong, (true + 1) % CLASSES, true).to(torch.uint8)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(self.count):
            # another volume: other voxels meet, and the last class is a little less sure
            p = self.probability.roll(number, 1)
            p[-1] *= 1 - number / (10 * self.count)
            yield p, self.label.roll(number, 0)


def ours(count: int, space: tuple[int, ...]) -> Cost:
    volumes = Volumes(count, space)

    def run() -> int:
        limits = confident_limits(volumes, RULE)
        return sum(int(label_errors(*case, limits).sum()) for case in volumes)

    return _measured(run)


def theirs(count: int, space: tuple[int, ...]) -> Cost:
    """All probabilities in one array, as it needs them, which counts as memory but not as time."""
    from cleanlab.filter import find_label_issues

    volumes, before = Volumes(count, space), _resident()
    voxels = torch.Size(space).numel()
    p, label = torch.empty(count * voxels, CLASSES), torch.empty(count * voxels, dtype=torch.int64)
    for number, (probability, given) in enumerate(volumes):
        part = slice(number * voxels, (number + 1) * voxels)
        p[part], label[part] = probability.flatten(1).T, given.flatten()
    arrays = label.numpy(), p.numpy()
    return _measured(lambda: int(find_label_issues(*arrays, filter_by=RULE, n_jobs=1).sum()), before)


def in_new_process(function: Callable[..., Cost], *arguments: object) -> Cost:
    """What a function of this module returns when nothing ran before it."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_single_threaded, (function, arguments))


def _single_threaded(function: Callable[..., Cost], arguments: tuple[object, ...]) -> Cost:
    torch.set_num_threads(1)
    return function(*arguments)


def _measured(run: Callable[[], int], before: int | None = None) -> Cost:
    before = _resident() if before is None else before
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    start = time.process_time()
    errors = run()
    seconds = time.process_time() - start
    return Cost(_resident("VmHWM") - before, seconds, errors)


def _resident(field: str = "VmRSS") -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(field)).split()[1])
