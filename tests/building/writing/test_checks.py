"""Invalid rows and partitions."""

from pathlib import Path

import pytest

from fedvlm_hf.building.builders.base import Example, Partition
from fedvlm_hf.building.images import ImageFile
from fedvlm_hf.building.templates import chat
from fedvlm_hf.building.writing.checks import check_examples, check_partition, find_leaks, select_configs


def row(id: str = "a", image: str = "x", answer: str = "yes", **kwargs) -> Example:
    fields = {
        "id": id,
        "image": ImageFile(image, Path(image)),
        "split": "train",
        **chat("vqa", answer, question="Is it?"),
        "task": "vqa",
        "references": (answer,),
        "columns": {"label": "cat"},
    }
    return Example(**{**fields, **kwargs})


def partition(*splits: str, client_ids=None, **kwargs) -> Partition:
    return Partition(
        **{"name": "p", "rule": "", **kwargs}, splits=splits, client_ids=client_ids or (None,) * len(splits)
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"id": "a"}, "'a' is not unique"),
        ({"id": ""}, "the id is empty"),
        ({"split": "val"}, "the split is 'val'"),
        ({"task": "ocr"}, "`task`: unknown task 'ocr'"),
        ({"references": ()}, "`references`: there is no reference"),
        ({"references": ("",)}, "`references`: a reference is not a non-empty string"),
        ({"answer": " ", "references": ("x",)}, "`completion`: the answer is empty"),
        ({"prompt": []}, "`prompt`: there is no message"),
        ({"columns": {}}, r"its columns are \[\], those of the first row \['label'\]"),
        ({"columns": {"label": 3}}, "column `label` is 3"),
    ],
)
def test_a_wrong_row_is_named(changed, expected):
    with pytest.raises(ValueError, match=expected):
        check_examples([row(), row(**{"id": "b", **changed})])


def test_rows_must_be_left_and_columns_must_not_clash():
    with pytest.raises(ValueError, match="No row is left"):
        check_examples([])
    with pytest.raises(ValueError, match=r"\['client_id'\]"):
        check_examples([row(columns={"client_id": "x", "label": "y"})])
    check_examples([row(), row("b", columns={"label": None})])


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (partition("client_00", "test", name="non/iid"), "'non/iid' is not a valid name"),
        (partition("client_00"), "has 1 splits and 1 client ids, but there are 2 rows"),
        (partition("client_00", "train"), r"has the splits \['train'\]"),
        (partition("client_00", "client-01"), r"has the splits \['client-01'\]"),
        (partition("client_00", "client_a.b"), r"has the splits \['client_a.b'\]"),
        (partition("test", "validation"), "has no client"),
        (partition("client_00", "client_02"), "client_01 has no row"),
        (partition("client_cat", "test", client_names={"client_dog": "dog"}), "client_dog has no row"),
        (partition("client_00", "test", client_ids=(None, "client_01")), "'client_01'"),
        (partition("client_00", "test", client_ids=("client_00", None)), "a row of client_00 has `client_id`"),
    ],
)
def test_a_wrong_partition_is_named(wrong, expected):
    with pytest.raises(ValueError, match=expected):
        check_partition(wrong, 2)


def test_clients_may_be_numbered_or_named():
    check_partition(partition("client_00", "client_01", "test", client_ids=(None, None, "client_01")), 3)
    check_partition(partition(*(f"client_{number}" for number in range(11))), 11)
    check_partition(partition("client_cat", "client_07"), 2)


def test_configurations_are_chosen_by_name():
    noniid, iid = (partition("client_00", name=name) for name in ("noniid", "iid"))
    assert select_configs([noniid, iid], None) == [noniid, iid]
    assert select_configs([noniid, iid], "iid, noniid") == [iid, noniid]
    with pytest.raises(ValueError, match=r"`configs` 'idd' is unknown. Did you mean 'iid'"):
        select_configs([noniid, iid], "idd")
    with pytest.raises(ValueError, match="names a configuration twice"):
        select_configs([noniid, iid], "iid,iid")
    with pytest.raises(ValueError, match="must have different names"):
        select_configs([iid, iid], None)


def leaks(splits: tuple[str, ...], digests: str, **kwargs):
    examples = [row(f"row-{number}", f"image-{number}") for number in range(len(splits))]
    return find_leaks(partition(*splits, **kwargs), examples, list(digests))


def test_an_image_in_one_split_is_not_a_leak():
    """A twice in one client, in two clients, in test alone."""
    assert leaks(("client_00", "client_00", "client_01", "test", "test"), "AAABB") == []


@pytest.mark.parametrize(
    ("splits", "digests", "count", "expected"),
    [
        (("client_00", "test", "test"), "AAB", 1, "1 images.*image-1 .row 'row-1'. = image-0 .row 'row-0'."),
        (("client_00", "validation", "test"), "ABB", 1, "image-2 .row 'row-2'. = image-1 .row 'row-1'."),
        (("client_00", "validation", "client_00"), "ABB", 1, "image-1 .row 'row-1'. = image-2 .row 'row-2'."),
        (("client_00",) * 7 + ("test",) * 7, "ABCDEFGABCDEFG", 7, "7 images.*and 2 more"),
    ],
)
def test_a_leak_is_named(splits, digests, count, expected):
    with pytest.raises(ValueError, match=expected):
        leaks(splits, digests)
    assert len(leaks(splits, digests, known_leak="The source has it so.")) == count


def test_a_leak_over_three_splits_counts_once():
    found = leaks(("client_00", "validation", "test"), "AAA", known_leak="So it is.")
    assert [tuple(leak) for leak in found] == [("A", "row-2", "row-0")]
