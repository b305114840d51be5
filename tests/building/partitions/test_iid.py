from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvlm_hf.building.partitions.iid import iid, iid_by_label


def test_shuffled_rows_are_dealt_in_turn():
    """By `printf 0/ROW | sha256sum` the order is 4, 0, 6, 9, 7, 2, 1, 5, 8, 3.

    Dealt to three: 4, 9, 1, 3 to the first, 0, 7, 5 to the second, 6, 2, 8 to the third.
    """
    assert iid(10, 3) == [[1, 3, 4, 9], [0, 5, 7], [2, 6, 8]]


def test_labels_are_dealt_one_after_the_other():
    """In the same order, the rows of a are 4, 6, 1, 3 and those of b are 0, 2, 5.

    Dealt to three: 4, 3, 5 to the first, 6, 0 to the second, 1, 2 to the third. b starts where a ended, at the second.
    """
    assert iid_by_label(["b", "a", "b", "a", "a", "b", "a"], 3) == [[3, 4, 5], [0, 6], [1, 2]]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(0, 60), st.integers())
def test_iid_sizes_differ_by_at_most_one(num_clients, more, seed):
    sizes = [len(client) for client in iid(num_clients + more, num_clients, seed)]
    assert max(sizes) - min(sizes) <= 1


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 5), st.integers())
def test_counts_of_labels_and_sizes_differ_by_at_most_one(data, num_clients, seed):
    sizes = data.draw(st.lists(st.integers(num_clients, 3 * num_clients), min_size=1, max_size=6))
    labels = data.draw(st.permutations([f"label {label}" for label, size in enumerate(sizes) for _ in range(size)]))
    clients = iid_by_label(labels, num_clients, seed)
    counts = [Counter(labels[row] for row in client) for client in clients]
    for label in set(labels):
        assert max(count[label] for count in counts) - min(count[label] for count in counts) <= 1
    assert max(map(len, clients)) - min(map(len, clients)) <= 1


def test_a_label_with_fewer_rows_than_clients_is_refused():
    with pytest.raises(
        ValueError, match=r"the 2 rows of 'b' cannot be spread over `num_clients=3`.*Use fewer clients"
    ):
        iid_by_label(["a"] * 4 + ["b"] * 2, 3)


@pytest.mark.parametrize("num_clients", [0, -1])
def test_no_client_is_refused(num_clients):
    with pytest.raises(ValueError, match=f"`num_clients={num_clients}` must be 1 or more"):
        iid(10, num_clients)
    with pytest.raises(ValueError, match=f"`num_clients={num_clients}` must be 1 or more"):
        iid_by_label(["a", "a"], num_clients)


def test_more_clients_than_rows_are_refused():
    with pytest.raises(
        ValueError, match=r"`num_clients=4` is more than the 3 rows of the dataset.*Use at most 3 clients"
    ):
        iid(3, 4)
    with pytest.raises(ValueError, match="`num_clients=1` is more than the 0 rows"):
        iid_by_label([], 1)
