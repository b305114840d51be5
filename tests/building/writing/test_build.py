"""From a download to a loaded dataset, or to an error that leaves nothing behind."""

import hashlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Image, List, load_dataset
from PIL import Image as PILImage

from deep_images import radiograph
from fedvlm_hf.building.checking.check import check_federation
from fedvlm_hf.building.checking.findings import failed
from fedvlm_hf.building.dataset import read_folder
from fedvlm_hf.building.images import image_digest
from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.card import summary
from fedvlm_hf.building.writing.manifest import partition_hash
from fedvlm_hf.building.writing.options import WriteOptions
from fedvlm_hf.data.clients import check_content, client_datasets, evaluation_datasets
from fedvlm_hf.data.pixels import Window, in_8_bits
from toy_builder import OwnLayout, ToyBuilder, toy_rows, write_toy


ALONE = WriteOptions(num_workers=1)


def build(folder: Path, builder=None, rows=None, name="out", **options) -> Path:
    raw = folder / "raw"
    if not raw.exists():
        write_toy(raw, rows)
    return build_dataset(builder or ToyBuilder(), raw, folder / name, replace(ALONE, **options))


def load(out: Path, config: str, folder: Path):
    return load_dataset(str(out), config, cache_dir=str(folder / "cache"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest_of(out: Path) -> dict:
    return json.loads((out / "manifest.json").read_text())


@pytest.mark.parametrize("builder", [ToyBuilder(), OwnLayout()], ids=["cells", "own files"])
def test_what_is_loaded_is_what_was_read(tmp_path, builder):
    """Every row once, in its split, with its texts and the bytes of its image, in both configurations."""
    out = build(tmp_path, builder)
    rows = {row["id"]: row for row in toy_rows()}
    for config, entry in manifest_of(out)["configs"].items():
        loaded = load(out, config, tmp_path)
        assert loaded["client_00"].features["images"] == List(Image())
        assert {split: len(dataset) for split, dataset in loaded.items()} == entry["counts"]
        raw = {split: dataset.cast_column("images", List(Image(decode=False))) for split, dataset in loaded.items()}
        found = {row["id"]: row for dataset in raw.values() for row in dataset}
        assert set(found) == set(rows)
        for id, row in found.items():
            path = tmp_path / "raw" / rows[id]["image"]
            assert row["images"] == [{"bytes": path.read_bytes(), "path": None}]
            assert row["references"] == [rows[id]["answer"]] == [row["completion"][0]["content"]]
            assert rows[id]["question"] in row["prompt"][0]["content"]
            assert (row["label"], row["subset"]) == (rows[id]["label"], None)
            assert row["image_digest"] == image_digest(PILImage.open(path))
        places = [(row["id"], split, row["client_id"]) for split, dataset in raw.items() for row in dataset]
        assert partition_hash(places) == entry["partition"]
        assert all((client is None) == split.startswith("client_") for _, split, client in places)


def test_a_loaded_configuration_can_be_trained_on(tmp_path):
    loaded = load(build(tmp_path), "labels", tmp_path)
    clients = client_datasets(loaded)
    assert list(clients) == ["client_00", "client_01"]
    check_content(clients, evaluation_datasets(loaded))
    assert set(clients["client_00"]["label"]) == {"cat"}
    assert {row["client_id"] for row in loaded["test"]} == {"client_01"}


def test_own_files_keep_the_order_of_the_rows(tmp_path):
    loaded = load(build(tmp_path, OwnLayout()), "labels", tmp_path)
    ids = [row["id"] for row in toy_rows() if row["label"] == "cat" and row["split"] == "train"]
    assert loaded["client_00"]["id"] == ids


def test_two_builds_have_equal_bytes(tmp_path):
    """For any number of processes and any folder."""
    one, other = build(tmp_path, name="one"), build(tmp_path, name="deep/other", num_workers=2)
    assert contents(one) == contents(other)
    assert not [path for path in tmp_path.rglob(".*") if path.name.endswith((".build", ".tmp"))]
    assert str(tmp_path) not in (one / "manifest.json").read_text() + (one / "README.md").read_text()


def test_only_the_requested_configurations(tmp_path):
    out = build(tmp_path, configs="turns")
    assert list(manifest_of(out)["configs"]) == ["turns"]
    assert set(load(out, "turns", tmp_path)) == {"client_00", "client_01", "validation", "test"}


def test_boxes_and_images_are_padded_together(tmp_path):
    """48 x 32 in a square of 48: y becomes (8 + 32 y) / 48, so 0.25 is 0.333 and 0.75 is 0.667."""
    rows = [{**row, "task": "grounding", "answer": "[0.100, 0.250, 0.500, 0.750]"} for row in toy_rows()]
    loaded = load(build(tmp_path, rows=rows, pad_to_square=True), "labels", tmp_path)
    for dataset in loaded.values():
        for row in dataset:
            assert row["references"] == ["[0.100, 0.333, 0.500, 0.667]"] == [row["completion"][0]["content"]]
            assert row["images"][0].size == (48, 48)
            assert row["image_digest"] == image_digest(row["images"][0])


KILLED = """
import os, signal, sys
from pathlib import Path
import fedvlm_hf.building.{module} as module
from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.options import WriteOptions
from toy_builder import OwnLayout

calls, function = [], module.{function}
def dying(*args):
    calls.append(args)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args)

module.{function} = dying
build_dataset(OwnLayout(), Path(sys.argv[1]), Path(sys.argv[2]), WriteOptions(num_workers=1))
"""


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [
        ("inspection", "_inspect", 4),
        ("writing.shards", "_write", 3),
        ("writing.build", "card", 1),
        ("writing.workspace", "move_folder", 1),
    ],
)
def test_a_killed_build_continues_with_the_same_result(tmp_path, module, function, call):
    out, whole = tmp_path / "out", build(tmp_path, OwnLayout(), name="whole")
    code = KILLED.format(module=module, function=function, call=call)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "raw", out], env=environment)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    left = tmp_path / ".out.build"
    inodes = {path: path.stat().st_ino for path in left.glob("result/data/*/*.parquet")}
    assert bool(inodes) == (module != "inspection")
    assert len((left / "read" / "images.jsonl").read_text().splitlines()) == (3 if module == "inspection" else 8)
    build(tmp_path, OwnLayout())
    assert contents(out) == contents(whole)
    assert not left.exists()
    kept = {path: (out / path.relative_to(left / "result")).stat().st_ino for path in inodes}
    assert kept == inodes


