"""The voxels that confident learning chooses: against sorting loops, and against cleanlab where that is installed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest
import torch
from reference import confident_counting, confident_pruning
from torch import Tensor

from monai_noisylabel.estimation import calibrated_counts
from monai_noisylabel.selection import ConfidentLimits, PruningRule, confident_limits, label_errors

RULES = get_args(PruningRule)
CLEANLAB_NAMES = {"off_diagonal": "confident_learning"}
Case = tuple[Tensor, Tensor]


def cases(space: tuple[int, ...], classes: int = 3, count: int = 5, sharpness: float = 2.0) -> list[Case]:
    """Probabilities that go with a true label, some of which is given wrongly."""
    generator = torch.Generator().manual_seed(2)
    found = []
    for _ in range(count):
        true = torch.randint(0, classes, space, generator=generator)
        scores = sharpness * torch.nn.functional.one_hot(true, classes).movedim(-1, 0)
        p = (scores + torch.randn(classes, *space, generator=generator)).softmax(0)
        wrong = torch.rand(space, generator=generator) < 0.2
        found.append((p, torch.where(wrong, (true + 1) % classes, true)))
    return found


def verdicts(found: list[Case], rule: PruningRule) -> Tensor:
    limits = confident_limits(found, rule)
    return torch.cat([label_errors(*case, limits).flatten() for case in found])


def arrays(found: list[Case]) -> Case:
    return torch.cat([p.flatten(1) for p, _ in found], 1).T, torch.cat([label.flatten() for _, label in found])


def expected(found: list[Case], rule: str) -> list[bool]:
    p, label = arrays(found)
    return confident_pruning.errors(p.tolist(), label.tolist(), p.shape[1], rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("space", [(8, 9), (4, 4, 5)], ids=str)
class TestAgainstLoops:
    def test_verdicts(self, rule: PruningRule, classes: int, space: tuple[int, ...]) -> None:
        found = cases(space, classes)
        errors = verdicts(found, rule)
        assert errors.tolist() == expected(found, rule)
        assert 0 < errors.float().mean() < 0.5

    def test_ties_of_few_values(self, rule: PruningRule, classes: int, space: tuple[int, ...]) -> None:
        # multiples of 1/8, exact in float32, so that most scores are shared by many voxels
        found = [((8 * p).round() / 8, label) for p, label in cases(space, classes)]
        assert verdicts(found, rule).tolist() == expected(found, rule)


class TestRules:
    # p_1 of voxels given 0; those above 0.5 seem to be 1. Class 0: t_0 = 0.6125; class 1: t_1 = 0.85.
    P1 = (0.05, 0.1, 0.1, 0.2, 0.3, 0.6, 0.85, 0.9, 0.8, 0.9)
    GIVEN = (0, 0, 0, 0, 0, 0, 0, 0, 1, 1)

    def found(self, rule: PruningRule) -> tuple[list[bool], ConfidentLimits]:
        p = torch.tensor(self.P1, dtype=torch.float64)
        case = (torch.stack([1 - p, p]), torch.tensor(self.GIVEN))
        limits = confident_limits([case], rule)
        return label_errors(*case, limits).tolist(), limits

    @pytest.mark.parametrize("rule", RULES)
    def test_by_hand(self, rule: PruningRule) -> None:
        # confident: five voxels as (0, 0), two as (0, 1), the one of 0.6 not; C'_0 = 8 * (5, 2) / 7 = (5.71, 2.29),
        # whole (6, 2). So two voxels are chosen, of p_1 = 0.9 and 0.85. In class 1 nothing is.
        errors, limits = self.found(rule)
        assert limits.joint.tolist() == [[6, 2], [0, 2]]
        assert errors == [False] * 6 + [True, True, False, False]

    def test_the_limits_by_hand(self) -> None:
        torch.testing.assert_close(self.found("both")[1].scores[0], torch.tensor([-0.15, 0.7]))
        assert self.found("both")[1].scores[1].isinf().all()

    def test_rules_differ_where_they_should(self) -> None:
        found = cases((20, 20), 4, sharpness=1.5)
        by_class, by_rate, both, counted = (verdicts(found, rule) for rule in RULES)
        assert torch.equal(both, by_class & by_rate)
        assert (by_class & ~by_rate).any()
        assert (by_rate & ~by_class).any()
        assert (counted ^ both).any()


@pytest.mark.parametrize("rule", RULES)
class TestEveryRule:
    def test_the_most_probable_label_is_never_wrong(self, rule: PruningRule) -> None:
        # thresholds so low and numbers so high that all voxels would be chosen
        everything = ConfidentLimits(rule, torch.tensor([0.9, 0.0]), torch.eye(2), torch.full((2, 2), -1.0))
        p = torch.tensor([[0.6, 0.5, 0.4], [0.4, 0.5, 0.6]])
        assert label_errors(p, torch.tensor([0, 0, 0]), everything).tolist() == [False, False, True]

    def test_perfect_labels_have_no_errors(self, rule: PruningRule) -> None:
        found = [(p, p.argmax(0)) for p, _ in cases((8, 9))]
        assert not verdicts(found, rule).any()

    def test_neither_order_nor_division_changes_a_verdict(
        self, rule: PruningRule, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = cases((8, 9))
        limits = confident_limits(found, rule)
        halves = [(p[:, half], label[half]) for p, label in found for half in (slice(0, 3), slice(3, None))]
        for same in (found[::-1], halves):
            other = confident_limits(same, rule)
            assert torch.equal(other.scores, limits.scores)
            assert torch.equal(other.thresholds, limits.thresholds)
        whole = verdicts(found, rule)
        monkeypatch.setattr("monai_noisylabel.estimation.blocks.BLOCK", 7)
        assert torch.equal(verdicts(found, rule), whole)

    def test_two_processes_count_what_one_does(self, rule: PruningRule) -> None:
        found = cases((8, 9))
        barrier, shared = threading.Barrier(2, timeout=60), [torch.empty(0), torch.empty(0)]

        def process(rank: int) -> ConfidentLimits:
            def total(counts: Tensor) -> Tensor:
                shared[rank] = counts
                barrier.wait()
                both = shared[0] + shared[1]
                barrier.wait()
                return both

            return confident_limits(found[rank::2], rule, total)

        whole = confident_limits(found, rule)
        with ThreadPoolExecutor(2) as pool:
            for limits in pool.map(process, range(2)):
                assert torch.equal(limits.joint, whole.joint)
                assert torch.equal(limits.scores, whole.scores)

    def test_half_precision_and_small_label_types(self, rule: PruningRule) -> None:
        found = [(p.half(), label) for p, label in cases((8, 9))]
        same = [(p.float(), label.to(torch.uint8)) for p, label in found]
        assert torch.equal(verdicts(found, rule), verdicts(same, rule))
        assert verdicts(found, rule).any()

    def test_a_class_that_is_never_given(self, rule: PruningRule) -> None:
        found = [(p, label.clamp(max=1)) for p, label in cases((8, 9))]
        assert confident_limits(found, rule).joint[2].sum() == 0
        assert verdicts(found, rule).tolist() == expected(found, rule)


def test_how_often_a_case_is_read() -> None:
    class Counted:
        readings = 0

        def __iter__(self) -> Iterator[Case]:
            self.readings += 1
            return iter(cases((8, 9)))

    for rule, readings in {"both": 3, "off_diagonal": 2}.items():
        counted = Counted()
        confident_limits(counted, rule)
        assert counted.readings == readings


@pytest.mark.parametrize("seed", range(20))
def test_calibrated_counts(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 8, (4, 4), generator=generator)
    counts[seed % 4] *= seed % 2
    voxels = torch.randint(0, 40, (4,), generator=generator)
    whole = calibrated_counts(counts, voxels)
    assert torch.equal(whole.sum(1), voxels)
    assert whole.tolist() == confident_pruning.calibrated(counts.tolist(), voxels.tolist())


def test_calibration_of_more_voxels_than_floats_count() -> None:
    # 3e18 voxels times counts of 1e18 fit no machine number
    counts, voxels = torch.tensor([[10**18, 1], [0, 10**18]]), torch.tensor([3 * 10**18, 7])
    assert calibrated_counts(counts, voxels).tolist() == [[3 * 10**18 - 3, 3], [0, 7]]


def test_what_does_not_fit_is_refused() -> None:
    found = cases((8, 9))
    with pytest.raises(ValueError, match=r"rule must be one of prune_by_class, .*got 'prune'"):
        confident_limits(found, "prune")
    with pytest.raises(ValueError, match="no case to count"):
        confident_limits([])
    with pytest.raises(ValueError, match="read several times: give a list"):
        confident_limits(iter(found))
    with pytest.raises(ValueError, match="counted for 3 classes, the probability has 2"):
        label_errors(found[0][0][:2], found[0][1], confident_limits(found))
    for wrong, message in ((10 * found[0][0], "got .* apply softmax"), (found[0][0] * torch.nan, "got nan to nan")):
        with pytest.raises(ValueError, match=message):
            confident_limits([(wrong, found[0][1])])


class TestAgainstCleanlab:
    """Its own tolerance of 1e-6 and its floor of one right label per class do not show on these arrays."""

    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize(("classes", "size"), [(2, 40), (3, 40), (4, 64)])
    def test_verdicts(self, rule: PruningRule, classes: int, size: int) -> None:
        cleanlab = pytest.importorskip("cleanlab.filter")
        found = cases((size, size), classes, sharpness=3.0)
        p, label = arrays(found)
        theirs = cleanlab.find_label_issues(
            label.numpy(), p.double().numpy(), filter_by=CLEANLAB_NAMES.get(rule, rule), n_jobs=1
        )
        ours = verdicts(found, rule)
        assert ours.any()
        assert torch.equal(ours, torch.from_numpy(theirs))

    @pytest.mark.parametrize("classes", [2, 3, 4])
    def test_joint(self, classes: int) -> None:
        count = pytest.importorskip("cleanlab.count")
        found = cases((40, 40), classes, sharpness=3.0)
        p, label = arrays(found)
        theirs = count.compute_confident_joint(label.numpy(), p.double().numpy(), calibrate=True)
        assert confident_limits(found).joint.tolist() == theirs.tolist()
        counted = confident_counting.joint_counts(p.tolist(), label.tolist(), classes)
        plain = count.compute_confident_joint(label.numpy(), p.double().numpy(), calibrate=False)
        assert counted == plain.tolist()
