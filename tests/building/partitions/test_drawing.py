from hashlib import sha256

import numpy as np
import pytest

from fedvlm_hf.building.partitions.drawing import (
    check_min_rows,
    dirichlet_shares,
    draw_rows,
    shuffled,
    split_by_shares,
)


def test_shuffled_is_the_order_of_the_digests():
    """`printf 0/4 | sha256sum` starts with 341a, 0/0 with 5513, 0/6 with 67c3, 0/9 with 83a3."""
    assert shuffled([0, 6, 4, 9], seed=0) == [4, 0, 6, 9]


def test_rows_are_divided_at_rounded_cumulative_shares():
    """7 rows at 0.25, 0.5, 0.25: the ends are at 1.75 -> 2, 5.25 -> 5, 7, so 2, 3 and 2 rows."""
    assert split_by_shares([10, 11, 12, 13, 14, 15, 16], [0.25, 0.5, 0.25]) == [[10, 11], [12, 13, 14], [15, 16]]


def test_the_last_piece_ends_at_the_last_row():
    """Ten shares of 0.1 add up to 0.9999999999999999 in floating point."""
    assert split_by_shares(list(range(10)), [0.1] * 10) == [[row] for row in range(10)]
    assert split_by_shares([1, 2, 3], [0.2, 0.2, 0.2]) == [
        [1],
        [],
        [2, 3],
    ]  # 0.6, 1.2, and the rest: shares that sum to 0.6


def test_shares_are_those_of_numpy_when_this_was_written():
    """Fails where NumPy's sampler is another one: built Dirichlet configurations are then other ones too."""
    np.testing.assert_allclose(dirichlet_shares(0.5, 3, 0, "a"), [0.265093, 0.627529, 0.107378], atol=1e-6)
    np.testing.assert_allclose(dirichlet_shares(0.05, 3, -4, "a"), [0.693130, 0.000001, 0.306869], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 5.0])
def test_shares_have_the_moments_of_the_distribution(alpha):
    """A share of Dir_K(a, ..., a) has the mean 1/K and the variance (K - 1) / (K^2 (K a + 1)).

    For K = 4 and a = 0.5 that is 3 / (16 * 3) = 0.0625. Over 2,000 draws the mean's standard error is at most
    sqrt(0.1563 / 2000) = 0.009 (a = 0.05).
    """
    shares = np.array([dirichlet_shares(alpha, 4, 0, str(key)) for key in range(2000)])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares.mean(axis=0), 0.25, atol=0.03)
    np.testing.assert_allclose(shares.var(axis=0), 3 / (16 * (4 * alpha + 1)), rtol=0.12)


@pytest.mark.parametrize("alpha", [0, -0.5, 2e6, float("nan"), float("inf")])
def test_an_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match=rf"`alpha={alpha}` is not a valid concentration"):
        dirichlet_shares(alpha, 3, 0, "a")


@pytest.mark.parametrize("alpha", [1e-12, 1e6])
def test_the_range_of_alpha_gives_shares(alpha):
    assert dirichlet_shares(alpha, 5, 0, "a").sum() == pytest.approx(1)


def test_the_first_of_the_smallest_clients_is_named():
    with pytest.raises(
        ValueError, match=r"`alpha=0.1` with `seed=3` leaves client_01 with 1 of 5 rows, fewer than `min_rows=2`. Use"
    ):
        check_min_rows([[1, 2, 3], [4], [5]], alpha=0.1, seed=3, min_rows=2)
    check_min_rows([[1, 2, 3], [4], [5]], alpha=0.1, seed=3, min_rows=1)


def test_clients_without_rows_cannot_be_allowed():
    with pytest.raises(ValueError, match="`min_rows=0` would allow clients without rows"):
        check_min_rows([[1], []], alpha=0.1, seed=0, min_rows=0)


IDS = [f"row-{k}" for k in range(30)]
SPLITS = ["train", "validation", "test"] * 10


def test_the_first_rows_of_each_split_are_drawn_in_seeded_order():
    """Worked out with hashlib alone: the 4 train rows and the test row with the smallest sha256("3/row-k")."""
    ranked = sorted(range(30), key=lambda k: sha256(f"3/row-{k}".encode()).hexdigest())
    expected = [k for k in ranked if k % 3 == 0][:4] + [k for k in ranked if k % 3 == 2][:1]
    assert draw_rows(IDS, SPLITS, {"train": 4, "test": 1}, seed=3) == sorted(expected)


def test_a_split_with_fewer_rows_gives_all():
    assert draw_rows(IDS, SPLITS, {"validation": 11}) == list(range(1, 30, 3))


def test_a_larger_quota_adds_rows():
    assert set(draw_rows(IDS, SPLITS, {"train": 3})) < set(draw_rows(IDS, SPLITS, {"train": 5}))


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    drawn = {IDS[row] for row in draw_rows(IDS, SPLITS, {"train": 4})}
    turned = {IDS[::-1][row] for row in draw_rows(IDS[::-1], SPLITS[::-1], {"train": 4})}
    assert turned == drawn
    assert {IDS[row] for row in draw_rows(IDS, SPLITS, {"train": 4}, seed=1)} != drawn