REBUILD = KILLED.replace("WriteOptions(num_workers=1))", "WriteOptions(num_workers=1), rebuild=True)")


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [
        ("inspection", "_inspect", 4), ("writing.shards", "_write", 3), ("writing.build", "card", 1),
        ("writing.workspace", "move_folder", 1), ("writing.workspace", "_move", 1),
        ("writing.workspace", "_move", 2),
    ],
)  # fmt: skip
def test_a_killed_rebuild_leaves_one_complete_build(tmp_path, module, function, call):
    """The old one until the new one is on disk. The same command finishes it. `_move` moves away the old one (1)
    and then the new one to its place (2): a kill in between is repaired by the next call, whatever its options."""
    out = build(tmp_path, OwnLayout())
    old = contents(out)
    write_toy_rows(tmp_path / "raw")
    new = contents(build(tmp_path, OwnLayout(), name="fresh"))
    code = REBUILD.format(module=module, function=function, call=call)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "raw", out], env=environment)
    assert done.returncode == -signal.SIGKILL
    if (function, call) == ("_move", 2):
        assert contents(tmp_path / ".out.build" / "old") == old
        assert contents(tmp_path / ".out.build" / "complete") == new
        assert build(tmp_path, OwnLayout()) == out
    else:
        assert contents(out) == old
        with pytest.raises(ValueError, match="is another build"):
            build_dataset(OwnLayout(seed=1), tmp_path / "raw", out, ALONE)
        build_dataset(OwnLayout(), tmp_path / "raw", out, ALONE, rebuild=True)
    assert contents(out) == new
    assert not (tmp_path / ".out.build").exists()


