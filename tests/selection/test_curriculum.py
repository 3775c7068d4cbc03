from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_noisylabel.selection import agreement_vote, class_status, curriculum_thresholds, prediction_counts


class TestPredictionCounts:
    def test_predicted_and_confident_of_every_problem(self) -> None:
        confidence = torch.tensor([[[0.96, 0.95, 0.5], [0.99, 0.99, 0.7]], [[0.97, 0.4, 0.98], [0.5, 0.6, 0.7]]])
        predicted = torch.tensor([[[0, 0, 2], [1, 0, 0]], [[0, 1, 2], [1, 1, 1]]])
        counts = prediction_counts(confidence, predicted, num_classes=3)
        # 0.95 is not more than tau
        assert counts.tolist() == [[[3, 2], [1, 0], [2, 1]], [[2, 1], [4, 1], [0, 0]]]
        assert counts.dtype == torch.int64

    def test_voxels_of_weight_0_are_not_counted(self) -> None:
        confidence, predicted = torch.full((2, 2, 3), 0.99), torch.zeros(2, 2, 3, dtype=torch.int64)
        by_voxel = torch.tensor([[[1.0, 0.0, 0.5]], [[0.0, 0.0, 0.0]]])
        assert prediction_counts(confidence, predicted, 2, weight=by_voxel).tolist() == [[[2, 2], [0, 0]]] * 2
        by_sample = torch.tensor([0.0, 1.0])[:, None, None]
        assert prediction_counts(confidence, predicted, 2, weight=by_sample).tolist() == [[[3, 3], [0, 0]]] * 2


class TestStatusAndThresholds:
    def test_rate_and_count(self) -> None:
        counts = torch.tensor([[[200.0, 150.0], [4.0, 4.0], [0.0, 0.0]]])
        assert class_status(counts).tolist() == [[0.75, 1.0, 0.0]]
        assert class_status(counts, "count").tolist() == [[150.0, 4.0, 0.0]]
        with pytest.raises(ValueError, match=r"status must be one of \('rate', 'count'\), got 'share'"):
            class_status(counts, "share")  # type: ignore[arg-type]

    def test_closed_form(self) -> None:
        """beta = 1, 1/2, 1/4, 0: beta / (2 - beta) = 1, 1/3, 1/7, 0."""
        limits = curriculum_thresholds(torch.tensor([0.8, 0.4, 0.2, 0.0]), tau=0.84)
        torch.testing.assert_close(limits, torch.tensor([0.84, 0.28, 0.12, 0.0]))

    def test_the_curve_is_convex_and_grows(self) -> None:
        status = torch.linspace(0, 1, 21, dtype=torch.float64)
        limits = curriculum_thresholds(status)
        assert (limits.diff() > 0).all()
        assert (limits.diff(n=2) > 0).all()
        assert limits[-1] == 0.95

    def test_nothing_learned_gives_0(self) -> None:
        assert curriculum_thresholds(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2

    def test_rows_are_apart(self) -> None:
        status = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(0))
        limits = curriculum_thresholds(status)
        for branch in range(2):
            for problem in range(4):
                assert torch.equal(limits[branch, problem], curriculum_thresholds(status[branch, problem]))

    def test_shares_of_endovis_leave_the_count_inactive(self) -> None:
        """Instruments hold 9, 2 and 5 % of the pixels: below 1/4 no threshold of four classes selects anything."""
        shares = torch.tensor([0.840, 0.089, 0.020, 0.051])
        counts = torch.stack([shares, 0.9 * shares], -1)
        assert (curriculum_thresholds(class_status(counts, "count"))[1:] < 1 / 4).all()
        torch.testing.assert_close(curriculum_thresholds(class_status(counts)), torch.full((4,), 0.95))


class TestVote:
    limits = torch.tensor([[[0.5, 0.8]], [[0.6, 0.7]]])

    @pytest.mark.parametrize(
        ("p", "predicted", "label", "clean"),
        [
            ((0.55, 0.65), (0, 0), 0, 1.0),
            ((0.50, 0.65), (0, 0), 0, 0.0),  # first branch: not more than its threshold
            ((0.55, 0.60), (0, 0), 0, 0.0),  # second branch: likewise
            ((0.79, 0.75), (1, 1), 1, 0.0),  # the threshold of class 1, not of class 0
            ((0.81, 0.71), (1, 1), 1, 1.0),
            ((0.99, 0.99), (1, 0), 1, 0.0),  # branches differ
            ((0.99, 0.99), (0, 1), 1, 0.0),
            ((0.99, 0.99), (1, 1), 0, 0.0),  # both against the label
        ],
    )
    def test_every_condition(
        self, p: tuple[float, float], predicted: tuple[int, int], label: int, clean: float
    ) -> None:
        vote = agreement_vote(
            [torch.tensor([[[value]]]) for value in p],
            [torch.tensor([[[value]]]) for value in predicted],
            torch.tensor([[[label]]]),
            self.limits,
        )
        assert vote.tolist() == [[[clean]]]

    def test_every_structure_has_its_thresholds(self) -> None:
        limits = torch.tensor([[[0.9, 0.5], [0.5, 0.9]]] * 2)
        votes, label = [torch.full((1, 2, 1), 0.7)] * 2, torch.ones(1, 2, 1, dtype=torch.int64)
        assert agreement_vote(votes, [label, label], label, limits).tolist() == [[[1.0], [0.0]]]

    def test_a_weight_map(self) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(top: int) -> Tensor:
            return torch.randint(0, top, (2, 1, 50), generator=generator)

        vote = agreement_vote([draw(100) / 100, draw(100) / 100], [draw(2), draw(2)], draw(2), self.limits)
        assert vote.shape == (2, 1, 50)
        assert vote.dtype == torch.float32
        assert set(vote.unique().tolist()) == {0.0, 1.0}
