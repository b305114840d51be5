"""Each defect that a folder can have is planted in a clean one, and is found by one check, with file, row and id."""

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from PIL import Image

from deep_images import encoded, png_16, radiograph
from federated_folder import clean_configs, clean_files, png, row, write_folder
from fedvlm_hf.building.checking.check import check_federation
from fedvlm_hf.building.checking.findings import Check, Location, failed
from fedvlm_hf.building.dataset import from_splits, read_folder
from fedvlm_hf.building.images import image_digest
from fedvlm_hf.building.pieces import DatasetPiece, ParquetPiece
from fedvlm_hf.building.work import Work


CLIENTS = "data/clients/client_00.client_00.parquet"


def checks_of(folder) -> dict[str, Check]:
    return {check.name: check for check in check_federation(read_folder(folder))}


def written(folder, change=None):
    """Write the clean folder, with rows changed by `change(files)` if it is given."""
    files = clean_files()
    if change is not None:
        change(files)
    return write_folder(folder, files, clean_configs())


def expect(checks: dict[str, Check], name: str, place: Location, text: str, count: int = 1) -> None:
    """Assert that only this check failed, at this location and with this text."""
    assert failed(checks.values()) == [name]
    assert checks[name].num_problems == count
    assert checks[name].problems[0][0] == place
    assert text in checks[name].problems[0][1]


def test_a_clean_folder_passes(tmp_path):
    """20 rows are stored: 8 of clients, whom two configurations share, and 2 x (2 + 4) held-out ones. Images: clients
    have 6, `validation` 2 and `test` 4."""
    checks = checks_of(written(tmp_path))
    assert failed(checks.values()) == []
    assert not any(check.skipped or check.notes for check in checks.values())
    assert checks["files"].what.startswith("all 8 files with 20 rows")
    assert checks["images"].what.endswith("12 distinct images")


def test_load_dataset_reads_what_was_checked(tmp_path):
    written(tmp_path / "data")
    loaded = load_dataset(str(tmp_path / "data"), "iid", cache_dir=str(tmp_path / "cache"))
    assert loaded["client_00"]["id"] == ["a0", "a1", "a2", "c0", "c1"]


def set_value(file: str, row: int, **values):
    def change(files):
        files[file][row].update(values)

    return change


A = "clients/client_00.client_00"
MESSAGE = [{"role": "assistant", "content": " "}]