@pytest.mark.parametrize(("module", "function"), [("writing.shards", "_write"), ("inspection", "_inspect")])
def test_an_image_that_changes_while_a_build_is_interrupted_is_noticed(tmp_path, module, function):
    """Its size and time are as before, so only its bytes tell. Rows that were written with it are written again."""
    write_toy(tmp_path / "raw")
    code = KILLED.format(module=module, function=function, call=3)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code, tmp_path / "raw", tmp_path / "out"], env=environment)
    path = tmp_path / "raw" / "images" / "0.png"
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # the last byte of the checksum at the end of a PNG
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    out = build(tmp_path, OwnLayout())
    assert contents(out) == contents(build(tmp_path, OwnLayout(), name="fresh"))
    rows = [row for path in out.rglob("*.parquet") for row in pq.read_table(path, columns=["images"]).to_pylist()]
    assert path.read_bytes() in [row["images"][0]["bytes"] for row in rows]


def test_a_rebuild_says_what_changed(tmp_path):
    said: list[str] = []
    out = build(tmp_path)
    for _ in range(2):
        build_dataset(ToyBuilder(seed=1), tmp_path / "raw", out, ALONE, rebuild=True, notify=said.append)
    assert said == [
        f"{out} was built again. Changes since the last build: seed: 0 before, 1 now.",
        f"Nothing has changed since {out} was built: there is nothing to do.",
    ]
    assert manifest_of(out)["seed"] == 1


def test_supplied_images_are_noticed(tmp_path):
    """They were allowed to be missing when the build was made."""
    write_toy(tmp_path / "raw")
    (tmp_path / "raw" / "images" / "1.png").rename(tmp_path / "1.png")
    out = build(tmp_path, allow_missing_images=True)
    assert build(tmp_path, allow_missing_images=True) == out
    (tmp_path / "1.png").rename(tmp_path / "raw" / "images" / "1.png")
    with pytest.raises(ValueError, match=r"1 added \(images/1\.png\)"):
        build(tmp_path, allow_missing_images=True)
    build_dataset(ToyBuilder(), tmp_path / "raw", out, replace(ALONE, allow_missing_images=True), rebuild=True)
    assert manifest_of(out)["missing_images"] == 0


def test_a_rebuild_never_replaces_other_files(tmp_path):
    """A folder without our manifest, a build to which something was added, and a build that is newly broken."""
    out = build(tmp_path)
    for spoil in (lambda: (out / "thesis.tex").touch(), lambda: (out / "manifest.json").write_text("{}")):
        spoil()
        before = contents(out)
        with pytest.raises(ValueError, match=r"thesis\.tex|is not a build"):
            build_dataset(ToyBuilder(seed=1), tmp_path / "raw", out, ALONE, rebuild=True)
        assert contents(out) == before
    assert not (tmp_path / ".out.build").exists()


def test_a_failing_rebuild_leaves_the_old_build(tmp_path):
    out = build(tmp_path)
    before = contents(out)
    spoil_image(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"3\.png"):
        build_dataset(ToyBuilder(), tmp_path / "raw", out, ALONE, rebuild=True)
    assert contents(out) == before


def test_a_build_of_an_older_version_can_be_replaced(tmp_path):
    out = build(tmp_path)
    (out / "inputs.json").unlink()
    with pytest.raises(ValueError, match="an older version of the package built it"):
        build(tmp_path)
    build_dataset(ToyBuilder(), tmp_path / "raw", out, ALONE, rebuild=True)
    assert (out / "inputs.json").exists()


