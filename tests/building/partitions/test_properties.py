"""Properties of all partitions: each row is in exactly one client, and the seed is the only source of randomness."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvlm_hf.building.partitions.by_column import by_column
from fedvlm_hf.building.partitions.by_file import by_file
from fedvlm_hf.building.partitions.dirichlet import dirichlet
from fedvlm_hf.building.partitions.iid import iid, iid_by_label


# At alpha 1000 shares are nearly even, so that no client of the small examples below is left empty
SEEDED = {
    "iid": lambda labels, num_clients, seed: iid(len(labels), num_clients, seed),
    "iid_by_label": iid_by_label,
    "dirichlet": lambda labels, num_clients, seed: dirichlet(labels, num_clients, 1000.0, seed),
}
UNSEEDED = {
    "by_column": lambda labels, num_clients, seed: by_column(labels, min(num_clients, len(set(labels))))[0],
    "by_file": lambda labels, num_clients, seed: by_file(labels)[0],
}
LABELS = st.lists(st.integers(8, 20), min_size=1, max_size=5).flatmap(
    lambda sizes: st.permutations([f"label {label}" for label, size in enumerate(sizes) for _ in range(size)])
)


@pytest.mark.parametrize("name", [*SEEDED, *UNSEEDED])
@settings(derandomize=True, deadline=None, max_examples=40)
@given(labels=LABELS, num_clients=st.integers(1, 4), seed=st.integers())
def test_disjoint_complete_ascending_and_the_same_again(name, labels, num_clients, seed):
    rule = {**SEEDED, **UNSEEDED}[name]
    clients = rule(labels, num_clients, seed)
    assert sorted(row for client in clients for row in client) == list(range(len(labels)))
    assert all(client and client == sorted(client) for client in clients)
    assert all(type(row) is int for client in clients for row in client)
    assert rule(labels, num_clients, seed) == clients


@pytest.mark.parametrize("name", SEEDED)
def test_another_seed_is_another_partition(name):
    labels = [str(row % 3) for row in range(60)]
    found = {str(SEEDED[name](labels, 3, seed)) for seed in range(20)}
    assert len(found) == 20


@pytest.mark.parametrize("name", SEEDED)
def test_arguments_are_left_as_they_were(name):
    labels = [str(row % 3) for row in range(60)]
    before = list(labels)
    SEEDED[name](labels, 3, 0)
    assert labels == before
