"""Every loss, forward and backward, against torch's cross entropy and PyMIC's losses of the same name.

Times are processor times of one thread, the least of several runs that alternate with the other side's, so that
what else the machine does stays out. It does not quite: our blocks live in the caches, which other processes share,
while torch's cross entropy streams through memory. Beside other work on every core the ratios rise, by up to a
quarter for the sums with the most temporaries, which then miss the limit. Fresh pages, which the system has to clear,
are kept out on both sides; cross entropy, which needs two or three times the memory, would pay more for them.
Memory is the peak of what the allocator handed out, beyond the inputs.
PyMIC 0.6.2 takes part where it can be imported: ``pip install --no-deps --target DIR pymic==0.6.2`` and
``PYTHONPATH=DIR``.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable

import pytest
import torch
from measuring import Step, peak_bytes, seconds
from torch import Tensor, nn
from torch.nn import functional as F

from monai_noisylabel import losses

pytestmark = [pytest.mark.benchmark, pytest.mark.usefixtures("one_thread")]

SHAPES = [(8, 2, 224, 224), (2, 4, 96, 96, 96)]
MEMBERS: dict[str, Callable[..., nn.Module]] = {
    "CrossEntropyLoss": losses.CrossEntropyLoss,
    "GeneralizedCrossEntropyLoss": losses.GeneralizedCrossEntropyLoss,
    "GeneralizedCrossEntropyLoss, truncated": lambda: losses.GeneralizedCrossEntropyLoss(truncation=0.5),
    "MeanAbsoluteErrorLoss": losses.MeanAbsoluteErrorLoss,
    "ReverseCrossEntropyLoss": losses.ReverseCrossEntropyLoss,
    "SymmetricCrossEntropyLoss": losses.SymmetricCrossEntropyLoss,
    "NormalizedCrossEntropyLoss": losses.NormalizedCrossEntropyLoss,
    "NormalizedGeneralizedCrossEntropyLoss": losses.NormalizedGeneralizedCrossEntropyLoss,
    "NCEandMAELoss": losses.NCEandMAELoss,
    "NCEandRCELoss": losses.NCEandRCELoss,
    "NGCEandMAELoss": losses.NGCEandMAELoss,
    "NGCEandRCELoss": losses.NGCEandRCELoss,
    "ForwardCorrectedLoss": losses.ForwardCorrectedLoss,
    "BackwardCorrectedLoss": losses.BackwardCorrectedLoss,
    "NoiseRobustDiceLoss": losses.NoiseRobustDiceLoss,
    "TLoss": losses.TLoss,
}
PYMIC = {
    "CrossEntropyLoss": ("pymic.loss.seg.ce", "CrossEntropyLoss"),
    "GeneralizedCrossEntropyLoss": ("pymic.loss.seg.ce", "GeneralizedCELoss"),
    "MeanAbsoluteErrorLoss": ("pymic.loss.seg.mse", "MAELoss"),
    "NoiseRobustDiceLoss": ("pymic.loss.seg.dice", "NoiseRobustDiceLoss"),
}
TIME_RATIO, MEMORY_RATIO = 1.6, 1.3
"""The most that a member may take of what torch's cross entropy takes."""


@pytest.fixture(autouse=True, scope="module")
def _heap_is_kept() -> None:
    """Freed memory stays with the process: else one side or the other has fresh pages to clear, by chance."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it
    for threshold in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        if mallopt is not None:
            mallopt(threshold, 2**30)


@pytest.fixture(params=SHAPES, ids=str)
def batch(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """Logits and class indices."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(request.param, generator=generator, requires_grad=True)
    samples, classes, *space = request.param
    return logits, torch.randint(0, classes, (samples, 1, *space), generator=generator)


def build(name: str, classes: int) -> nn.Module:
    if "Corrected" in name:
        return MEMBERS[name](0.9 * torch.eye(classes) + 0.1 / classes)
    return MEMBERS[name]()


def step(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> Step:
    def run() -> None:
        torch.autograd.grad(loss(logits, target), logits)

    return run


def torch_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target[:, 0])


def compare(name: str, other: str, ours: Step, theirs: Step, capsys: pytest.CaptureFixture[str]) -> tuple[float, float]:
    our_time, their_time = seconds(ours, theirs, runs=40)
    our_peak, their_peak = peak_bytes(ours), peak_bytes(theirs)
    with capsys.disabled():
        print(
            f"\n{name} / {other}: time {1e3 * our_time:.1f} / {1e3 * their_time:.1f} ms = {our_time / their_time:.2f}, "
            f"memory {our_peak / 2**20:.1f} / {their_peak / 2**20:.1f} MiB = {our_peak / their_peak:.2f}"
        )
    return our_time / their_time, our_peak / their_peak


@pytest.mark.parametrize("name", MEMBERS)
def test_against_cross_entropy_of_torch(
    name: str, batch: tuple[Tensor, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = step(build(name, batch[0].shape[1]), *batch), step(torch_cross_entropy, *batch)
    time_ratio, memory_ratio = compare(name, "torch", ours, theirs, capsys)
    assert memory_ratio <= MEMORY_RATIO
    assert time_ratio <= TIME_RATIO


@pytest.mark.parametrize("prepared", [False, True], ids=["indices given", "one-hot prepared"])
@pytest.mark.parametrize("name", PYMIC)
def test_against_pymic(
    name: str, prepared: bool, batch: tuple[Tensor, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    module, member = PYMIC[name]
    pytest.importorskip("pymic", reason="PyMIC is not a dependency; the module's docstring tells how to add it")
    other = getattr(importlib.import_module(module), member)({"loss_gce_q": 0.7, "noiserobustdiceloss_gamma": 1.5})
    logits, target = batch
    one_hot = one_hot_of(target, logits)

    def pymic_loss(logits: Tensor, target: Tensor) -> Tensor:
        return other({"prediction": logits, "ground_truth": one_hot if prepared else one_hot_of(target, logits)})

    ours, theirs = step(build(name, logits.shape[1]), logits, target), step(pymic_loss, logits, target)
    other_name = "PyMIC, one-hot prepared" if prepared else "PyMIC"
    time_ratio, memory_ratio = compare(name, other_name, ours, theirs, capsys)
    assert memory_ratio < 1
    assert time_ratio < 1


def one_hot_of(target: Tensor, logits: Tensor) -> Tensor:
    return F.one_hot(target[:, 0], logits.shape[1]).movedim(-1, 1).to(logits.dtype)