def test_what_only_reading_tells_is_read_again(tmp_path):
    """A digest of a builder's own, such as that of texts in many files."""

    class Own(ToyBuilder):
        def read(self, raw, work):
            work.sources["all notes"] = hashlib.sha256((raw / "notes.txt").read_bytes()).hexdigest()
            return super().read(raw, work)

    write_toy(tmp_path / "raw")
    (tmp_path / "raw" / "notes.txt").write_text("one")
    out = build(tmp_path, Own())
    assert build(tmp_path, Own()) == out
    (tmp_path / "raw" / "notes.txt").write_text("two")
    with pytest.raises(ValueError, match=r"1 changed \(all notes\)"):
        build(tmp_path, Own())


def test_other_options_or_files_start_over(tmp_path, caplog):
    """A build that stopped at a missing image is not continued by a build with other options."""
    write_toy(tmp_path / "raw")
    (tmp_path / "raw" / "images" / "5.png").rename(tmp_path / "5.png")
    for change in (lambda: None, lambda: write_toy_rows(tmp_path / "raw")):
        with pytest.raises(ValueError, match="1 of 8 images are missing"):
            build(tmp_path)
        change()
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="missing"):
        build(tmp_path)
    assert "Starting over: the files under `--raw` have changed" in caplog.text
    (tmp_path / "5.png").rename(tmp_path / "raw" / "images" / "5.png")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        out = build(tmp_path, max_side=40)
    assert "Starting over: it used other options" in caplog.text
    fresh = build(tmp_path, max_side=40, name="fresh")
    assert contents(out) == contents(fresh)


def write_toy_rows(raw: Path) -> None:
    rows = toy_rows()
    rows[0]["answer"] = "something else"
    (raw / "rows.json").write_text(json.dumps(rows))


def test_the_same_build_is_not_made_again(tmp_path):
    """Its rows are not read again either, since this may take an hour."""
    reads = []

    class Counting(ToyBuilder):
        def read(self, raw, work):
            reads.append(raw)
            return super().read(raw, work)

    out = build(tmp_path, Counting())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert build(tmp_path, Counting()) == out
    assert len(reads) == 1
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert not (tmp_path / ".out.build").exists()


@pytest.mark.parametrize(
    ("builder", "options", "expected"),
    [
        (ToyBuilder(seed=1), {}, "is another build: seed: 0 before, 1 now"),
        (ToyBuilder(), {"configs": "turns"}, "configs: None before, 'turns' now"),
        (OwnLayout(), {}, "builder: 'ToyBuilder' before, 'OwnLayout' now"),
    ],
)
def test_nothing_is_overwritten(tmp_path, builder, options, expected):
    out = build(tmp_path)
    before = contents(out)
    with pytest.raises(ValueError, match=expected):
        build(tmp_path, builder, **options)
    write_toy_rows(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"is another build: 1 changed \(rows\.json\)"):
        build(tmp_path)
    assert contents(out) == before
    assert not (tmp_path / ".out.build").exists()


def test_a_folder_of_something_else_is_left_alone_and_an_empty_one_is_used(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="exists and is not a build"):
        build(tmp_path)
    (tmp_path / "out" / "thesis.tex").unlink()
    assert (build(tmp_path) / "manifest.json").exists()


def test_two_builds_into_one_folder_are_refused(tmp_path):
    class Nested(ToyBuilder):
        def read(self, raw, work):
            with pytest.raises(ValueError, match="Another process is building into"):
                build(tmp_path, Nested())
            return super().read(raw, work)

    assert (build(tmp_path, Nested()) / "manifest.json").exists()


def spoil_image(raw: Path) -> None:
    path = raw / "images" / "3.png"
    path.write_bytes(path.read_bytes()[:60])


def leak(raw: Path) -> None:
    (raw / "images" / "7.png").write_bytes((raw / "images" / "1.png").read_bytes())


