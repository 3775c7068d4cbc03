"""The joint counted case by case is that of all voxels at once, whatever the order and the number of parts."""

from __future__ import annotations

import pytest
import torch
from reference import confident_counting
from torch import Tensor

from monai_noisylabel.estimation import calibrated_joint, class_statistics, class_thresholds, confident_counts

Case = tuple[Tensor, Tensor]


def cases(space: tuple[int, ...], classes: int = 3, count: int = 5) -> list[Case]:
    """Probabilities that go with a true label, some of which is given wrongly."""
    generator = torch.Generator().manual_seed(2)
    found = []
    for _ in range(count):
        true = torch.randint(0, classes, space, generator=generator)
        scores = 2.0 * torch.nn.functional.one_hot(true, classes).movedim(-1, 0)
        p = (scores + torch.randn(classes, *space, generator=generator)).softmax(0)
        wrong = torch.rand(space, generator=generator) < 0.3
        found.append((p, torch.where(wrong, (true + 1) % classes, true)))
    return found


def total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0)


def statistics(found: list[Case]) -> Tensor:
    return total([class_statistics(*case) for case in found])


def counts(found: list[Case]) -> Tensor:
    thresholds = class_thresholds(statistics(found))
    return total([confident_counts(*case, thresholds) for case in found])


def listed(found: list[Case]) -> tuple[list[list[float]], list[int]]:
    p = torch.cat([p.flatten(1) for p, _ in found], 1).T.double().tolist()
    return p, torch.cat([label.flatten() for _, label in found]).tolist()


@pytest.mark.parametrize("space", [(6, 7), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("classes", [2, 3])
class TestAgainstLoops:
    def test_thresholds(self, space: tuple[int, ...], classes: int) -> None:
        found = cases(space, classes)
        expected = torch.tensor(confident_counting.thresholds(*listed(found), classes), dtype=torch.float64)
        torch.testing.assert_close(class_thresholds(statistics(found)), expected, rtol=0, atol=2**-26)

    def test_counts_and_joint(self, space: tuple[int, ...], classes: int) -> None:
        found = cases(space, classes)
        expected = confident_counting.joint_counts(*listed(found), classes)
        assert counts(found).tolist() == expected
        assert sum(map(sum, expected)) < len(listed(found)[1])  # some voxels reach no threshold
        joint = calibrated_joint(counts(found), statistics(found)[1])
        rows = confident_counting.calibrated(expected, listed(found)[1])
        torch.testing.assert_close(joint, torch.tensor(rows, dtype=torch.float64))
        assert joint.sum().item() == pytest.approx(1)

    def test_absent_class(self, space: tuple[int, ...], classes: int) -> None:
        found = [(p, torch.zeros_like(label)) for p, label in cases(space, classes)]
        thresholds = class_thresholds(statistics(found))
        assert thresholds[1:].isinf().all()
        assert thresholds[0].isfinite()
        number = counts(found)
        assert number[0, 0] == number.sum() > 0
        joint = calibrated_joint(number, statistics(found)[1])
        assert joint[0, 0] == 1
        assert joint.sum() == 1


def test_order_and_division_do_not_change_a_bit() -> None:
    found = cases((6, 7), count=7)
    whole = statistics(found)
    assert whole.dtype == torch.int64
    assert torch.equal(statistics(found[::-1]), whole)
    halves = [(p[:, half], label[half]) for p, label in found for half in (slice(0, 2), slice(2, None))]
    assert torch.equal(statistics(halves), whole)
    assert torch.equal(counts(halves), counts(found))


def test_a_class_of_equal_probabilities_reaches_its_own_mean() -> None:
    for value in torch.rand(20, generator=torch.Generator().manual_seed(0)).pow(3).tolist():
        p = torch.tensor([[value], [1 - value]]).expand(2, 11)
        label = torch.zeros(11, dtype=torch.int64)
        assert confident_counts(p, label, class_thresholds(class_statistics(p, label)))[0, 0] == 11


def test_the_most_probable_of_the_confident_classes_counts() -> None:
    # 0 is the most probable, but does not reach its threshold; of 1 and 2, which do, 2 is the more probable
    p = torch.tensor([[0.5], [0.2], [0.3]])
    counted = confident_counts(p, torch.tensor([1]), torch.tensor([0.6, 0.1, 0.2]))
    assert counted.nonzero().tolist() == [[1, 2]]


def test_half_precision_is_read_as_float32() -> None:
    p, label = cases((6, 7))[0]
    half = p.half()
    assert torch.equal(class_statistics(half, label), class_statistics(half.float(), label))
    just_above = half[:, 0, 0].double() + 1e-6  # the same number in half precision
    assert confident_counts(half[:, :1, :1], label[:1, :1], just_above).sum() == 0


def test_a_class_without_confident_voxels_is_taken_to_be_right() -> None:
    joint = calibrated_joint(torch.tensor([[3, 1], [0, 0]]), torch.tensor([8, 2]))
    torch.testing.assert_close(joint, torch.tensor([[0.6, 0.2], [0.0, 0.2]], dtype=torch.float64))


def test_what_does_not_fit_is_refused() -> None:
    p, label = cases((6, 7))[0]
    for count in (class_statistics, lambda a, b: confident_counts(a, b, torch.zeros(3))):
        with pytest.raises(ValueError, match=r"\(C, \*S\) and label \(\*S\), got \(3, 6, 7\) and \(6, 6\)"):
            count(p, label[:, :6])
        for wrong in (-1, 3):
            with pytest.raises(ValueError, match="class indices from 0 to 2"):
                count(p, torch.full_like(label, wrong))
