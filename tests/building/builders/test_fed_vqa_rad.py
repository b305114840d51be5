from collections import Counter

import pytest

from fedvlm_hf.building.builders.base import BUILDERS, column
from fedvlm_hf.building.builders.fed_vqa_rad import ORGANS, FedVqaRad
from fedvlm_hf.building.work import Work
from raw_vqa_rad import raw_rows, write_hub, write_official, write_raw


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "raw")


def build(raw, **options):
    """The examples, and the partitions by name."""
    builder = FedVqaRad(**options)
    examples = builder.read(raw, Work())
    return examples, {partition.name: partition for partition in builder.partitions(examples)}


def images_of(examples, partition):
    images: dict[str, set[str]] = {}
    for example, split in zip(examples, partition.splits, strict=True):
        images.setdefault(split, set()).add(example.image.key)
    return images


def test_is_registered():
    assert BUILDERS.get("fed_vqa_rad") is FedVqaRad


def test_noniid_keeps_the_files_and_makes_organs_clients(raw):
    """28 training rows: 11 head, 9 chest, 8 abdomen; 6 test rows, two an organ (see raw_vqa_rad)."""
    examples, partitions = build(raw)
    assert list(partitions) == ["noniid", "iid", "noniid-clean", "iid-clean"]
    noniid = partitions["noniid"]
    assert Counter(noniid.splits) == {"client_00": 11, "client_01": 9, "client_02": 8, "test": 6}
    assert list(noniid.client_names.values()) == list(ORGANS)
    for organ, split in zip(column(examples, "organ"), noniid.splits, strict=True):
        assert split in (f"client_0{ORGANS.index(organ)}", "test")
    assert list(noniid.client_ids[28:]) == ["client_00"] * 2 + ["client_01"] * 2 + ["client_02"] * 2
    assert set(noniid.client_ids[:28]) == {None}


def test_a_row(raw):
    examples, _ = build(raw, wording="plain")
    first = examples[0]
    assert (first.id, first.task, first.references, first.split) == ("vqa_rad-0", "vqa", ("no",), "train")
    assert first.prompt == [{"role": "user", "content": "Is it normal?"}]
    assert first.completion == [{"role": "assistant", "content": "no"}]
    assert first.columns == {
        "subset": "closed",
        "organ": "head",
        "question_type": "PRES",
        "phrase_type": "freeform",
        "image_name": "synpicHEAD0.jpg",
    }


def test_iid_spreads_each_organ_evenly(raw):
    """11 head, 9 chest, 8 abdomen over three clients: 3 or 4, 3, and 2 or 3 of each."""
    examples, partitions = build(raw)
    counts = Counter(zip(partitions["iid"].splits, column(examples, "organ"), strict=True))
    for organ, expected in (("head", {3, 4}), ("chest", {3}), ("abdomen", {2, 3})):
        assert {counts[f"client_0{k}", organ] for k in range(3)} == expected


def test_the_given_split_says_how_many_test_images_leak(raw):
    """The three test images are the first of each organ, and have training questions too."""
    examples, partitions = build(raw)
    for name in ("noniid", "iid"):
        assert "3 of 3 test images are also in training" in partitions[name].known_leak
    images = images_of(examples, partitions["noniid"])
    assert images["test"] < images["client_00"] | images["client_01"] | images["client_02"]


@pytest.mark.parametrize("name", ["noniid-clean", "iid-clean"])
def test_clean_configurations_share_no_image_and_test_every_organ(raw, name):
    """4 images an organ: round(0.2 * 4) = 1 is test, round(0.1 * 4) = 0 becomes the least, 1, and 2 are left."""
    examples, partitions = build(raw)
    assert partitions[name].known_leak is None
    images = images_of(examples, partitions[name])
    clients = set().union(*(found for split, found in images.items() if split.startswith("client_")))
    assert [len(found) for found in (images["test"], images["validation"], clients)] == [3, 3, 6]
    assert len(clients | images["test"] | images["validation"]) == 12
    for split in ("test", "validation"):
        own = {e.columns["organ"] for e, s in zip(examples, partitions[name].splits, strict=True) if s == split}
        assert own == set(ORGANS)
    assert len(partitions[name].splits) == 34


def test_held_out_images_depend_on_the_seed_only(raw, tmp_path):
    """Neither on the order of rows nor on the release."""
    train, test = raw_rows()
    others = [write_raw(tmp_path / "shuffled", train[::-1], test[::-1]), write_official(tmp_path / "official")]

    def held_out(folder, seed=0):
        examples, partitions = build(folder, seed=seed)
        splits = partitions["noniid-clean"].splits
        return {e.columns["image_name"] for e, split in zip(examples, splits, strict=True) if split == "test"}

    names = held_out(raw)
    assert [held_out(other) for other in others] == [names, names]
    assert any(held_out(raw, seed) != names for seed in range(1, 6))


def test_the_hub_copy_has_no_natural_clients(tmp_path):
    """12 images without organ: round(0.2 * 12) = 2 are test, round(0.1 * 12) = 1 is validation, 9 are left."""
    work = Work()
    builder = FedVqaRad()
    examples = builder.read(write_hub(tmp_path / "hub"), work)
    partitions = {partition.name: partition for partition in builder.partitions(examples)}
    assert list(partitions) == ["iid", "iid-clean"]
    assert set(column(examples, "organ")) == {None}
    assert work.counts.lines[-1]["count"] == 34
    assert "no `noniid`" in work.counts.lines[-1]["why"]
    assert Counter(partitions["iid"].splits) == {"client_00": 10, "client_01": 9, "client_02": 9, "test": 6}
    images = images_of(examples, partitions["iid-clean"])
    assert (len(images["test"]), len(images["validation"])) == (2, 1)


def test_what_was_read_is_counted(raw):
    work = Work()
    FedVqaRad().read(raw, work)
    assert [(line["step"], line["count"]) for line in work.counts.lines] == [
        ("read", 28), ("read", 6), ("note", 4), ("note", 12)
    ]  # fmt: skip
    assert work.counts.kept == 34
