"""`fedvlm partition` as a user types it."""

import json
import re
import shlex
from dataclasses import fields

import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value

from federated_folder import clean_configs, clean_files, png, write_folder
from fedvlm_hf.building.builders.from_dataset import FromDataset
from fedvlm_hf.building.dataset import read_folder
from fedvlm_hf.cli import main
from fedvlm_hf.commands import partition


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "fed", clean_files(), clean_configs())


@pytest.fixture
def source(tmp_path):
    """Twenty rows of as many images, of two kinds."""
    features = Features({"image": Image(), **{name: Value("string") for name in ("question", "answer", "kind")}})
    rows = [
        {"image": {"bytes": png(number), "path": None}, "question": "?", "answer": "x", "kind": "ab"[number % 2]}
        for number in range(20)
    ]
    DatasetDict(train=Dataset.from_list(rows, features=features)).save_to_disk(tmp_path / "source")
    return str(tmp_path / "source")


def test_one_configuration(folder, capsys):
    assert main(["partition", str(folder), "--config", "noniid"]) == 0
    printed = capsys.readouterr().out
    assert "# Partition noniid\n\nModalities are clients.\n" in printed
    assert re.search(r"^\| client_00 +\| CT +\| CT 100% +\| +5 \| +4 \| +0\.375 ", printed, flags=re.MULTILINE)
    assert f"Written to {folder}/report/partition-noniid.md, with the figure {folder}/report/part" in printed
    assert sorted(path.name for path in (folder / "report").iterdir()) == [
        "partition-noniid.md", "partition-noniid.png",
    ]  # fmt: skip


def test_all_configurations_by_another_column_elsewhere(folder, tmp_path, capsys):
    assert main(["partition", str(folder), "--by", "task", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.index("# Partition noniid") < printed.index("# Partition iid")
    assert "most frequent task" in printed
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert not (folder / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--by", "organ"], "its columns are id, task, client_id, image_digest, modality"),
        (["--config", "other"], "`config='other'` is not a configuration of"),
    ],
)
def test_unknown_names_list_the_known_ones(folder, capsys, arguments, text):
    assert main(["partition", str(folder), *arguments]) == 2
    assert text in capsys.readouterr().err


def test_a_dataset_becomes_a_federated_one(source, tmp_path, capsys):
    """Two of twenty images are the test; the others go by kind, and by chance to three clients."""
    out = tmp_path / "fed"
    arguments = ["partition", "--from", source, "--by", "kind", "--out", str(out)]
    assert main(arguments) == 0
    assert "noniid: 2 clients, test 2" in capsys.readouterr().out
    counts = json.loads((out / "manifest.json").read_text())["configs"]["noniid"]["counts"]
    assert counts["test"] == 2
    assert counts["client_00"] + counts["client_01"] == 18
    card = (out / "README.md").read_text()
    assert "## Partitions" in card
    assert (out / "report/partition-noniid.png").exists()
    assert main(["check", str(out), "--num_workers", "1"]) == 0
    assert main(arguments) == 0  # it is there already
    assert (out / "README.md").read_text() == card


def test_all_ways_at_once(source, tmp_path):
    ways = ["--by", "kind", "--iid", "--dirichlet", "5", "--label", "kind", "--num_clients", "2"]
    assert main(["partition", f"--from={source}", *ways, "--out", str(tmp_path / "fed")]) == 0
    assert list(read_folder(tmp_path / "fed").configs) == ["noniid", "dirichlet-5", "iid"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--by", "colour"], "`by='colour'` is not a column of"),
        ([], "At least one of --by COLUMN"),
        (["--dirichlet", "0.001", "--label", "kind", "--num_clients", "9"], "`alpha=0.001`"),
    ],
)
def test_invalid_options_make_no_folder(source, tmp_path, capsys, arguments, text):
    assert main(["partition", "--from", source, *arguments, "--out", str(tmp_path / "fed")]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "fed").exists()


def test_help_names_every_option(capsys):
    for argv, names in [
        (["--help"], ["config", "by", "out"]),
        (["--from", "x", "--help"], [*(option.name for option in fields(FromDataset)), "max_side", "out"]),
    ]:
        with pytest.raises(SystemExit) as stop:
            main(["partition", *argv])
        assert stop.value.code == 0
        printed = capsys.readouterr().out
        assert [name for name in names if f"--{name}" not in printed] == []


def test_the_examples_in_the_help_are_valid(monkeypatch):
    """Except for the names of the datasets, which do not exist."""
    text = partition.run.__doc__.replace("\\\n", "")
    lines = [shlex.split(line) for line in re.findall(r"^ *fedvlm (partition .*)$", text, flags=re.MULTILINE)]
    assert len(lines) == 2
    taken = []
    monkeypatch.setattr("fedvlm_hf.commands.partition.open_federation", lambda name: taken.append(name) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(lines[0])
    monkeypatch.setattr(
        "fedvlm_hf.building.writing.build.build_dataset", lambda builder, *rest, **more: taken.append(builder) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        main(lines[1])
    assert taken[0] == "out/fed-slake"
    assert (taken[1].dataset, taken[1].dirichlet, taken[1].num_clients) == ("org/dataset", 0.1, 3)


def test_an_outdated_build_is_refused_or_replaced(source, tmp_path, capsys):
    out = tmp_path / "fed"
    arguments = ["partition", "--from", source, "--by", "kind", "--out", str(out), "--num_workers", "1"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert "Nothing has changed since" in capsys.readouterr().out
    assert main([*arguments, "--seed", "7"]) == 2
    assert "seed: 0 before, 7 now. Nothing is overwritten: use `--rebuild`" in capsys.readouterr().err
    assert main([*arguments, "--seed", "7", "--rebuild"]) == 0
    assert "was built again. Changes since the last build: seed: 0 before, 7 now." in capsys.readouterr().out
