"""The generator of a case depends on its names and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from monai_noisylabel.corruption import case_generator


def test_seed_is_the_hash_of_the_three_names() -> None:
    # Written out: the JSON text of the three names, BLAKE2b to 16 bytes, read as a little-endian integer.
    digest = hashlib.blake2b(b'[3, "p01", "slices"]', digest_size=16).digest()
    expected = np.random.default_rng(sum(byte << (8 * place) for place, byte in enumerate(digest))).random(4)
    np.testing.assert_array_equal(case_generator(3, "p01", "slices").random(4), expected)


def test_same_names_give_the_same_draws_whatever_was_drawn_before() -> None:
    first = case_generator(0, "a", 1).random(8)
    case_generator(0, "b", 1).random(100)
    np.random.default_rng().random(3)
    np.testing.assert_array_equal(case_generator(0, "a", 1).random(8), first)


@pytest.mark.parametrize(
    "other", [(1, "a", 1), (-1, "a", 1), (0, "b", 1), (0, "a", 2), (0, "a", "1"), (0, "a1", ""), (0, "a", "")]
)
def test_other_names_give_other_draws(other: tuple[int, str, int | str]) -> None:
    assert not np.array_equal(case_generator(0, "a", 1).random(8), case_generator(*other).random(8))


def test_numpy_and_python_seeds_agree() -> None:
    assert case_generator(np.int64(5), "a").random() == case_generator(5, "a").random()


def test_draws_of_many_cases_are_uniform() -> None:
    # 4000 uniform draws: mean 0.5 with standard error 1 / sqrt(12 * 4000) = 0.0046; 4 errors allowed.
    draws = [case_generator(7, f"case{index}", 1).random() for index in range(4000)]
    assert abs(np.mean(draws) - 0.5) < 4 * 0.0046
