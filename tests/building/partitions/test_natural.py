"""Natural clients, and the same rows spread evenly."""

import pytest

from fedvlm_hf.building.builders.base import Example
from fedvlm_hf.building.images import ImageBytes
from fedvlm_hf.building.partitions.natural import natural_and_even


def examples(organs: str, splits: str) -> list[Example]:
    """A row a letter: its organ, and t, v or h for train, validation or test."""
    names = {"t": "train", "v": "validation", "h": "test"}
    return [
        Example(str(row), ImageBytes(str(row), b""), names[split], [], [], "vqa", ("a",), {"organ": organ})
        for row, (organ, split) in enumerate(zip(organs, splits, strict=True))
    ]


def test_one_client_per_value_and_as_many_even_clients():
    """Three b and three a train: b is client_01 in `noniid`; in `iid` each client has three, one or two of them a.

    The test row of b is of the client that has b.
    """
    rows = examples("bbbaaab", "tttttth")
    noniid, iid = natural_and_even(rows, "organ", seed=5)
    assert noniid.splits == ("client_01",) * 3 + ("client_00",) * 3 + ("test",)
    assert noniid.client_ids == (None,) * 6 + ("client_01",)
    assert (noniid.client_names, noniid.rule) == ({"client_00": "a", "client_01": "b"}, "One client per organ.")
    for client in ("client_00", "client_01"):
        own = [rows[row].columns["organ"] for row, split in enumerate(iid.splits) if split == client]
        assert (len(own), own.count("a") in (1, 2)) == (3, True)
    assert (iid.name, iid.rule, iid.splits[6]) == (
        "iid",
        "The rows of every organ are spread evenly over the clients.",
        "test",
    )


def test_the_order_of_the_clients_can_be_given():
    noniid, _ = natural_and_even(examples("aabb", "tttt"), "organ", values=["b", "a"])
    assert noniid.splits == ("client_01", "client_01", "client_00", "client_00")


def test_a_value_without_training_rows_is_refused():
    with pytest.raises(ValueError, match="client_01 has no rows"):
        natural_and_even(examples("aaab", "tttv"), "organ", values=["a", "b"])
