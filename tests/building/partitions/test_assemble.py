from collections import Counter
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvlm_hf.building.builders.base import Example
from fedvlm_hf.building.images import ImageBytes
from fedvlm_hf.building.partitions.assemble import (
    assemble,
    assign_to_clients,
    client_name,
    to_example_indices,
    train_rows,
)


GIVEN = ["train", "test", "train", "validation", "train"]
LABELS = ["CT", "MRI", "MRI", "CT", "CT"]


def _assemble(clients, **kwargs):
    return assemble("noniid", "A client a modality.", GIVEN, clients, LABELS, **kwargs)


def test_positions_among_train_rows_become_indices_of_all_examples():
    """Of five examples the rows 0, 2 and 4 are train rows; their positions 0, 2 and 1 are rows 0, 4 and 2."""
    image = ImageBytes("image", b"")
    examples = [Example(str(row), image, split, [], [], "vqa", ("yes",)) for row, split in enumerate(GIVEN)]
    assert train_rows(examples) == [0, 2, 4]
    assert to_example_indices([[0, 2], [1]], train_rows(examples)) == [[0, 4], [2]]


def test_splits_and_the_clients_of_held_out_rows():
    partition = _assemble([[0, 4], [2]], client_names=["CT", "MRI"], known_leak="as given")
    assert partition.name == "noniid"
    assert partition.rule == "A client a modality."
    assert partition.splits == ("client_00", "test", "client_01", "validation", "client_00")
    assert partition.client_ids == (None, "client_01", None, "client_00", None)
    assert partition.client_names == {"client_00": "CT", "client_01": "MRI"}
    assert partition.known_leak == "as given"


def test_each_held_out_split_is_assigned_independently():
    """Two clients with an a each. The one row of validation and the one of test both go to the first client."""
    partition = assemble("iid", "", ["train", "train", "validation", "test"], [[0], [1]], ["a"] * 4)
    assert partition.client_ids == (None, None, "client_00", "client_00")


def test_given_client_ids():
    partition = _assemble([[0, 4], [2]], client_ids=["client_bergen", "client_oslo"])
    assert partition.splits[:3] == ("client_bergen", "test", "client_oslo")
    assert partition.client_ids[1] == "client_oslo"
    assert partition.client_names == {}


@pytest.mark.parametrize(
    ("k", "num_clients", "name"),
    [(0, 1, "client_00"), (9, 30, "client_09"), (99, 100, "client_99"), (7, 101, "client_007")],
)
def test_names_of_clients_sort_by_number(k, num_clients, name):
    assert client_name(k, num_clients) == name


@pytest.mark.parametrize("k", [-1, 3])
def test_a_client_that_does_not_exist_has_no_name(k):
    with pytest.raises(ValueError, match=f"`k={k}` is not one of the `num_clients=3` clients"):
        client_name(k, 3)


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ([[0, 4], []], "client_01 has no rows"),
        ([[0, 4], [2, 4]], "row 4 of client_01 is already in 'client_00'"),
        ([[0, 1, 4], [2]], "row 1 of client_00 is already in 'test'"),
        ([[0], [2]], "the train row 4 is in no client"),
        ([], "the train row 0 is in no client"),
    ],
)
def test_clients_must_be_exactly_the_train_rows(clients, message):
    with pytest.raises(ValueError, match=message):
        _assemble(clients)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="`given_splits`: row 1 is in 'dev', not in train, validation or test"):
        assemble("iid", "", ["train", "dev"], [[0]], ["a", "a"])


@pytest.mark.parametrize(
    ("argument", "values", "expected"),
    [("client_names", ["CT"], "1 entries for 2 clients"), ("client_ids", ["a", "b", "c"], "3 entries for 2 clients")],
)
def test_one_entry_per_client(argument, values, expected):
    with pytest.raises(ValueError, match=f"`{argument}` has {expected}"):
        _assemble([[0, 4], [2]], **{argument: values})


def test_one_label_per_example():
    with pytest.raises(ValueError, match="`labels` has 1 entries for 2 examples"):
        assemble("iid", "", ["train", "test"], [[0]], ["a"])


