"""Cohorts and seeds are pure functions of (seed, round)."""

from collections import Counter

import pytest

from fedvlm_hf.sampling import client_seed, cohort_size, sample_cohort


SIZES = {"b": 100, "a": 1, "c": 1}


@pytest.mark.parametrize(("asked", "size"), [(None, 10), (1, 1), (10, 10), (0.5, 5), (0.01, 1), (0.99, 10)])
def test_cohort_size(asked, size):
    assert cohort_size(asked, 10) == size


@pytest.mark.parametrize(("asked", "message"), [(0, "fraction"), (-2, "fraction"), (2.5, "integer"), (11, "only 10")])
def test_impossible_cohorts_are_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        cohort_size(asked, 10)


def test_a_draw_depends_on_seed_and_round_alone():
    draws = [sample_cohort(SIZES, 2, "uniform", 7, r) for r in range(50)]
    assert draws == [sample_cohort(dict(reversed(SIZES.items())), 2, "uniform", 7, r) for r in range(50)]
    assert draws != [sample_cohort(SIZES, 2, "uniform", 8, r) for r in range(50)]
    assert all(draw == sorted(set(draw)) and len(draw) == 2 for draw in draws)


def test_uniform_draws_are_even_and_weighted_draws_follow_sizes():
    """One of three: uniform 1/3 each; weighted 100/102 for b. 600 draws: 5 standard deviations are 58 and 17."""
    uniform = Counter(sample_cohort(SIZES, 1, "uniform", 0, r)[0] for r in range(600))
    weighted = Counter(sample_cohort(SIZES, 1, "weighted", 0, r)[0] for r in range(600))
    assert all(abs(uniform[name] - 200) < 58 for name in SIZES)
    assert abs(weighted["b"] - 588) < 17


def test_unknown_sampling_is_refused():
    with pytest.raises(ValueError, match="client_sampling"):
        sample_cohort(SIZES, 1, "random", 0, 1)


def test_client_seeds_differ_and_start_at_the_runs_seed():
    assert client_seed(42, 1, 0) == 42
    seeds = {client_seed(42, r, k) for r in range(1, 101) for k in range(100)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 2**32 for seed in seeds)
