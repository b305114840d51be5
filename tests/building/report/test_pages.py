"""A partition's numbers, worked out by hand on two clients, and what is written of them."""

import json

import pytest
from PIL import Image

from federated_folder import clean_configs, clean_files, write_folder
from fedvlm_hf.building.dataset import read_folder
from fedvlm_hf.building.report.figure import MAX_LABELS, OTHER, draw_partition, label_colours
from fedvlm_hf.building.report.numbers import partition_report
from fedvlm_hf.building.report.pages import (
    add_partition_reports,
    card_section,
    clients_table,
    histogram_table,
    read_report,
    report_text,
    shared_text,
    write_partition_reports,
)


def columns(**labels: str) -> dict[str, dict[str, list[str]]]:
    """Split to its rows, a letter each: the label; every row has an image of its own."""
    return {
        split: {
            "label": list(text),
            "task": ["vqa"] * len(text),
            "image_digest": [f"{split} {place}" for place in range(len(text))],
        }
        for split, text in labels.items()
    }


@pytest.fixture
def report():
    """Clients have 6 a and 2 b, and 2 b: the pool is 6 a of 10 and 4 b of 10."""
    return partition_report(columns(test="ab", client_01="bb", client_00="aaabaaba"), "noniid", "label")


def test_distances_from_the_pool(report):
    """client_00: shares 3/4 and 1/4 against 3/5 and 2/5, so TV = (0.15 + 0.15) / 2 = 0.15 and EMD = 0.3. client_01:
    0 and 1, so TV = 0.6. test: 1/2 and 1/2, so TV = 0.1."""
    histogram = report.histograms[0]
    assert histogram.pool == {"a": 6, "b": 4}
    distances = [histogram.total_variation(split) for split in ("client_00", "client_01", "test")]
    assert distances == pytest.approx([0.15, 0.6, 0.1])
    assert histogram.earth_movers_distance("client_00") == pytest.approx(0.3)


def test_splits_are_in_order_and_constant_columns_left_out():
    report = partition_report(columns(test="a", client_01="b", validation="a", client_00="a"), "x", "label")
    assert report.sizes == {"client_00": 1, "client_01": 1, "validation": 1, "test": 1}
    assert (report.clients, report.held_out) == (["client_00", "client_01"], ["validation", "test"])
    assert [histogram.column for histogram in report.histograms] == ["label"]  # every row's task is vqa


def test_tasks_and_modalities_are_counted_in_addition_to_the_label():
    given = columns(client_00="ab", client_01="aa")
    given["client_00"] |= {"task": ["vqa", "caption"], "modality": ["CT", None]}
    given["client_01"] |= {"modality": ["CT", "CT"]}
    report = partition_report(given, "x", "label")
    assert [histogram.column for histogram in report.histograms] == ["label", "task", "modality"]
    assert report.histograms[2].counts["client_00"] == {"(none)": 1, "CT": 1}


def test_images_that_splits_share():
    """Image i is of both clients twice over, j of a client and the test, k of one client alone."""
    given = columns(client_00="aaa", client_01="aa", test="aa")
    given["client_00"]["image_digest"] = ["i", "i", "j"]
    given["client_01"]["image_digest"] = ["i", "k"]
    given["test"]["image_digest"] = ["j", "l"]
    report = partition_report(given, "x", "label")
    assert report.images == {"client_00": 2, "client_01": 2, "test": 2}
    assert report.num_shared == 1
    assert report.shared == {("client_00", "client_01"): 1, ("client_00", "test"): 1}
    lines = shared_text(report).splitlines()
    assert lines[0] == "Images that several clients have: 1."
    assert [" ".join(line.split()) for line in lines[4:6]] == [
        "| client_00 | test | 1 |", "| client_00 | client_01 | 1 |",
    ]  # fmt: skip


def test_nothing_shared(report):
    assert shared_text(report) == (
        "Images that several clients have: 0. Clients, validation and test share no images.\n"
    )