@pytest.mark.parametrize(
    ("change", "name", "place", "text"),
    [
        (set_value(A, 1, prompt=[]), "row format", (1, "a1"), "column `prompt`: there is no message"),
        (set_value(A, 2, task="walking"), "row format", (2, "a2"), "unknown task 'walking'"),
        (set_value(A, 0, completion=MESSAGE), "answers", (0, "a0"), "column `completion`: the answer is empty"),
        (set_value(A, 0, references=[]), "answers", (0, "a0"), "column `references`: there is no reference"),
        (
            set_value(A, 2, references=["[0.125, 0.250, 0.500, 1.001]"]), "boxes", (2, "a2"),
            "'[0.125, 0.250, 0.500, 1.001]' is not inside",
        ),
        (set_value(A, 2, references=["[0.5, 0.2, 0.5, 0.9]"]), "boxes", (2, "a2"), "is not a box"),
        (
            set_value(A, 2, completion=[{"role": "assistant", "content": "[-0.1, 0.2, 0.5, 0.9]"}]), "boxes",
            (2, "a2"), "is not inside",
        ),
        (
            set_value(A, 2, references=["[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]"]), "boxes", (2, "a2"),
            "has 2 boxes, but a row has one",
        ),
        (
            set_value(A, 1, prompt=[{"role": "user", "content": "<image> Why?"}]), "row format", (1, "a1"),
            "has the image placeholder '<image>'",
        ),
        (set_value(A, 1, images=[]), "images", (1, "a1"), "there is no image"),
        (set_value(A, 1, images=[{"bytes": png(1)[:40], "path": None}]), "images", (1, "a1"), "cannot be read as an"),
        (set_value(A, 1, images=[{"bytes": png(40), "path": None}]), "image digests", (1, "a1"), "the pixels have"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(tmp_path, change, name, place, text):
    expect(checks_of(written(tmp_path, change)), name, Location(CLIENTS, *place), text)


def test_answers_of_other_tasks_are_not_boxes(tmp_path):
    change = set_value(A, 0, references=["[0.1, 0.2, 7, 9]"])
    assert failed(checks_of(written(tmp_path, change)).values()) == []


def test_the_first_rows_are_named_and_the_others_counted(tmp_path):
    """Three rows in each of two of four pieces of a file: five are shown."""

    def change(files):
        files[A] = [row(f"e{place}", 50 + place) for place in range(6)]
        for own in files[A]:
            own["references"] = []

    check = checks_of(written(tmp_path, change))["answers"]
    assert check.num_problems == 6
    assert [place.id for place, _ in check.problems] == ["e0", "e1", "e2", "e3", "e4"]
    lines = str(check).splitlines()
    assert lines[0].startswith("WRONG  answers ")
    assert f"{CLIENTS}, row 0, id 'e0': column `references`" in lines[1]
    assert lines[-1].strip() == "and 1 more"


def test_every_row_of_a_broken_image_is_counted(tmp_path):
    """It is decoded once, and two rows show it."""
    broken = [{"bytes": b"not an image", "path": None}]

    def change(files):
        files[A][0]["images"] = files[A][2]["images"] = broken

    check = checks_of(written(tmp_path, change))["images"]
    assert [place.id for place, _ in check.problems] == ["a0", "a2"]


def test_an_image_that_many_rows_show_is_decoded_once(tmp_path, monkeypatch):
    """12 different images in 20 rows."""
    decoded = []
    from fedvlm_hf.building.checking import rows

    original = rows.image_digest
    monkeypatch.setattr(rows, "image_digest", lambda image: decoded.append(1) or original(image))
    check_federation(read_folder(written(tmp_path)))
    assert len(decoded) == 12


def test_an_id_is_not_unique(tmp_path):
    checks = checks_of(written(tmp_path, set_value(A, 1, id="a0")))
    assert set(failed(checks.values())) == {"ids"}
    assert checks["ids"].num_problems == 2  # in each configuration
    place, text = checks["ids"].problems[0]
    assert place == Location(CLIENTS, 1, "a0")
    assert text == f"noniid: its id in client_00 is also in client_00 ({CLIENTS}, row 0, id 'a0')"


def test_an_id_is_missing(tmp_path):
    checks = checks_of(written(tmp_path, set_value(A, 1, id=None)))
    assert checks["ids"].problems[0] == (Location(CLIENTS, 1, None), "noniid: the id is missing")


def test_a_row_is_in_two_splits(tmp_path):
    """A client's row in the test too: by its id, and its image is a leak."""

    def change(files):
        files["noniid/test"].append(dict(files[A][0], client_id="client_00"))

    checks = checks_of(written(tmp_path, change))
    assert failed(checks.values()) == ["one place", "leaks"]
    place, text = checks["one place"].problems[0]
    assert place == Location("data/noniid/test.parquet", 4, "a0")
    assert "its id in test is also in client_00" in text


def test_a_file_in_two_splits(tmp_path):
    configs = clean_configs()
    configs["noniid"]["client_01"].append(A)
    checks = checks_of(write_folder(tmp_path, clean_files(), configs))
    assert checks["one place"].num_problems == 3


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_client_has_a_held_out_image(tmp_path, split):
    """Other bytes and the same pixels: a BMP of the image of row b0."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png(2))).save(buffer, format="BMP")

    def change(files):
        own = files[f"noniid/{split}"][1]
        own["images"] = [{"bytes": buffer.getvalue(), "path": None}]
        own["image_digest"] = files["clients/client_00.client_01"][0]["image_digest"]

    checks = checks_of(written(tmp_path, change))
    id = {"test": "t1", "validation": "v1"}[split]
    expect(
        checks,
        "leaks",
        Location(f"data/noniid/{split}.parquet", 1, id),
        f"noniid: its image in {split} is also in client_00",
    )
    assert "(data/clients/client_00.client_01.parquet, row 0, id 'b0')" in checks["leaks"].problems[0][1]


def test_an_image_of_validation_is_in_test(tmp_path):
    def change(files):
        for name in ("images", "image_digest"):
            files["iid/test"][0][name] = files["iid/validation"][0][name]

    expect(
        checks_of(written(tmp_path, change)), "leaks", Location("data/iid/test.parquet", 0, "t0"), "also in validation"
    )


def test_a_declared_leak_is_noted(tmp_path):
    def change(files):
        for name in ("images", "image_digest"):
            files["noniid/test"][0][name] = files["noniid/test"][1][name] = files[A][0][name]

    written(tmp_path, change)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["configs"]["noniid"]["known_leak"] = "the official split has this leak"
    path.write_text(json.dumps(manifest))
    checks = checks_of(tmp_path)
    assert failed(checks.values()) == []
    assert checks["leaks"].notes == ["noniid: 1 images in 2 rows, as declared: the official split has this leak"]


@pytest.mark.parametrize(
    ("split", "problem"),
    [("client-00", "a split must be client_*"), ("train", "a split must be client_*"), ("client_", "a spl")],
)
def test_a_wrong_split_name(tmp_path, split, problem):
    configs = clean_configs()
    configs["iid"][split] = configs["iid"].pop("client_01")
    checks = checks_of(write_folder(tmp_path, clean_files(), configs))
    assert failed(checks.values()) == ["split names"]
    place, text = checks["split names"].problems[0]
    assert (place, text[: len(problem)]) == (Location(f"iid/{split}"), problem)


def test_a_configuration_without_clients(tmp_path):
    configs = clean_configs()
    configs["held-out"] = {"test": ["noniid/test"]}
    checks = checks_of(write_folder(tmp_path, clean_files(), configs))
    assert (Location("held-out"), "has no client; its splits are test") in checks["split names"].problems


def test_other_columns_in_one_file(tmp_path):
    def change(files):
        for own in files["iid/test"]:
            own["mood"] = "good"
            del own["modality"]

    checks = checks_of(written(tmp_path, change))
    expect(checks, "columns", Location("data/iid/test.parquet"), "column `modality` is in " + CLIENTS, count=2)
    assert checks["columns"].problems[1][1].startswith("column `mood` is in data/iid/test.parquet, but not in")


def test_a_column_of_the_row_format_is_missing(tmp_path):
    def change(files):
        for rows in files.values():
            for own in rows:
                del own["references"]

    checks = checks_of(written(tmp_path, change))
    expect(checks, "columns", Location("data/noniid/validation.parquet"), "has no column `references`", count=4)


def test_images_of_another_type(tmp_path):
    """Bytes without the type of images, as a plain Parquet writer leaves them, are not decoded by `load_dataset`."""
    written(tmp_path)
    for path in (tmp_path / "data").rglob("*.parquet"):
        pq.write_table(pq.read_table(path).replace_schema_metadata(), path)
    checks = checks_of(tmp_path)
    assert failed(checks.values()) == ["columns"]
    assert "column `images` is List({'bytes'" in checks["columns"].problems[0][1]


def test_a_damaged_file(tmp_path):
    """Cut off at its end it has no footer; the rows of the others are checked."""
    written(tmp_path)
    path = tmp_path / CLIENTS
    path.write_bytes(path.read_bytes()[:-10])
    checks = checks_of(tmp_path)
    assert checks["files"].problems[0][0] == Location(CLIENTS)
    assert "is not a complete Parquet file" in checks["files"].problems[0][1]
    assert failed(checks.values()) == ["files", "counts", "partition", "contents", "manifest"]


def test_a_file_damaged_in_its_middle(tmp_path):
    """The footer is whole and the first row group is not."""
    written(tmp_path)
    path = tmp_path / CLIENTS
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    checks = checks_of(tmp_path)
    place, text = checks["row format"].problems[0]
    assert place.file == CLIENTS
    assert "the file is damaged from here on" in text


def test_a_missing_file(tmp_path):
    written(tmp_path)
    (tmp_path / CLIENTS).unlink()
    checks = checks_of(tmp_path)
    places = [place for place, _ in checks["files"].problems]
    assert places == [Location(CLIENTS), Location(CLIENTS)]  # each configuration lists it
    assert "noniid/client_00" in checks["files"].problems[0][1]


def test_rows_that_the_manifest_does_not_know(tmp_path):
    """A row of a configuration is gone and another client has one: counts, ids and the hash of that configuration."""
    written(tmp_path)
    files = clean_files()
    del files["iid/test"][0]
    other = write_folder(tmp_path / "other", files, clean_configs())
    (other / "data/iid/test.parquet").rename(tmp_path / "data/iid/test.parquet")
    shutil.rmtree(other)
    checks = checks_of(tmp_path)
    assert failed(checks.values()) == ["same rows", "counts", "partition", "contents", "manifest"]
    assert [str(place) for place, _ in checks["counts"].problems] == ["manifest.json", "iid"]
    assert checks["counts"].problems[1][1] == "the split test: found 3 rows, manifest.json says 4 rows"
    assert checks["same rows"].problems == [
        (Location("data/noniid/test.parquet", 0, "t0"), "in noniid, but not in iid")
    ]
    assert checks["partition"].problems[0][0] == Location("iid")


def test_a_row_that_changed_its_client(tmp_path):
    """Counts are as before; the hash is not."""
    written(tmp_path)
    files = clean_files()
    files["iid/test"][0]["client_id"] = "client_01"
    other = write_folder(tmp_path / "other", files, clean_configs())
    (other / "data/iid/test.parquet").rename(tmp_path / "data/iid/test.parquet")
    shutil.rmtree(other)
    assert failed(checks_of(tmp_path).values()) == ["partition"]


def test_a_configuration_that_is_missing_in_the_card(tmp_path):
    configs = clean_configs()
    del configs["iid"]
    written(tmp_path)
    other = write_folder(tmp_path / "other", clean_files(), configs)
    (other / "README.md").rename(tmp_path / "README.md")
    shutil.rmtree(other)
    checks = checks_of(tmp_path)
    assert failed(checks.values()) == ["files", "counts"]
    assert checks["files"].problems[0][0] == Location("data/iid/test.parquet")
    assert (Location("iid"), "the split validation: found nothing, manifest.json says 2 rows") in checks[
        "counts"
    ].problems


def test_without_a_manifest_nothing_is_compared_with_it(tmp_path):
    written(tmp_path)
    (tmp_path / "manifest.json").unlink()
    checks = checks_of(tmp_path)
    assert failed(checks.values()) == []
    skipped = {name for name, check in checks.items() if check.skipped}
    assert skipped == {"counts", "same rows", "partition", "contents", "manifest"}
    assert str(checks["counts"]).startswith("-      counts ")


def rewrite(folder, file: str, change) -> None:
    """Change the rows of one Parquet file, and leave everything else as it is."""
    path = folder / "data" / f"{file}.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def change_answer(rows):
    rows[1]["completion"][0]["content"] = rows[1]["references"][0] = "no"


def swap_answers(rows):
    for name in ("completion", "references"):
        rows[0][name], rows[2][name] = rows[2][name], rows[0][name]


@pytest.mark.parametrize(
    "change",
    [
        change_answer,
        lambda rows: rows[0]["references"].append("aye"),
        lambda rows: rows[0]["prompt"][0].update(content="Where is the lung?"),
        lambda rows: rows[0].update(modality="US"),
        lambda rows: rows[0].update(modality=None),
    ],
)
def test_changed_contents_are_found(tmp_path, change):
    """In both configurations, which share the clients' rows."""
    rewrite(written(tmp_path), A, change)
    check = checks_of(tmp_path)["contents"]
    assert failed(checks_of(tmp_path).values()) == ["contents"]
    assert [str(place) for place, _ in check.problems] == ["noniid/client_00", "iid/client_00"]


def test_swapped_answers_are_found(tmp_path):
    """The rows a0 and a2 have the same answers as before, but each has the other's."""

    def same_task(files):
        files[A][2].update(row("a2", 1), references=["left"], completion=[{"role": "assistant", "content": "left"}])

    rewrite(written(tmp_path, same_task), A, swap_answers)
    assert failed(checks_of(tmp_path).values()) == ["contents"]


def test_the_order_of_rows_and_columns_does_not_matter(tmp_path):
    path = written(tmp_path) / CLIENTS
    table = pq.read_table(path)
    pq.write_table(table.take([2, 0, 1]).select(table.column_names[::-1]), path)
    assert failed(checks_of(tmp_path).values()) == []


def test_an_unlisted_file_is_found(tmp_path):
    written(tmp_path)
    shutil.copy(tmp_path / CLIENTS, tmp_path / "data" / "more.parquet")
    (tmp_path / ".cache").mkdir()
    shutil.copy(tmp_path / CLIENTS, tmp_path / ".cache" / "hidden.parquet")
    place = Location("data/more.parquet")
    expect(checks_of(tmp_path), "files", place, "no configuration in README.md lists it")


def edit_manifest(folder, edit) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda m: m.update(num_rows=15), "`num_rows` is 15, the rows have 14"),
        (lambda m: m.update(tasks={"vqa": 14}), "`tasks` is {'vqa': 14}, the rows have {'grounding': 4, 'vqa': 10}"),
        (lambda m: m.update(columns=[]), "`columns` is [], the rows have ['modality']"),
        (lambda m: m["images"].update(num_images=11), "`num_images` is 11, the rows have 12"),
        (lambda m: m["images"].update(num_bytes=1), "`num_bytes` is 1, the rows have"),
        (lambda m: m["images"].update(largest=[7, 4]), "`largest` is [7, 4], the rows have [6, 4]"),
        (lambda m: m["configs"]["iid"]["images"].update(test=3), "`images` is {"),
        (lambda m: m["configs"]["iid"].update(leaked_images=1), "`leaked_images` is 1 in manifest.json"),
        (lambda m: m.pop("num_rows"), "there is no `num_rows`"),
        (lambda m: m.pop("tasks"), "there is no `tasks`"),
        (lambda m: m.pop("inputs"), "there is no `inputs`"),
        (lambda m: m.pop("format"), "`format` is None"),
        (lambda m: m["configs"]["iid"].pop("rule"), "configuration 'iid' has no `rule`"),
    ],
)
def test_a_wrong_manifest_is_named(tmp_path, edit, text):
    written(tmp_path)
    edit_manifest(tmp_path, lambda manifest: (manifest.update(package_version="0.3.0"), edit(manifest)))
    checks = checks_of(tmp_path)
    assert failed(checks.values()) == ["manifest"]
    assert any(text in problem for _, problem in checks["manifest"].problems)


