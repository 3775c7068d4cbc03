from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from scipy.stats import norm

from monai_noisylabel.selection import CleanSplit, gmm, split_clean


def two_groups(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled losses of 60 clean and 40 well separated noisy labels, and which of them are clean."""
    generator = np.random.default_rng(seed)
    losses = np.concatenate([generator.normal(0.10, 0.02, 60), generator.normal(0.50, 0.05, 40)])
    order = generator.permutation(100)
    return losses[order], (np.arange(100) < 60)[order]


def is_a_threshold(losses: np.ndarray, split: CleanSplit) -> bool:
    """Whether every clean loss is smaller than every noisy one."""
    if split.clean.all() or not split.clean.any():
        return True
    return bool(losses[split.clean].max() < losses[~split.clean].min())


def test_two_separated_groups_are_found() -> None:
    losses, truth = two_groups()
    split = split_clean(losses)
    assert np.array_equal(split.clean, truth)
    assert split.clean.dtype == np.bool_
    np.testing.assert_allclose(split.means, [losses[truth].mean(), losses[~truth].mean()], atol=2e-3)
    assert split.reason == "two components"
    assert np.array_equal(split.posterior > 0.5, truth)
    assert split.posterior.min() >= 0
    assert split.posterior.max() <= 1


def test_threshold_is_where_the_weighted_densities_cross() -> None:
    # Two groups of normal quantiles, mirror images about 0.5: equal weights and variances, so that the
    # densities cross half-way between the means 0 and 1. A probe at 0.49 is clean, its image at 0.51 noisy,
    # and their posteriors add up to one.
    quantiles = 0.15 * norm.ppf(np.linspace(0.005, 0.995, 199))
    losses = np.concatenate([quantiles, 1.0 - quantiles, [0.49, 0.51]])
    split = split_clean(losses)
    assert split.clean.tolist() == [True] * 199 + [False] * 199 + [True, False]
    assert split.posterior[-2] + split.posterior[-1] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-3, 0.0), (1e4, -7.0), (1.0, 100.0)])
def test_decision_does_not_depend_on_the_unit_of_the_losses(scale: float, shift: float) -> None:
    losses, truth = two_groups()
    split = split_clean(scale * losses + shift)
    assert np.array_equal(split.clean, truth)
    expected = [scale * mean + shift for mean in split_clean(losses).means]
    np.testing.assert_allclose(split.means, expected, rtol=1e-6)


def test_same_seed_same_split_and_no_trace_in_the_global_generator() -> None:
    losses, _ = two_groups(1)
    position = np.random.get_state()[2]  # noqa: NPY002
    first, second = (
        split_clean(losses, components="auto", seed=5),
        split_clean(losses, components="auto", seed=5),
    )
    assert np.array_equal(first.posterior, second.posterior)
    assert first.means == second.means
    assert np.random.get_state()[2] == position  # noqa: NPY002


def test_order_of_the_samples_does_not_matter() -> None:
    losses, _ = two_groups(2)
    order = np.random.default_rng(0).permutation(losses.size)
    assert np.array_equal(split_clean(losses[order]).clean, split_clean(losses).clean[order])


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, -2.0])
def test_equal_losses_are_all_clean(value: float) -> None:
    split = split_clean(np.full(7, value))
    assert split.clean.all()
    assert split.posterior.tolist() == [1.0] * 7
    assert split.means == ()
    assert split.reason == "all losses equal: all kept as clean"


def test_rounding_of_float32_losses_is_not_a_difference() -> None:
    losses = np.array([0.3, np.nextafter(np.float32(0.3), np.float32(1))], dtype=np.float32)
    assert losses[0] != losses[1]
    assert split_clean(losses).reason.startswith("all losses equal")


def test_one_sample_is_clean() -> None:
    split = split_clean(np.array([0.8]))
    assert split.clean.tolist() == [True]
    assert split.reason == "one sample: kept as clean"


def test_nan_is_noisy_and_takes_no_part_in_the_fit() -> None:
    losses, truth = two_groups()
    with_nan = np.insert(losses, [0, 50], np.nan)
    split, without = split_clean(with_nan), split_clean(losses)
    known = ~np.isnan(with_nan)
    assert np.array_equal(split.clean[known], truth)
    assert not split.clean[~known].any()
    assert np.isnan(split.posterior[~known]).all()
    assert np.array_equal(split.posterior[known], without.posterior)
    assert split.means == without.means
    assert split.reason == "two components; 2 samples without a loss counted as noisy"


def test_all_nan_keeps_nothing() -> None:
    split = split_clean(np.full(3, np.nan))
    assert split.clean.tolist() == [False] * 3
    assert np.isnan(split.posterior).all()
    assert split.reason == "no loss known: no label kept as clean; 3 samples without a loss counted as noisy"


def test_one_known_loss_among_nan() -> None:
    split = split_clean(np.array([np.nan, 0.4]))
    assert split.clean.tolist() == [False, True]
    assert split.reason == "one sample: kept as clean; 1 sample without a loss counted as noisy"


def test_two_samples_are_split() -> None:
    assert split_clean(np.array([0.9, 0.1])).clean.tolist() == [False, True]


def test_fewer_distinct_values_than_components() -> None:
    losses = np.array([0.2, 0.2, 0.2, 0.9, 0.9])
    for components in (3, 5, "auto"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            split = split_clean(losses, components=components)
        assert split.clean.tolist() == [True, True, True, False, False]
        np.testing.assert_allclose(split.means, [0.2, 0.9], atol=1e-6)
        assert split.reason == "two components (only 2 distinct losses)"


def test_as_many_distinct_values_as_components() -> None:
    split = split_clean(np.array([0.1, 0.1, 0.5, 0.5, 1.0, 1.0]), components=3)
    assert split.clean.tolist() == [True, True, False, False, False, False]
    assert split.reason == "three components"


@pytest.mark.parametrize("centre", [0.05, 0.85])
def test_unimodal_losses_are_cut_anyway_unless_a_gap_is_asked_for(centre: float) -> None:
    # All labels clean (small losses) and all noisy (large ones) look the same: the criterion is relative.
    losses = np.random.default_rng(0).normal(centre, 0.02, 200)
    cut = split_clean(losses)
    assert 0 < cut.clean.sum() < 200
    assert is_a_threshold(losses, cut)
    kept = split_clean(losses, min_gap=0.1)
    assert kept.clean.all()
    assert kept.posterior.tolist() == [1.0] * 200
    assert kept.reason == "two components; means closer than 0.1: all kept as clean"
    assert np.ptp(kept.means) < 0.1


def test_min_gap_is_in_the_unit_of_the_losses() -> None:
    losses, truth = two_groups()  # means 0.4 apart
    assert np.array_equal(split_clean(losses, min_gap=0.35).clean, truth)
    assert split_clean(losses, min_gap=0.45).clean.all()
    assert np.array_equal(split_clean(10 * losses, min_gap=3.5).clean, truth)


def test_min_gap_joins_the_two_smallest_of_three_components() -> None:
    generator = np.random.default_rng(0)
    groups = [generator.normal(mean, 0.01, 50) for mean in (0.10, 0.20, 0.95)]
    losses = np.concatenate(groups)
    assert split_clean(losses, components=3).clean.sum() == 50
    joined = split_clean(losses, components=3, min_gap=0.2)
    assert joined.clean.tolist() == [True] * 100 + [False] * 50
    assert len(joined.means) == 3


def test_wide_noisy_component_does_not_claim_the_smallest_losses() -> None:
    # 300 tight losses at 0.50 and 100 wide ones around 0.60: far to the left of 0.5 the wide density is the
    # larger one, so the plain posterior would call the smallest losses of all noisy.
    generator = np.random.default_rng(0)
    losses = np.concatenate([generator.normal(0.50, 0.01, 300), generator.normal(0.60, 0.15, 100)])
    split = split_clean(losses)
    assert split.means[0] == pytest.approx(0.50, abs=0.01)
    assert (losses < 0.45).sum() >= 5
    assert split.clean[losses < 0.45].all()
    assert is_a_threshold(losses, split)


def test_wide_clean_component_does_not_claim_the_largest_losses() -> None:
    generator = np.random.default_rng(0)
    losses = np.concatenate([generator.normal(0.40, 0.15, 100), generator.normal(0.50, 0.01, 300)])
    split = split_clean(losses)
    assert split.means[1] == pytest.approx(0.50, abs=0.01)
    assert (losses > 0.55).sum() >= 5
    assert not split.clean[losses > 0.55].any()
    assert is_a_threshold(losses, split)


def test_losses_up_to_the_smaller_mean_are_clean_beside_a_large_tight_group() -> None:
    # A few wide losses around 0.485 among 300 tight ones at 0.50: even at the smaller mean the tight density
    # is the larger one, so that by posterior alone nothing would be clean.
    quantiles = norm.ppf(np.linspace(0.01, 0.99, 40))
    losses = np.concatenate([np.random.default_rng(0).normal(0.50, 0.01, 300), 0.485 + 0.15 * quantiles])
    split = split_clean(losses)
    assert split.posterior.max() < 0.5
    assert np.array_equal(split.clean, losses <= split.means[0])
    assert split.clean.any()


@pytest.mark.parametrize("components", [2, 3, "auto"])
def test_decision_is_a_threshold_and_posterior_falls_with_the_loss(components: int) -> None:
    generator = np.random.default_rng(3)
    for _ in range(8):
        sizes, centres, widths = (
            generator.integers(2, 60, 3),
            generator.random(3),
            generator.uniform(0.001, 0.2, 3),
        )
        losses = np.concatenate([generator.normal(*group) for group in zip(centres, widths, sizes, strict=True)])
        split = split_clean(losses, components=components)
        assert is_a_threshold(losses, split)
        assert np.diff(split.posterior[losses.argsort()]).max() <= 1e-9
        assert split.clean[losses <= split.means[0]].all()


def test_auto_sees_small_boundary_errors_beside_missing_labels() -> None:
    # Clean at 0.05, boundary errors at 0.20, missing labels near 1: two components lump the first two
    # together.
    generator = np.random.default_rng(0)
    groups = [
        generator.normal(0.05, 0.015, 60),
        generator.normal(0.20, 0.02, 60),
        generator.normal(0.97, 0.01, 60),
    ]
    losses = np.concatenate(groups)
    assert split_clean(losses).clean.sum() == 120
    auto = split_clean(losses, components="auto")
    assert auto.clean.tolist() == [True] * 60 + [False] * 120
    assert auto.reason == "three components (chosen by BIC)"


def test_auto_stays_with_two_where_there_are_two() -> None:
    losses, truth = two_groups()
    auto = split_clean(losses, components="auto")
    assert auto.reason == "two components (chosen by BIC)"
    assert np.array_equal(auto.clean, truth)


def test_a_fit_that_does_not_converge_is_reported_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gmm, "_ITERATIONS", 1)
    losses = np.random.default_rng(0).random(50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert split_clean(losses).reason == "two components; the fit did not converge"


def test_input_is_left_alone_and_lists_of_float32_are_fine() -> None:
    losses, truth = two_groups()
    single = losses.astype(np.float32)
    before = single.copy()
    assert np.array_equal(split_clean(single).clean, truth)
    assert np.array_equal(single, before)


@pytest.mark.parametrize(
    ("losses", "options", "message"),
    [
        (np.zeros((2, 3)), {}, "one value per sample, shape (N,), got shape (2, 3)"),
        (np.zeros(()), {}, "one value per sample, shape (N,), got shape ()"),
        (np.zeros(0), {}, "losses is empty"),
        (np.array([0.1, -np.inf]), {}, "losses[1] is infinite; give NaN"),
        (
            np.array([0.1, 0.2]),
            {"components": 1},
            "components must be 'auto' or an integer of at least 2, got 1",
        ),
        (
            np.array([0.1, 0.2]),
            {"components": "bic"},
            "components must be 'auto' or an integer of at least 2, got 'bic'",
        ),
        (np.array([0.1, 0.2]), {"min_gap": -0.1}, "min_gap must not be negative, got -0.1"),
        (np.array([0.1, 0.2]), {"min_gap": float("nan")}, "min_gap must not be negative, got nan"),
    ],
)
def test_errors(losses: np.ndarray, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        split_clean(losses, **options)  # type: ignore[arg-type]