def test_clients_table(report):
    assert clients_table(report).splitlines()[:5] == [
        "| split     | most frequent label | rows | images | TV label | EMD label |",
        "| --------- | ------------------- | ---: | -----: | -------: | --------: |",
        "| client_00 | a 75%, b 25%        |    8 |      8 |    0.150 |     0.300 |",
        "| client_01 | b 100%              |    2 |      2 |    0.600 |     1.200 |",
        "| test      | a 50%, b 50%        |    2 |      2 |    0.100 |     0.200 |",
    ]


def test_labels_beyond_the_twelfth_are_counted_together():
    """Label i of 14 has 20 - i rows in client_00, and label 13, which is 7 rows there, one in the test."""
    letters = "abcdefghijklmn"
    given = columns(client_00="".join(letter * (20 - rank) for rank, letter in enumerate(letters)), test="n")
    histogram = (report := partition_report(given, "x", "label")).histograms[0]
    assert histogram.labels == list(letters)
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in histogram_table(histogram, report).splitlines()
    ]
    assert table[0] == ["split", *letters[:12], "2 others"]
    assert table[2] == ["all clients", *(str(20 - rank) for rank in range(12)), "15"]
    assert table[4] == ["test", *["0"] * 12, "1"]


@pytest.mark.parametrize(
    ("given", "by", "text"),
    [
        (columns(client_00="a"), "organ", r"`by='organ'` is not a column .* \['label', 'task', 'image_digest'\]"),
        (columns(test="a"), "label", "has no client with rows"),
        (columns(test="a", client_00=""), "label", "has no client with rows"),
    ],
)
def test_what_cannot_be_reported(given, by, text):
    with pytest.raises(ValueError, match=text):
        partition_report(given, "x", by)


def pixels(path) -> dict[tuple[int, int, int], int]:
    with Image.open(path) as image:
        return {colour: count for count, colour in image.convert("RGB").getcolors(2**24)}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))


def test_bars_are_as_wide_as_shares(report, tmp_path):
    """Of four bars of equal size the first colour covers 0.6, 0.75, 0 and 0.5, the second 0.4, 0.25, 1 and 0.5: 1.85
    to 2.15. The legend adds a small square of each."""
    draw_partition(report, tmp_path / "figure.png")
    first, second = (pixels(tmp_path / "figure.png")[rgb(colour)] for colour in label_colours(["a", "b"]).values())
    assert first / second == pytest.approx(1.85 / 2.15, rel=0.02)


@pytest.mark.parametrize(("num_clients", "num_labels"), [(1, 1), (3, 12), (30, 200)])
def test_figures_of_any_size(tmp_path, num_clients, num_labels):
    given = columns(test="a", **{f"client_{k:02d}": "ab" for k in range(num_clients)})
    names = [f"a name of forty characters and a number {label}" for label in range(num_labels)]
    given["client_00"] = {name: [values[0]] * num_labels for name, values in given["client_00"].items()}
    given["client_00"]["label"] = names
    draw_partition(partition_report(given, "x", "label", {"client_00": "$x_1" * 30}), tmp_path / "figure.png")
    assert (rgb(OTHER) in pixels(tmp_path / "figure.png")) == (num_labels + 2 > MAX_LABELS)
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width < 1600
        assert image.height > 24 / 100 * 150 * num_clients


def test_figures_follow_from_the_numbers(tmp_path):
    for name, text in {"one": "ab", "same": "ab", "other": "aa"}.items():
        draw_partition(partition_report(columns(client_00="ab", client_01=text), "x", "label"), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "same").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "fed", clean_files(), clean_configs())


def test_a_folder_is_reported_by_the_manifests_column(folder):
    """In noniid client_00 has 5 rows of CT and client_01 3 of MR: TV = 3/8 and 5/8."""
    report = read_report(read_folder(folder), "noniid")
    assert report.histograms[0].column == "modality"
    assert report.names == {"client_00": "CT", "client_01": "MR"}
    distances = [report.histograms[0].total_variation(client) for client in report.clients]
    assert distances == [0.375, 0.625]
    assert report_text(report, "x.png").startswith(
        "# Partition noniid\n\nModalities are clients.\n\n![Contents of each"
    )
    assert [own.column for own in read_report(read_folder(folder), "iid", "task").histograms] == ["task", "modality"]


