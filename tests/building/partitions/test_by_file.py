import pytest
from datasets import NamedSplit
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvlm_hf.building.partitions.by_file import by_file


def test_ids_are_kept():
    clients, client_ids = by_file(["oslo", "bergen", "oslo"])
    assert client_ids == ["client_bergen", "client_oslo"]
    assert clients == [[1], [0, 2]]


def test_ids_of_a_federated_dataset_stay():
    assert by_file(["client_07", "client_03"]) == ([[1], [0]], ["client_03", "client_07"])


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.text(min_size=1))
def test_every_id_is_a_name_of_a_split(owner):
    """`NamedSplit` refuses what `datasets` would not write or load."""
    _, (client_id,) = by_file([owner])
    NamedSplit(client_id)
    assert client_id.startswith("client_")


def test_other_characters_become_underscores():
    assert by_file(["hospital-a", "st. olav"])[1] == ["client_hospital_a", "client_st__olav"]


@pytest.mark.parametrize("second", ["a.b", "client_a-b"])
def test_two_owners_with_the_same_id_are_refused(second):
    with pytest.raises(ValueError, match=rf"'a-b' and '{second}' \(row 2\) would both be 'client_a_b'"):
        by_file(["a-b", "c", second])


@pytest.mark.parametrize("missing", [None, ""])
def test_a_row_without_owner_is_named(missing):
    with pytest.raises(ValueError, match=f"`owners`: row 1 has the owner {missing!r}"):
        by_file(["a", missing])


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="`owners` is empty"):
        by_file([])
