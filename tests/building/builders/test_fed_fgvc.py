"""Fed-FGVC on the miniature: 7 manufacturers with 8 train, 2 val and 3 test images each."""

import re
from collections import Counter

import pytest

from fedvlm_hf.building.builders.base import BUILDERS, column
from fedvlm_hf.building.builders.fed_fgvc import FedFGVC
from fedvlm_hf.building.partitions.dirichlet import dirichlet
from fedvlm_hf.building.work import Work
from raw_fgvc import MANUFACTURERS, raw_lines, write_raw


NAMES = [
    "noniid", "noniid-10", "noniid-5", "iid", "iid-10",
    "dirichlet-0.05", "dirichlet-0.1", "dirichlet-0.5", "dirichlet-1",
]  # fmt: skip


def build(raw, **options):
    work = Work()
    builder = FedFGVC(**options)
    examples = builder.read(raw, work)
    assert work.counts.kept == len(examples)
    return examples, {p.name: p for p in builder.partitions(examples)}, work


@pytest.fixture
def built(tmp_path):
    return build(write_raw(tmp_path))


def cells(examples, partition):
    """Rows of each client and manufacturer."""
    found: dict[str, Counter] = {}
    for split, name in zip(partition.splits, column(examples, "manufacturer"), strict=True):
        if split.startswith("client"):
            found.setdefault(split, Counter())[name] += 1
    return dict(sorted(found.items()))


def test_it_is_registered():
    assert BUILDERS.get("fed_fgvc") is FedFGVC


def test_the_official_splits_are_kept(built):
    examples, _, work = built
    assert Counter(column(examples, "split")) == {"train": 56, "validation": 14, "test": 21}
    assert sorted(work.sources) == [
        "images_manufacturer_test.txt", "images_manufacturer_train.txt", "images_manufacturer_val.txt",
        "manufacturers.txt",
    ]  # fmt: skip


def test_a_photograph_in_two_splits_stays_in_the_later_one(tmp_path):
    """The first test image (34309 + 56 + 14 = 34379) is copied over the first training image."""
    raw = write_raw(tmp_path)
    images = raw / "data" / "images"
    (images / "0034309.jpg").write_bytes((images / "0034379.jpg").read_bytes())
    examples, _, _ = build(raw)
    assert Counter(column(examples, "split")) == {"train": 55, "validation": 14, "test": 21}
    assert examples[0].id == "fgvc-0034310"


def test_a_row(built):
    example = built[0][8]
    assert example.id == "fgvc-0034317"
    assert example.prompt[0]["content"] == (
        "What is the manufacturer of the aircraft in this image? Answer with the name only."
    )
    assert example.completion == [{"role": "assistant", "content": "Cirrus Aircraft"}]
    assert (example.task, example.references) == ("classification", ("Cirrus Aircraft",))
    assert example.columns == {"manufacturer": "Cirrus Aircraft", "image_id": "0034317"}


