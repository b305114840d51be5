"""Datasets without clients, as `save_to_disk`, image folders and Parquet leave them, become federated ones."""

import io
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, load_dataset
from PIL import Image as Pillow

from deep_images import radiograph
from federated_folder import png
from fedvlm_hf.building.builders.from_dataset import FromDataset
from fedvlm_hf.building.checking.check import check_federation
from fedvlm_hf.building.checking.findings import failed
from fedvlm_hf.building.dataset import read_folder
from fedvlm_hf.building.work import Work
from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.options import WriteOptions
from raw_custom import write_csv, write_image


FEATURES = Features(
    {
        "image": Image(),
        "question": Value("string"),
        "answer": Value("string"),
        "organ": ClassLabel(names=["lung", "liver", "brain"]),
        "id": Value("int64"),
    }
)


def rows(numbers, first_image=0):
    """Two questions on each image; organs in turn."""
    return [
        {
            "image": {"bytes": png(first_image + number // 2), "path": None},
            "question": f"Question {number}?",
            "answer": "yes" if number % 3 else "no",
            "organ": number % 3,
            "id": number,
        }
        for number in numbers
    ]


def saved(folder, **splits):
    own = {name: Dataset.from_list(content, features=FEATURES) for name, content in splits.items()}
    DatasetDict(own).save_to_disk(folder)
    return str(folder)


@pytest.fixture
def source(tmp_path):
    """60 rows of 30 images, and a test of 6 rows of 3 others."""
    return saved(tmp_path / "source", train=rows(range(60)), test=rows(range(6), first_image=100))


def read(builder, work=None):
    return builder.read(None, work or Work())


def test_rows_and_their_additional_columns(source):
    examples = read(FromDataset(dataset=source, by="organ"))
    assert Counter(example.split for example in examples) == {"train": 60, "test": 6}
    first = examples[0]
    assert (first.id, first.task, first.references) == ("train-0000000", "vqa", ("no",))
    assert first.prompt[0]["content"].startswith("Question 0?\nAnswer the")
    assert first.columns == {"organ": "lung", "source_id": "0"}
    assert first.image == examples[1].image != examples[2].image
    assert first.image.load() == png(0)


def test_clients_by_a_column(source):
    builder = FromDataset(dataset=source, by="organ")
    (partition,) = builder.partitions(read(builder))
    assert Counter(partition.splits) == {"client_00": 20, "client_01": 20, "client_02": 20, "test": 6}
    assert dict(partition.client_names) == {"client_00": "brain", "client_01": "liver", "client_02": "lung"}
    assert builder.partition_column == "organ"


def test_values_in_groups(source):
    """Two groups of three values in sorted order: brain and liver, lung."""
    builder = FromDataset(dataset=source, by="organ", num_clients=2)
    (partition,) = builder.partitions(read(builder))
    assert dict(partition.client_names) == {"client_00": "brain, liver", "client_01": "lung"}
    assert partition.rule.endswith("in 2 groups.")


def test_every_requested_partition_is_a_configuration(source):
    builder = FromDataset(dataset=source, by="organ", dirichlet=0.5, label="answer", iid=True, num_clients=3)
    partitions = {partition.name: partition for partition in builder.partitions(read(builder))}
    assert list(partitions) == ["noniid", "dirichlet-0.5", "iid"]
    assert Counter(partitions["iid"].splits) == {"client_00": 20, "client_01": 20, "client_02": 20, "test": 6}
    assert {name: partition.compare_by for name, partition in partitions.items()} == {
        "noniid": "organ", "dirichlet-0.5": "answer", "iid": "answer",
    }  # fmt: skip
    again = {partition.name: partition for partition in builder.partitions(read(builder))}
    assert again == partitions
    other = FromDataset(dataset=source, iid=True, num_clients=3, seed=1)
    assert other.partitions(read(other))[0].splits != partitions["iid"].splits


def test_images_are_held_out_with_all_their_rows(tmp_path):
    """30 images and a share of 0.2: six images, twelve rows."""
    source = saved(tmp_path / "source", train=rows(range(60)))
    work = Work()
    examples = read(FromDataset(dataset=source, iid=True, num_clients=2, test_share=0.2), work)
    test = [example for example in examples if example.split == "test"]
    assert len(test) == 12
    assert len({example.image.key for example in test}) == 6
    assert not {example.image.key for example in test} & {e.image.key for e in examples if e.split == "train"}
    assert work.counts.kept == 60


def test_rows_whose_image_is_held_out_are_left_out(tmp_path):
    """The test shows images 0 and 1, validation 1 and 2 (as BMP, with the same pixels): of training, the rows of all
    three go, of validation those of image 1."""
    validation = rows(range(2, 6))
    for row in validation:
        buffer = io.BytesIO()
        Pillow.open(io.BytesIO(row["image"]["bytes"])).save(buffer, format="BMP")
        row["image"] = {"bytes": buffer.getvalue(), "path": None}
    source = saved(tmp_path / "source", train=rows(range(10)), validation=validation, test=rows(range(4)))
    work = Work()
    examples = read(FromDataset(dataset=source, iid=True, num_clients=2), work)
    assert [example.id for example in examples] == [
        *(f"train-{row:07d}" for row in range(6, 10)), "validation-0000002", "validation-0000003",
        *(f"test-{row:07d}" for row in range(4)),
    ]  # fmt: skip
    assert work.counts.lines[-1]["count"] == 8
    assert work.counts.kept == len(examples)


def test_it_is_written_and_checked_like_any_other(source, tmp_path):
    builder = FromDataset(dataset=source, by="organ", iid=True, num_clients=3)
    out = build_dataset(builder, source, tmp_path / "fed")
    federation = read_folder(out)
    assert failed(check_federation(federation)) == []
    assert list(federation.configs) == ["noniid", "iid"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["partition_column"] == "organ"
    assert manifest["configs"]["noniid"]["counts"] == {"client_00": 20, "client_01": 20, "client_02": 20, "test": 6}
    loaded = load_dataset(str(out), "noniid", cache_dir=str(tmp_path / "cache"))
    assert sorted(map(int, loaded["client_00"]["source_id"])) == list(range(2, 60, 3))
    assert set(loaded["client_00"]["organ"]) == {"brain"}
    assert loaded["client_00"][0]["images"][0].size == (6, 4)
    # what was made can be cut again: rows of ours are taken as they are
    again = FromDataset(dataset=str(out), dataset_config="noniid", split="client_00", iid=True, num_clients=2)
    examples = read(again)
    assert [example.prompt for example in examples[:20]] == loaded["client_00"]["prompt"]


def test_no_path_of_the_machine_is_written(source, tmp_path):
    folder = build_dataset(FromDataset(dataset=str(source), by="organ"), str(source), tmp_path / "out")
    for name in ("manifest.json", "README.md"):
        assert str(tmp_path) not in (folder / name).read_text()


def test_the_same_rows_elsewhere_have_the_same_checksum(tmp_path):
    """Another answer gives another checksum."""
    sources = []
    for name, answer in [("a", "yes"), ("b", "yes"), ("c", "maybe")]:
        content = rows(range(4))
        content[1]["answer"] = answer
        work = Work()
        path = saved(tmp_path / name, train=content, test=rows(range(2), 100))
        read(FromDataset(dataset=path, iid=True, num_clients=1), work)
        sources.append(work.sources)
    assert sources[0] == sources[1]
    assert sources[0]["split train"] != sources[2]["split train"]
    assert sources[0]["split test"] == sources[2]["split test"]


def test_an_image_folder(tmp_path):
    """Images by class, stored as paths; the class is the answer and the label."""
    for number, name in enumerate(["cat", "dog"] * 4):
        path = tmp_path / "animals" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    builder = FromDataset(
        dataset=str(tmp_path / "animals"), by="label", answer="label", instruction="Cat or dog?", task="classification"
    )
    examples = read(builder)
    assert Counter(example.columns["label"] for example in examples) == {"cat": 4, "dog": 4}
    assert {example.references for example in examples} == {("cat",), ("dog",)}
    assert {example.image.load() for example in examples} == {png(number) for number in range(8)}


def test_deep_images_are_the_same_where_they_are_stored_alike(tmp_path):
    """Twice the values of an image are the same picture in its own range, but not in a window."""
    once = np.asarray(radiograph(size=8))
    features = Features({"image": Image(), "question": Value("string"), "answer": Value("string")})
    images = [Pillow.fromarray(once), Pillow.fromarray(2 * once), *(radiograph(seed, 8) for seed in range(1, 9))]
    rows = [{"image": image, "question": "?", "answer": "x"} for image in images]
    DatasetDict(train=Dataset.from_list(rows, features=features)).save_to_disk(tmp_path / "source")
    builder = FromDataset(dataset=str(tmp_path / "source"), iid=True, num_clients=2)
    for window, count in ((None, 9), ("2000,1500", 10)):
        out = tmp_path / f"out {window}"
        build_dataset(builder, ".", out, WriteOptions(num_workers=1, window=window))
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["images"]["num_images"] == count
        (noted,) = (line for line in manifest["tally"] if line["what"] == "images with more than 8 bits")
        assert noted["count"] == 10


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "At least one of --by COLUMN, --dirichlet ALPHA and --iid"),
        ({"dirichlet": 0.1, "num_clients": 2}, "`dirichlet` and `label` must be used together"),
        ({"label": "organ", "by": "organ"}, "`dirichlet` and `label` must be used together"),
        ({"iid": True}, "`num_clients` is required"),
        ({"iid": True, "num_clients": 2, "test_share": 1.0}, r"`test_share=1\.0` must be between"),
    ],
)
def test_invalid_options(options, text):
    with pytest.raises(ValueError, match=text):
        FromDataset(dataset="x", **options)