def test_in_proportion_and_in_row_order():
    """Client 0 trains on three a and client 1 on one. Of five held-out ones 3.75 and 1.25 are due: 3 and 1, and the
    largest remainder takes the fifth: 4 and 1.
    """
    labels = ["a"] * 9
    assert assign_to_clients([4, 5, 6, 7, 8], labels, [[0, 1, 2], [3]]) == {4: 0, 5: 0, 6: 0, 7: 0, 8: 1}


def test_a_label_of_one_client_stays_there():
    assert assign_to_clients([4, 5, 6], ["a", "a", "b", "b", "b", "a", "b"], [[0, 1], [2, 3]]) == {4: 1, 5: 0, 6: 1}


def test_what_rounding_takes_is_returned_at_the_next_label():
    """Two clients with a row of each label, and one held-out row of each: half a row is due to either.

    a: both are owed 0.5, the first gets it, so they are owed -0.5 and 0.5. b: 0 and 1, the second. Then again.
    """
    labels = ["a", "b", "c", "d"] * 3
    assert assign_to_clients([8, 9, 10, 11], labels, [[0, 1, 2, 3], [4, 5, 6, 7]]) == {8: 0, 9: 1, 10: 0, 11: 1}


def test_a_client_gets_no_rows_of_a_label_that_it_does_not_have():
    """Of a and b each client has one row, of c the first two: a goes to the first, b to the second client.

    The third is owed 2/3 then, the others -1/3, and 1/6 with their halves of c; but c is not of the third's kind.
    """
    labels = ["a", "b", "c", "a", "b", "c", "a", "b", "a", "b", "c"]
    assert assign_to_clients([8, 9, 10], labels, [[0, 1, 2], [3, 4, 5], [6, 7]]) == {8: 0, 9: 1, 10: 0}


def test_floating_point_does_not_break_ties():
    """After a row of each of three labels nobody is owed anything, though 1/3 - 1 + 1/3 + 1/3 is -5.6e-17 in float64.

    So the fourth goes to the first client again.
    """
    labels = ["a", "b", "c", "d"] * 4
    clients = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert assign_to_clients([12, 13, 14, 15], labels, clients) == {12: 0, 13: 1, 14: 2, 15: 0}


def test_a_label_that_no_client_has_goes_by_size():
    """Sizes 3 and 1, four rows: 3 and 1."""
    assert assign_to_clients([4, 5, 6, 7], ["a"] * 4 + ["new"] * 4, [[0, 1, 2], [3]]) == {4: 0, 5: 0, 6: 0, 7: 1}


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 5))
def test_every_row_has_a_client_and_counts_are_the_proportions_rounded_down_or_up(data, num_clients):
    owners = data.draw(st.lists(st.integers(0, num_clients - 1), min_size=1, max_size=40))
    owners += range(num_clients)  # no client without rows
    train = data.draw(st.lists(st.sampled_from("abc"), min_size=len(owners), max_size=len(owners)))
    held_out = data.draw(st.lists(st.sampled_from("abcz"), max_size=40))
    clients = [[row for row, owner in enumerate(owners) if owner == client] for client in range(num_clients)]
    rows = range(len(train), len(train) + len(held_out))
    labels = train + held_out
    shared = assign_to_clients(rows, labels, clients)
    assert sorted(shared) == list(rows)
    for label, num in Counter(held_out).items():
        own = [sum(labels[row] == label for row in client) for client in clients]
        weights = own if any(own) else [len(client) for client in clients]
        got = Counter(shared[row] for row in rows if labels[row] == label)
        for client, weight in enumerate(weights):
            due = Fraction(num * weight, sum(weights))
            assert floor(due) <= got[client] <= ceil(due)


def test_many_small_labels_reach_every_client():
    """40 labels evenly over 20 clients and a held-out row each: 2 rows are due to every client."""
    labels = [str(label) for _ in range(21) for label in range(40)]
    clients = [list(range(40 * client, 40 * client + 40)) for client in range(20)]
    assert Counter(assign_to_clients(range(800, 840), labels, clients).values()) == dict.fromkeys(range(20), 2)
