import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvlm_hf.building.partitions.by_column import by_column


def test_one_client_per_value_in_sorted_order():
    clients, values = by_column(["MRI", "CT", "X-Ray", "CT", "MRI"])
    assert values == [("CT",), ("MRI",), ("X-Ray",)]
    assert clients == [[1, 3], [0, 4], [2]]


@pytest.mark.parametrize(("num_clients", "size"), [(30, 1), (10, 3), (5, 6)])
def test_thirty_manufacturers_are_merged_as_the_paper_does(num_clients, size):
    """30 values in 10 clients are three each, in 5 clients six; row n has value n, so rows are consecutive too."""
    clients, values = by_column([f"{number:02d}" for number in range(30)], num_clients)
    assert clients == [list(range(start, start + size)) for start in range(0, 30, size)]
    assert values[-1] == tuple(f"{number:02d}" for number in range(30 - size, 30))


def test_larger_groups_come_first():
    """7 values over 3 clients: 7 = 3 + 2 + 2."""
    _, values = by_column(list("gfedcba"), 3)
    assert values == [("a", "b", "c"), ("d", "e"), ("f", "g")]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40), st.data())
def test_groups_are_consecutive_and_nearly_equal(column, data):
    distinct = sorted(set(column))
    clients, values = by_column(column, data.draw(st.integers(1, len(distinct))))
    assert [value for group in values for value in group] == distinct
    assert max(map(len, values)) - min(map(len, values)) <= 1
    for rows, group in zip(clients, values, strict=True):
        assert {column[row] for row in rows} == set(group)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.permutations(list("aabbbcdd")))
def test_clients_do_not_depend_on_the_row_order(column):
    assert by_column(column, 2)[1] == [("a", "b"), ("c", "d")]


def test_more_clients_than_values_are_refused():
    with pytest.raises(ValueError, match="`num_clients=3` is more than the 2 distinct values of the dataset"):
        by_column(["CT", "MRI", "CT"], 3)


def test_no_client_is_refused():
    with pytest.raises(ValueError, match="`num_clients=0` must be 1 or more"):
        by_column(["CT"], 0)
    with pytest.raises(ValueError, match="`num_clients=0` must be 1 or more"):
        by_column([])


@pytest.mark.parametrize("missing", [None, ""])
def test_a_row_without_value_is_named(missing):
    with pytest.raises(ValueError, match=f"`values`: row 1 has the value {missing!r}"):
        by_column(["CT", missing, "MRI"])