def test_a_dataset_must_be_named():
    with pytest.raises(ValueError, match="`dataset` is required"):
        FromDataset(iid=True, num_clients=2)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"by": "colour"}, r"`by='colour'` is not a column of .* \['task', 'question', 'answer', 'organ', 'id'\]"),
        ({"dirichlet": 1, "label": "image", "num_clients": 2}, "`label='image'` is not a column of .* with one value"),
        ({"by": "organ", "split": "all"}, r"`split='all'` is not a split of .*\['train', 'test'\]"),
        ({"by": "organ", "image": "picture"}, r"`image='picture'` .* columns with images are \['image'\] of"),
        (
            {"by": "organ", "answer": "reply"},
            r"split train, row 0: `reply` is missing: .* the columns with values are \['question', 'answer', 'organ'",
        ),
        ({"by": "organ", "task": "walk"}, "split train, row 0: `task` 'walk' is unknown; tasks are"),
    ],
)
def test_unknown_names_list_the_known_ones(source, options, text):
    with pytest.raises(ValueError, match=text):
        read(FromDataset(dataset=source, **options))


def test_an_alpha_that_empties_a_client(source):
    """In every draw: the partition's own error passes through."""
    builder = FromDataset(dataset=source, dirichlet=0.001, label="organ", num_clients=30)
    with pytest.raises(ValueError, match=r"`alpha=0\.001`: each of 1,000 draws"):
        builder.partitions(read(builder))