def test_all_configurations_exist_and_noniid_is_the_default(built):
    assert list(built[1]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_clients_have_exactly_the_training_rows(built, name):
    examples, partitions, _ = built
    partition = partitions[name]
    for example, split, client_id in zip(examples, partition.splits, partition.client_ids, strict=True):
        assert split.startswith("client") == (example.split == "train")
        assert split == example.split or client_id is None
        assert (client_id in partition.splits) == (example.split != "train")
    clients = {split for split in partition.splits if split.startswith("client")}
    assert clients == {f"client_{k:02d}" for k in range(len(clients))}


def test_noniid_has_one_client_per_manufacturer(built):
    """In sorted order, capitals first, so that `de Havilland` is the last."""
    examples, partitions, _ = built
    assert list(partitions["noniid"].client_names.values()) == list(MANUFACTURERS)
    assert list(cells(examples, partitions["noniid"]).values()) == [Counter({name: 8}) for name in MANUFACTURERS]


def test_held_out_rows_belong_to_the_client_of_their_manufacturer(built):
    examples, partitions, _ = built
    partition = partitions["noniid"]
    for name, client_id in zip(column(examples, "manufacturer"), partition.client_ids, strict=True):
        assert client_id is None or partition.client_names[client_id] == name


def test_neighbours_are_merged(built):
    """7 manufacturers, three a client: 7 / 3 rounded up is 3 clients of 3, 2 and 2; six a client: 2 of 4 and 3."""
    examples, partitions, _ = built
    assert list(partitions["noniid-10"].client_names.values()) == [
        "ATR, Cirrus Aircraft, Fokker", "Piper, Saab", "Yakovlev, de Havilland"
    ]  # fmt: skip
    assert [sum(cell.values()) for cell in cells(examples, partitions["noniid-10"]).values()] == [24, 16, 16]
    assert [sum(cell.values()) for cell in cells(examples, partitions["noniid-5"]).values()] == [32, 24]


def test_thirty_manufacturers_make_30_10_and_5_clients(tmp_path):
    """The real number: 30 / 3 = 10 and 30 / 6 = 5. iid gives each of 30 clients one of every 30 rows."""
    names = [f"Maker {k:02d}" for k in range(30)]
    examples, partitions, _ = build(write_raw(tmp_path, raw_lines(names, {"train": 30, "val": 1, "test": 1}), names))
    numbers = [len(set(partition.splits)) - 2 for partition in partitions.values()]
    assert numbers == [30, 10, 5, 30, 10, 30, 30, 30, 30]
    assert all(len(name.split(", ")) == 3 for name in partitions["noniid-10"].client_names.values())
    assert all(len(name.split(", ")) == 6 for name in partitions["noniid-5"].client_names.values())
    assert all(set(cell.values()) == {1} and len(cell) == 30 for cell in cells(examples, partitions["iid"]).values())


def test_iid_spreads_every_manufacturer(built):
    """8 rows over 7 clients: one or two of each; over 3 clients: two or three of each."""
    examples, partitions, _ = built
    for name, expected in (("iid", {1, 2}), ("iid-10", {2, 3})):
        for cell in cells(examples, partitions[name]).values():
            assert len(cell) == 7 and set(cell.values()) <= expected


def test_a_small_alpha_skews_more(built):
    """The mean share of a client's most frequent manufacturer falls as alpha rises."""
    examples, partitions, _ = built
    skew = []
    for alpha in ("0.05", "1"):
        found = cells(examples, partitions[f"dirichlet-{alpha}"]).values()
        assert len(found) == 7
        skew.append(sum(max(cell.values()) / sum(cell.values()) for cell in found) / len(found))
    assert skew[0] > skew[1]


def test_a_draw_with_an_empty_client_is_repeated(built):
    """Seven makers of eight rows: the first draw at 0.05 leaves a client empty. The rule says which draw it is."""
    examples, partitions, _ = built
    found = re.search(r"draw (\d+), with seed (\d+)\.$", partitions["dirichlet-0.05"].rule)
    draw, seed = map(int, found.groups())
    assert draw > 1
    assert seed == (draw - 1) * 1_000_003
    assert partitions["dirichlet-0.05"].draw == {"seed": seed, "num_draws": draw}
    assert partitions["dirichlet-1"].rule.endswith("draw 1, with seed 0.")
    labels = [example.columns["manufacturer"] for example in examples if example.split == "train"]
    for earlier in range(draw - 1):
        with pytest.raises(ValueError, match="with 0 of 56 rows"):
            dirichlet(labels, 7, 0.05, earlier * 1_000_003)


def test_too_few_rows_for_every_client_are_refused(tmp_path):
    """Two rows for each of 7 makers, and as many clients: iid cannot give each client a row of every maker."""
    raw = write_raw(tmp_path, raw_lines(counts={"train": 2, "val": 1, "test": 1}))
    with pytest.raises(ValueError, match=r"the 2 rows of 'ATR' cannot be spread over `num_clients=7`"):
        build(raw)


def test_the_seed_chooses(tmp_path, built):
    _, other, _ = build(write_raw(tmp_path / "again"), seed=1)
    for name, partition in built[1].items():
        assert (partition.splits == other[name].splits) == name.startswith("noniid")


def test_only_draws_with_an_empty_client_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("fedvlm_hf.building.partitions.dirichlet.MAX_DRAWS", 1)
    with pytest.raises(ValueError, match=r"each of 1 draws from `seed=0` .* fewer than 1 of the 56 rows"):
        build(write_raw(tmp_path))