@pytest.mark.parametrize("key", ["counts", "partition", "contents"])
def test_a_configuration_without_a_total_is_named(tmp_path, key):
    written(tmp_path)
    edit_manifest(tmp_path, lambda manifest: manifest["configs"]["iid"].pop(key))
    assert failed(checks_of(tmp_path).values()) == [key, "manifest"]


@pytest.mark.parametrize("key", ["files", "configs", "images", "tasks"])
def test_a_manifest_with_other_types_is_refused_in_words(tmp_path, key):
    written(tmp_path)
    edit_manifest(tmp_path, lambda manifest: manifest.update({key: [1]}))
    assert failed(checks_of(tmp_path).values())


def test_a_manifest_of_an_older_version_is_noted(tmp_path):
    """Version 0.1.0 had no digests of contents. What it had is compared."""

    def edit(manifest):
        del manifest["format"], manifest["inputs"]
        for config in manifest["configs"].values():
            del config["contents"]

    edit_manifest(written(tmp_path), edit)
    checks = checks_of(tmp_path)
    assert failed(checks.values()) == []
    assert checks["contents"].skipped.startswith("built by an older version")
    assert checks["manifest"].notes[0].startswith("built by an older version")
    edit_manifest(tmp_path, lambda manifest: manifest.pop("num_rows"))
    assert failed(checks_of(tmp_path).values()) == ["manifest"]