def duplicate(raw: Path) -> None:
    rows = toy_rows()
    (raw / "rows.json").write_text(json.dumps([*rows, rows[0]]))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoil_image, r"images/3\.png, needed by row 'toy-3-0', cannot be read as an image"),
        (leak, r"images/7\.png \(row 'toy-7-0'\) = images/1\.png \(row 'toy-1-0'\)"),
        (duplicate, "the id 'toy-0-0' is not unique"),
        (lambda raw: (raw / "rows.json").unlink(), r"there is no file .*rows\.json"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(tmp_path, spoil, expected):
    write_toy(tmp_path / "raw")
    spoil(tmp_path / "raw")
    with pytest.raises(ValueError, match=expected):
        build(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_build_continues_with_a_repaired_download(tmp_path):
    whole = build(tmp_path, name="whole")
    content = (tmp_path / "raw" / "images" / "3.png").read_bytes()
    spoil_image(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"3\.png"):
        build(tmp_path)
    (tmp_path / "raw" / "images" / "3.png").write_bytes(content)
    assert contents(build(tmp_path)) == contents(whole)


def test_missing_images_are_reported(tmp_path, caplog):
    write_toy(tmp_path / "raw")
    for number in (1, 7):
        (tmp_path / "raw" / "images" / f"{number}.png").unlink()
    with pytest.raises(ValueError, match=r"2 of 8 images are missing.*1\.png, needed by row 'toy-1-0'"):
        build(tmp_path)
    with caplog.at_level(logging.WARNING):
        out = build(tmp_path, allow_missing_images=True)
    assert "2 of 8 images are missing" in caplog.text
    assert manifest_of(out)["missing_images"] == 2
    assert "**2 of 8 images were missing" in (out / "README.md").read_text()
    loaded = load(out, "labels", tmp_path)
    picture = loaded["test"][0]["images"][0]
    assert (picture.size, picture.mode) == ((224, 224), "L")
    again = build(tmp_path, name="again", allow_missing_images=True)
    assert contents(again) == contents(out)


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (None, "converted to 8 bits by the range of values of each image"),
        ("2501,1000", "converted to 8 bits by the window 2501,1000, so that 2001 becomes 0 and 3000 becomes 255"),
    ],
)
def test_deep_images_are_stored_in_8_bits(tmp_path, window, said):
    """Six of the eight images become radiographs: they are counted, and every trainer sees the same pixels."""
    write_toy(tmp_path / "raw")
    for number in range(6):
        radiograph(number, 64).save(tmp_path / "raw" / "images" / f"{number}.png")
    out = build(tmp_path, window=window)
    assert manifest_of(out)["options"]["window"] == window
    line = {"step": "note", "what": "images with more than 8 bits", "count": 6, "why": said}
    assert line in manifest_of(out)["tally"]
    assert all(text in (out / "README.md").read_text() for text in (line["what"], said))
    assert f"6  images with more than 8 bits  ({said})" in summary(ToyBuilder(), manifest_of(out), out)
    rows = load(out, "turns", tmp_path)["client_00"]
    for row in rows:
        number = int(row["id"].split("-")[1])
        expected = in_8_bits(radiograph(number, 64), None if window is None else Window.parse(window))
        assert row["images"][0].tobytes() == expected.tobytes()
        assert row["image_digest"] == image_digest(expected)
    assert not failed(check_federation(read_folder(out)))
    assert build(tmp_path, window=window) == out
    with pytest.raises(ValueError, match=r"is another build: window: .* now. Nothing is overwritten"):
        build(tmp_path, window="1,2")


def test_bytes_of_a_jpeg_are_unchanged(tmp_path):
    """Decoding and encoding again would change them."""
    write_toy(tmp_path / "raw")
    buffer = io.BytesIO()
    PILImage.effect_noise((64, 48), 60).save(buffer, format="JPEG", quality=70)
    (tmp_path / "raw" / "images" / "0.png").write_bytes(buffer.getvalue())
    loaded = load(build(tmp_path), "labels", tmp_path)["client_00"]
    row = loaded.cast_column("images", List(Image(decode=False)))[0]
    assert row["images"][0]["bytes"] == buffer.getvalue()