def test_a_row_without_a_value(tmp_path):
    content = rows(range(6))
    content[4]["organ"] = None
    source = saved(tmp_path / "source", train=content, test=rows(range(2), 100))
    builder = FromDataset(dataset=source, by="organ")
    with pytest.raises(ValueError, match="`by='organ'`: row 'train-0000004' has no value"):
        builder.partitions(read(builder))


def table(folder, *rows):
    """A folder with a table and its images."""
    for number, row in enumerate(rows):
        write_image(folder / f"{number}.png", row.pop("grey", number))
        row["image"] = f"{number}.png"
    write_csv(folder / "rows.csv", rows)
    return str(folder)


def test_a_local_table_is_read_without_copies(tmp_path, monkeypatch):
    """By the readers of own data: nothing is written to the cache of `datasets`."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"question": f"{number}?", "answer": "x", "hospital": "ns"[number % 2]} for number in range(20)]
    for name in (table(tmp_path / "own", *rows), str(tmp_path / "own" / "rows.csv")):
        builder = FromDataset(dataset=name, by="hospital")
        examples = read(builder)
        assert [example.id for example in examples[:2]] == ["train-0000000", "train-0000001"]
        (partition,) = builder.partitions(examples)
        assert dict(partition.client_names) == {"client_00": "n", "client_01": "s"}
    assert not (tmp_path / "cache").exists()


def test_splits_that_are_not_used_are_counted(tmp_path):
    folder = tmp_path / "own"
    table(folder, *({"question": "?", "answer": "x"} for _ in range(10)))
    (folder / "rows.csv").rename(folder / "train.csv")
    write_csv(
        folder / "extra.csv", [{"question": "?", "answer": "x", "image": f"{number}.png"} for number in range(3)]
    )
    work = Work()
    examples = read(FromDataset(dataset=str(folder), iid=True, num_clients=2), work)
    assert len(examples) == 10
    assert {
        "step": "note", "what": "rows of the split extra", "count": 3,
        "why": "they are not used; --split chooses the split that is divided among the clients",
    } in work.counts.lines  # fmt: skip
    examples = read(FromDataset(dataset=str(folder), iid=True, num_clients=2, split="extra"))
    assert [example.id for example in examples] == [f"extra-{number:07d}" for number in range(3)]


def test_conversations_become_rows(tmp_path):
    turns = [{"role": role, "content": text} for role, text in [("user", "a?"), ("assistant", "b")] * 2]
    features = Features({"image": Image(), "messages": [{"role": Value("string"), "content": Value("string")}]})
    content = [{"image": {"bytes": png(number), "path": None}, "messages": turns} for number in range(4)]
    DatasetDict(train=Dataset.from_list(content, features=features)).save_to_disk(tmp_path / "source")
    work = Work()
    examples = read(FromDataset(dataset=str(tmp_path / "source"), iid=True, num_clients=2), work)
    assert [example.id for example in examples[:3]] == ["train-0000000-1", "train-0000000-2", "train-0000001-1"]
    assert (work.counts.kept, len(examples)) == (8, 8)


def test_boxes_are_checked_as_in_custom(tmp_path):
    row = {"target": "lung", "task": "detection", "answer": "[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]"}
    folder = table(tmp_path / "own", {**row, "answer": "[0.1, 0.1, 0.5, 0.5]"}, row)
    with pytest.raises(ValueError, match=r"rows\.csv, line 3: .* has 2 boxes, but a row has one"):
        read(FromDataset(dataset=folder, iid=True, num_clients=1))


@pytest.mark.parametrize("hospital", ["", "NaN"])
def test_a_row_without_a_client_is_never_the_client_nan(tmp_path, hospital):
    rows = [{"question": "?", "answer": "x", "hospital": "a"} for _ in range(9)]
    rows[5]["hospital"] = hospital
    builder = FromDataset(dataset=table(tmp_path / "own", *rows), by="hospital", test_share=0.1)
    with pytest.raises(ValueError, match="`by='hospital'`: row 'train-0000005' has no value, so it has no client"):
        builder.partitions([replace(example, split="train") for example in read(builder)])


def test_an_answer_that_is_nan_is_missing(tmp_path):
    features = Features({"image": Image(), "question": Value("string"), "answer": Value("float64")})
    content = [
        {"image": {"bytes": png(number), "path": None}, "question": "?", "answer": answer}
        for number, answer in enumerate([1.5, float("nan")])
    ]
    DatasetDict(train=Dataset.from_list(content, features=features)).save_to_disk(tmp_path / "source")
    with pytest.raises(ValueError, match="split train, row 1: `answer` is missing"):
        read(FromDataset(dataset=str(tmp_path / "source"), iid=True, num_clients=1))


def test_a_client_that_loses_all_rows_is_named(tmp_path):
    """All rows of `rare` show the image of a test row."""
    content = rows(range(12))
    for row in content:
        row["organ"] = 0
    content[4]["organ"] = content[5]["organ"] = 2
    source = saved(tmp_path / "source", train=content, test=rows(range(4, 6)))
    with pytest.raises(ValueError, match="`by='organ'`: all rows of the value 'brain' are held out"):
        read(FromDataset(dataset=source, by="organ", iid=True, num_clients=2))


@pytest.mark.parametrize("path", ["./rows", "rows.csv", "a/b/c"])
def test_a_path_that_does_not_exist_is_refused_at_once(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"there is no file or folder {path}"):
        read(FromDataset(dataset=path, iid=True, num_clients=2))


def test_the_draw_of_dirichlet_shares_is_in_the_manifest(tmp_path):
    """The first draw leaves a client empty."""
    content = [{"question": "?", "answer": "x", "diagnosis": f"d{number % 3}"} for number in range(60)]
    builder = FromDataset(dataset=table(tmp_path / "own", *content), dirichlet=0.1, label="diagnosis", num_clients=8)
    out = build_dataset(builder, tmp_path / "own", tmp_path / "fed")
    config = json.loads((out / "manifest.json").read_text())["configs"]["dirichlet-0.1"]
    assert config["draw"]["num_draws"] > 1
    assert config["draw"]["seed"] == (config["draw"]["num_draws"] - 1) * 1_000_003
    assert f"draw {config['draw']['num_draws']}, with seed {config['draw']['seed']}," in config["rule"]
    assert config["compare_by"] == "diagnosis"
    assert set(config["counts"]) == {f"client_0{k}" for k in range(8)} | {"test"}