def test_replaced_images_are_noted(tmp_path):
    written(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "missing_images": 3}))
    assert checks_of(tmp_path)["images"].notes == [
        "3 images were missing in the download and are replaced by grey pictures"
    ]


def test_deep_images_are_noted(tmp_path):
    """Two rows have the same radiograph, one has another, and one has 16-bit colours. Their digests are right."""
    contents = [encoded(radiograph(), "PNG")] * 2 + [
        encoded(radiograph(1, mode="F")),
        png_16(np.full((3, 2, 3), 4095)),
    ]

    def change(files):
        rows = [own for rows in files.values() for own in rows][:4]
        for own, content in zip(rows, contents, strict=True):
            own["images"] = [{"bytes": content, "path": None}]
            own["image_digest"] = image_digest(Image.open(io.BytesIO(content)))

    checks = checks_of(written(tmp_path, change))
    assert failed(checks.values()) == []
    assert [note.split(".")[0] for note in checks["images"].notes] == [
        "images with more than 8 bits: 2",
        "images with 16 bits per colour: 1",
    ]
    assert "Training and evaluation convert each by its own range of values" in checks["images"].notes[0]


def test_the_result_does_not_depend_on_the_number_of_processes(tmp_path):
    """Eight files with a defect each, on two processes and on one."""

    def change(files):
        for rows in files.values():
            rows[0]["references"] = []

    federation = read_folder(written(tmp_path, change))
    one, two = (check_federation(federation, Work(num_workers=number)) for number in (1, 2))
    assert list(map(str, one)) == list(map(str, two))
    assert {check.name: check.num_problems for check in one}["answers"] == 8


