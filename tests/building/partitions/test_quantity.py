from itertools import pairwise
from statistics import mean

import pytest

from fedvlm_hf.building.partitions.quantity import quantity_skew


def test_shuffled_rows_are_cut_by_drawn_sizes():
    """`dirichlet_shares(2, 3, 0, "sizes")` is 0.2167, 0.2629, 0.5204: ends at 2.17 -> 2, 4.80 -> 5, 10.

    The rows in their hashed order are 4, 0, 6, 9, 7, 2, 1, 5, 8, 3.
    """
    assert quantity_skew(10, 3, alpha=2.0) == [[0, 4], [6, 7, 9], [1, 2, 3, 5, 8]]


def test_sizes_grow_alike_as_alpha_rises():
    """The mean size of the largest of 5 clients: most of 2,000 rows at a small alpha, towards a fifth, 400."""
    largest = [
        mean(max(map(len, quantity_skew(2000, 5, alpha, seed))) for seed in range(10)) for alpha in (0.5, 2, 10, 1e6)
    ]
    assert all(before > after + 50 for before, after in pairwise(largest)), largest
    assert largest[-1] == pytest.approx(400, abs=5)


def test_an_alpha_that_leaves_a_client_empty_is_refused():
    with pytest.raises(ValueError, match=r"`alpha=0.001` with `seed=0` leaves client_0\d with 0 of 100 rows"):
        quantity_skew(100, 5, alpha=0.001)


def test_min_rows_can_ask_for_more():
    with pytest.raises(ValueError, match="leaves client_00 with 2 of 10 rows, fewer than `min_rows=3`"):
        quantity_skew(10, 3, alpha=2.0, min_rows=3)


def test_more_clients_than_rows_are_refused():
    with pytest.raises(ValueError, match="`num_clients=3` is more than the 2 rows there are"):
        quantity_skew(2, 3, alpha=1.0)