def test_no_image_is_read(folder):
    """The images' pages are zeros, and the report is the same."""
    import pyarrow.parquet as pq

    before = report_text(read_report(read_folder(folder), "noniid"))
    for path in (folder / "data").rglob("*.parquet"):
        content = bytearray(path.read_bytes())
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(1)
            assert chunk.path_in_schema == "images.list.element.bytes"
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
        path.write_bytes(content)
    with pytest.raises(OSError, match=r".*"):
        pq.read_table(path)
    assert report_text(read_report(read_folder(folder), "noniid")) == before


def test_reports_of_all_configurations_and_their_section(folder):
    """In iid client_00 has 2 MR of 5 rows and client_01 1 of 3. With 3 of 8 in the pool, TV is 1/40 and 1/24."""
    section = write_partition_reports(folder)
    files = sorted(path.name for path in (folder / "report").iterdir())
    assert files == [f"partition-{config}.{suffix}" for config in ("iid", "noniid") for suffix in ("md", "png")]
    assert "![Contents of each client](partition-iid.png)" in (folder / "report/partition-iid.md").read_text()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| [")
    ]
    assert rows == [
        [
            "[noniid](report/partition-noniid.md)",
            "validation 2, test 4",
            "`modality`",
            "2",
            "8",
            "3 to 5",
            "0.500",
            "0.625",
            "0",
        ],
        [
            "[iid](report/partition-iid.md)",
            "validation 2, test 4",
            "`modality`",
            "2",
            "8",
            "3 to 5",
            "0.033",
            "0.042",
            "0",
        ],
    ]
    assert section.endswith("![Contents of each client of noniid](report/partition-noniid.png)\n")


def test_the_card_gets_the_section_once(folder):
    card = folder / "README.md"
    before = card.read_text()
    add_partition_reports(folder)
    once = card.read_text()
    assert once.startswith(before)
    assert "## Partitions\n" in once
    add_partition_reports(folder)
    assert card.read_text() == once
    assert list(read_folder(folder).configs) == ["noniid", "iid"]


def test_a_report_without_digests_has_no_images(report):
    given = {split: {"task": ["vqa", "caption"]} for split in ("client_00", "client_01")}
    report = partition_report(given, "x")
    assert report.images is None
    assert "Shared images" not in report_text(report)
    assert "|             - |" in card_section([report])


@pytest.mark.parametrize(
    ("config", "by", "text"),
    [
        ("other", None, "`config='other'` is not a configuration of .*: noniid, iid"),
        ("iid", "organ", "its columns are id, task, clie"),
    ],
)
def test_unknown_names_list_the_known_ones(folder, config, by, text):
    with pytest.raises(ValueError, match=text):
        read_report(read_folder(folder), config, by)


def test_a_missing_file_is_an_error(folder):
    (folder / "data/iid/test.parquet").unlink()
    with pytest.raises(ValueError, match=r"data/iid/test\.parquet is listed by iid/test .* `fedvlm check`"):
        read_report(read_folder(folder), "noniid")


def test_without_a_manifest_clients_are_compared_by_task(folder):
    (folder / "manifest.json").unlink()
    assert read_report(read_folder(folder), "iid").histograms[0].column == "task"


def test_a_configuration_is_compared_by_the_column_that_divided_it(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["configs"]["iid"]["compare_by"] = "task"
    path.write_text(json.dumps(manifest))
    reports = [read_report(read_folder(folder), config) for config in ("noniid", "iid")]
    assert [report.histograms[0].column for report in reports] == ["modality", "task"]
    assert read_report(read_folder(folder), "iid", "modality").histograms[0].column == "modality"
    lines = card_section(reports).splitlines()
    assert ["`modality`" in lines[4], "`task`" in lines[5]] == [True, True]
