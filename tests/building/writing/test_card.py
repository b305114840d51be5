"""A dataset's card."""

import json
import re
from dataclasses import dataclass, replace

import pytest
from huggingface_hub import DatasetCard

from fedvlm_hf.building.builders.base import BUILDERS
from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.card import card, summary
from fedvlm_hf.building.writing.options import WriteOptions
from toy_builder import Restricted, ToyBuilder, toy_rows, write_toy


@dataclass(frozen=True)
class Leaky(ToyBuilder):
    """Held-out images are training images, as in the official split."""

    def partitions(self, examples):
        """Both with a reason."""
        return [replace(partition, known_leak="The source has it so.") for partition in super().partitions(examples)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    rows = [{**row, "image": "images/0.png"} if row["split"] == "test" else row for row in toy_rows()]
    out = build_dataset(Leaky(), write_toy(folder / "raw", rows), folder / "out", WriteOptions(num_workers=1))
    return out, json.loads((out / "manifest.json").read_text())


def test_front_matter_is_what_the_hub_reads(built):
    data = DatasetCard.load(built[0] / "README.md").data
    assert (data.license, data.pretty_name) == ("cc0-1.0", "Toy")
    assert data.task_categories == ["visual-question-answering"]
    assert "federated-learning" in data.tags
    assert [config["config_name"] for config in data.configs] == ["labels", "turns"]
    assert [config.get("default") for config in data.configs] == [True, None]


def test_the_text_has_what_a_user_must_know(built):
    text = (built[0] / "README.md").read_text()
    for expected in (
        "# Toy\n\nDrawn images of cats and dogs.",
        "> **`labels` has 1 images that are both held out and in training.** The source has it so.",
        "| client_00 | cat | 6 | 3 |",
        "| test | | 2 | 1 |",
        "- One client per label [ours].",
        "- They are not photographs.",
        "| read | rows of rows.json | 16 | |",
        "| vqa | 16 | 1,234 |",
        "| [Drawings](https://example.org/drawings) | CC0 1.0 (ours) | None. |",
        "rows.json\nimages/<name>.png",
        "Nobody, 2024.",
        "| `label` | additional column |",
    ):
        assert expected in re.sub(" +", " ", text)  # cells are padded
    for config in built[1]["configs"].values():
        assert config["partition"] in text


def test_the_summary_has_the_same_content(built):
    lines = summary(Leaky(), built[1], built[0]).splitlines()
    for expected in (
        "+        16  rows of rows.json",
        "=        16  rows kept, 7 different images",
        "         16  of task vqa, Table 2 of FedVLMBench has 1,234",
        "labels: 2 clients, validation 2, test 2",
        "    rows per client: client_00 (cat) 6, client_01 (dog) 6",
        "    1 held-out images are also in training: The source has it so.",
        f'    load_dataset("{built[0]}", "labels")',
    ):
        assert expected in lines


def test_the_summary_names_a_hundred_clients(built):
    """In lines of readable length; a readable name is shown where the split does not already have it."""
    manifest = {**built[1], "configs": {"noniid": dict(built[1]["configs"]["labels"])}}
    counts = {f"client_site_{number}": number + 1 for number in range(100)}
    manifest["configs"]["noniid"] |= {"counts": counts, "client_names": {"client_site_0": "site_0"}}
    lines = summary(Leaky(), manifest, built[0]).splitlines()
    first = next(place for place, line in enumerate(lines) if "rows per client: client_site_0 1, client" in line)
    named = ", ".join(line.strip() for line in lines[first:]).replace(",,", ",")
    assert all(f"client_site_{number} {number + 1}," in named for number in range(100))
    assert max(len(line) for line in lines[first : first + 20]) <= 111


def test_without_a_build_there_are_no_counts():
    text = card(ToyBuilder())
    assert "configs" not in text
    assert "Counts" not in text
    assert "- One client per label [ours]." in text


def test_the_card_of_a_restricted_dataset(built):
    text = card(Restricted(), {**built[1], "restricted_sources": ["Secret X-rays"]}, partition_only=True)
    data = DatasetCard(text).data
    assert [config["data_files"] for config in data.configs] == [
        [{"split": "partition", "path": f"partition/{name}.parquet"}] for name in ("labels", "turns")
    ]
    assert "This repository has no rows and no images, because Secret X-rays may not be redistributed." in text
    assert "Sign. Rows and images may not be redistributed." in text


@pytest.mark.parametrize("name", BUILDERS.names())
def test_every_builder_has_a_card(name):
    builder_class = BUILDERS.get(name)
    text = card(builder_class())
    assert DatasetCard(text).data.license == builder_class.licence
    assert all(source.url in text for source in builder_class.sources)


def test_before_a_build_the_card_has_the_patterns_of_the_whole_download():
    """Two configurations of 3 clients share 9 cells; 27 x 27 are more than 32, so each has files of its own.

    `load_dataset` refuses a split without files, so each client is named once.
    """
    text = card(BUILDERS.get("fed_radgenome")())
    shared = {config["config_name"]: config for config in DatasetCard(text).data.configs}
    assert list(shared) == ["noniid", "iid"]
    assert {entry["split"]: entry["path"] for entry in shared["iid"]["data_files"]} == {
        **{f"client_0{k}": f"data/clients/*.client_0{k}-*.parquet" for k in range(3)},
        **{split: f"data/iid/{split}-*.parquet" for split in ("validation", "test")},
    }
    text = card(BUILDERS.get("fed_sciencecap")())
    many = {config["config_name"]: config for config in DatasetCard(text).data.configs}
    assert len(many["noniid"]["data_files"]) == 29
    assert many["noniid"]["data_files"][26] == {"split": "client_26", "path": "data/noniid/client_26-*.parquet"}
    assert "We did not have the download" in text
