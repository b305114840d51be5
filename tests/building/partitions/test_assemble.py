import pytest

from fedvlm_hf.building.builders.base import Example
from fedvlm_hf.building.images import ImageBytes
from fedvlm_hf.building.partitions.assemble import assemble, client_name, lift, train_rows


GIVEN = ["train", "test", "train", "validation", "train"]
LABELS = ["CT", "MRI", "MRI", "CT", "CT"]


def _assemble(clients, **kwargs):
    return assemble("noniid", "A client a modality.", GIVEN, clients, LABELS, **kwargs)


def test_train_rows_are_lifted_to_all_rows():
    """Of five examples the rows 0, 2 and 4 are train rows; their positions 0, 2 and 1 are rows 0, 4 and 2."""
    image = ImageBytes("image", b"")
    examples = [Example(str(row), image, split, [], [], "vqa", ("yes",)) for row, split in enumerate(GIVEN)]
    assert train_rows(examples) == [0, 2, 4]
    assert lift([[0, 2], [1]], train_rows(examples)) == [[0, 4], [2]]


def test_splits_and_whose_distribution_a_held_out_row_is_of():
    partition = _assemble([[0, 4], [2]], client_names=["CT", "MRI"], known_leak="as given")
    assert partition.name == "noniid"
    assert partition.rule == "A client a modality."
    assert partition.splits == ("client_00", "test", "client_01", "validation", "client_00")
    assert partition.client_ids == (None, "client_01", None, "client_00", None)
    assert partition.client_names == {"client_00": "CT", "client_01": "MRI"}
    assert partition.known_leak == "as given"


def test_each_held_out_split_is_shared_out_on_its_own():
    """Two clients with an a each. The one row of validation and the one of test both go to the first client."""
    partition = assemble("iid", "", ["train", "train", "validation", "test"], [[0], [1]], ["a"] * 4)
    assert partition.client_ids == (None, None, "client_00", "client_00")


def test_own_ids():
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
def test_a_client_that_is_not_there_has_no_name(k):
    with pytest.raises(ValueError, match=f"`k={k}` is none of the `num_clients=3` clients"):
        client_name(k, 3)


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ([[0, 4], []], "client_01 has no rows"),
        ([[0, 4], [2, 4]], "row 4 of client_01 is in 'client_00' already"),
        ([[0, 1, 4], [2]], "row 1 of client_00 is in 'test' already"),
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
def test_one_entry_a_client(argument, values, expected):
    with pytest.raises(ValueError, match=f"`{argument}` has {expected}"):
        _assemble([[0, 4], [2]], **{argument: values})


def test_one_label_an_example():
    with pytest.raises(ValueError, match="`labels` has 1 entries for 2 examples"):
        assemble("iid", "", ["train", "test"], [[0]], ["a"])
