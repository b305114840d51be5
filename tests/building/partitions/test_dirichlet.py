from collections import Counter
from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvlm_hf.building.partitions.dirichlet import MAX_DRAWS, dirichlet, draw_dirichlet
from fedvlm_hf.building.report.numbers import label_counts, pool, total_variation


def test_each_label_is_divided_by_its_own_shares():
    """The shares of test_drawing, in hashed order.

    a's rows in the order 4, 0, 6, 2, 8, shares 0.2651, 0.6275, 0.1074: ends at 1.33 -> 1, 4.46 -> 4, 5.
    b's rows in the order 9, 7, 1, 5, 3, shares 0.0063, 0.0089, 0.9848: ends at 0.03 -> 0, 0.08 -> 0, 5.
    """
    assert dirichlet(["a", "b"] * 5, 3, alpha=0.5) == [[4], [0, 2, 6], [1, 3, 5, 7, 8, 9]]


def test_skew_falls_as_alpha_rises():
    """Mean total variation of 10 clients from the pool of 30 labels, over 5 seeds.

    At alpha = 100 a client's share of a label is Beta(100, 900), of mean 0.1 and standard deviation
    sqrt(0.1 * 0.9 / 1001) = 0.0095. Its label shares are off by that tenth, and the total variation is half the mean
    absolute deviation, about 0.5 * 0.8 * 0.095 = 0.04.
    """
    labels = [str(row % 30) for row in range(3000)]
    skews = [mean(_skew(labels, alpha, seed) for seed in range(5)) for alpha in (0.05, 0.1, 0.5, 1, 100)]
    assert all(before > after + 0.05 for before, after in pairwise(skews)), skews
    assert skews[0] > 0.6
    assert skews[-1] == pytest.approx(0.04, abs=0.01)


def _skew(labels: list[str], alpha: float, seed: int) -> float:
    splits = [""] * len(labels)
    for client, rows in enumerate(dirichlet(labels, 10, alpha, seed)):
        for row in rows:
            splits[row] = str(client)
    counts = label_counts(labels, splits)
    return mean(total_variation(count, pool(counts.values())) for count in counts.values())


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.permutations(["a"] * 9 + ["b"] * 8 + ["c"] * 7), st.integers(0, 20))
def test_counts_depend_on_labels_and_not_on_the_order_of_rows(labels, seed):
    def counts(column: list[str]) -> list[Counter]:
        return [Counter(column[row] for row in client) for client in dirichlet(column, 2, 10.0, seed)]

    assert counts(labels) == counts(sorted(labels))


def test_another_label_moves_no_row():
    """Shares come from seed and label, and the order from seed and row: c, put at the end, changes neither."""
    before = dirichlet(["a", "b"] * 20, 3, alpha=1.0)
    after = dirichlet(["a", "b"] * 20 + ["c"] * 9, 3, alpha=1.0)
    assert [[row for row in client if row < 40] for client in after] == before


def test_an_alpha_that_leaves_a_client_empty_is_refused():
    """One label at alpha 0.001: a single client has nearly all of it."""
    with pytest.raises(
        ValueError, match=r"`alpha=0.001` with `seed=0` leaves client_0\d with 0 of 50 rows.*another `seed`, a larger"
    ):
        dirichlet(["a"] * 50, 4, alpha=0.001)


def test_min_rows_can_ask_for_more():
    labels = ["a", "b"] * 5
    assert min(map(len, dirichlet(labels, 3, alpha=0.5))) == 1
    with pytest.raises(ValueError, match="leaves client_00 with 1 of 10 rows, fewer than `min_rows=2`"):
        dirichlet(labels, 3, alpha=0.5, min_rows=2)


def test_more_clients_than_rows_are_refused():
    with pytest.raises(ValueError, match="`num_clients=3` is more than the 2 rows of the dataset"):
        dirichlet(["a", "b"], 3, alpha=1.0)


@pytest.mark.parametrize(("num_clients", "alpha"), [(10, 0.1), (5, 0.05)])
def test_draws_are_repeated_until_no_client_is_empty(num_clients, alpha):
    """Three labels with 40 rows each, as in a table with a column `diagnosis`.

    A draw that leaves no client empty is kept; otherwise the next one has the seed plus 1,000,003. A single draw
    would refuse 15 or more of these 20 seeds, and none is refused now.
    """
    labels = ["effusion", "nodule", "none"] * 40
    refused = 0
    for seed in range(20):
        draw = draw_dirichlet(labels, num_clients, alpha, seed)
        assert all(draw.clients)
        assert draw.seed == seed + (draw.num_draws - 1) * 1_000_003
        assert draw.clients == dirichlet(labels, num_clients, alpha, draw.seed)
        for earlier in range(draw.num_draws - 1):
            with pytest.raises(ValueError, match="with 0 of 120 rows"):
                dirichlet(labels, num_clients, alpha, seed + earlier * 1_000_003)
        refused += draw.num_draws > 1
    assert refused >= 15, "a single draw would be enough, so that this test shows nothing"


def test_a_draw_with_a_minimum_of_rows():
    """The first draw leaves client 0 with 1 of 10 rows."""
    draw = draw_dirichlet(["a", "b"] * 5, 3, alpha=0.5, min_rows=2)
    assert draw.num_draws > 1
    assert min(map(len, draw.clients)) >= 2


def test_draws_come_to_an_end():
    """One label at alpha 0.001: a single client has nearly all of it, in every draw."""
    message = (
        rf"`alpha=0.001`: each of {MAX_DRAWS:,} draws from `seed=0` leaves a client with fewer than 1 of the 50 rows"
    )
    with pytest.raises(ValueError, match=message):
        draw_dirichlet(["a"] * 50, 4, alpha=0.001)
    with pytest.raises(ValueError, match=r"`num_clients=3` clients with at least 4 rows each need 12 rows, .* are 10"):
        draw_dirichlet(["a"] * 10, 3, alpha=1.0, min_rows=4)