def test_a_loaded_dataset(tmp_path):
    """As written by `DatasetDict.save_to_disk`: each split counts as a file."""
    files = clean_files()
    clients = {
        split: Dataset.from_list(files[name], features=load(tmp_path / split, files[name]))
        for split, name in (("client_00", A), ("client_01", "clients/client_01.client_01"), ("test", "iid/test"))
    }
    DatasetDict(clients).save_to_disk(tmp_path / "saved")
    federation = from_splits("saved", {"default": load_from_disk(tmp_path / "saved")})
    assert failed(check_federation(federation)) == []
    federation.configs["default"]["test"] = ["default/client_00"]
    checks = {check.name: check for check in check_federation(federation)}
    assert checks["one place"].problems[0][0] == Location("default/client_00", 0, "a0")


def load(folder, rows):
    """The features that `load_dataset` gives rows of the folder."""
    from datasets import Features

    write_folder(folder, {A: rows}, {"noniid": {"client_00": [A]}})
    return Features.from_arrow_schema(pq.read_schema(folder / CLIENTS))


def test_pieces_cover_a_file_in_order(tmp_path):
    """Row groups of 600 rows: a piece ends with the group that reaches 1,000. Loaded rows are cut at 1,000."""
    table = pa.table({"id": [str(place) for place in range(2100)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=600)
    from fedvlm_hf.building.pieces import dataset_pieces, parquet_pieces

    for pieces, kind, sizes in [
        (parquet_pieces(tmp_path / "x.parquet", "x"), ParquetPiece, [1200, 900]),
        (dataset_pieces(Dataset(table), "x"), DatasetPiece, [1000, 1000, 100]),
    ]:
        assert [piece.num_rows for piece in pieces] == sizes
        assert all(isinstance(piece, kind) for piece in pieces)
        batches = [batch for piece in pieces for batch in piece.batches(["id"])]
        assert [id for batch in batches for id in batch["id"].to_pylist()] == table["id"].to_pylist()
        assert max(batch.num_rows for batch in batches) == 16


@pytest.mark.parametrize(
    ("card", "text"),
    [
        (None, "is not a federated dataset: it has no README.md"),
        ("# No front matter", "does not list configurations"),
        ("---\nconfigs: [\n---\n", "does not list configurations"),
        ("---\nconfigs: []\n---\n", "there is none"),
        ("---\nconfigs:\n- config_name: x\n---\n", "KeyError: 'data_files'"),
        ("---\nconfigs:\n- config_name: x\n  data_files: [{split: a}]\n---\n", "Each item must be"),
        (
            "---\nconfigs:\n- config_name: x\n  data_files: [{split: partition, path: x.parquet}]\n---\n",
            "one of its sources may not be redistributed",
        ),
    ],
)
def test_folders_that_are_not_datasets(tmp_path, card, text):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    with pytest.raises(ValueError, match=text.replace("[", r"\[")):
        read_folder(tmp_path)


def test_an_invalid_manifest(tmp_path):
    written(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json is not JSON"):
        read_folder(tmp_path)
