"""What a build read, and the changes that a second build notices."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedvlm_hf.building.builders.custom import Custom
from fedvlm_hf.building.checking.check import check_federation
from fedvlm_hf.building.checking.findings import failed
from fedvlm_hf.building.dataset import read_folder
from fedvlm_hf.building.inputs import Inputs, Listing, changes, option_changes
from fedvlm_hf.building.work import Work
from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.options import WriteOptions
from toy_builder import draw


def test_changes_by_hand():
    """One of each kind. A file that is only listed has no content that could change."""
    listing = Listing(".", "*", ())
    before = Inputs(
        {"a.csv": "1", "b.csv": "2"}, {"x.png": "3", "y.png": None}, {listing: ["a.csv", "old/"]}, {"v": "4"}
    )
    now = Inputs({"a.csv": "1", "b.csv": "9"}, {"x.png": None, "y.png": "5"}, {listing: ["a.csv", "new/"]}, {"v": "6"})
    found = changes(before, now)
    assert (found.added, found.changed, found.removed) == (("new/", "y.png"), ("b.csv", "v"), ("old/", "x.png"))
    assert str(found) == "2 added (new/, y.png); 2 changed (b.csv, v); 2 removed (old/, x.png)"
    assert not changes(before, before)


def test_only_the_first_names_are_shown():
    found = changes(Inputs(), Inputs({f"{place}.csv": "1" for place in range(1200)}))
    assert str(found).startswith("1,200 added (0.csv, 1.csv, 10.csv, 100.csv, 1000.csv and 1,195 more)")


def test_inputs_are_the_same_in_any_order():
    files = {"a": "1", "b": "2"}
    one = Inputs(files, listings={Listing(".", "*", ()): ["a"], Listing("x", "*/*", (".png",)): []})
    other = Inputs(dict(reversed(files.items())), listings=dict(reversed(one.listings.items())))
    assert one.as_json() == other.as_json()
    assert Inputs.from_json(one.as_json()) == other
    assert one.digest == other.digest != Inputs(files).digest


@pytest.mark.parametrize("text", ["[]", "{}", '{"files": {}, "images": {}, "listings": [1], "values": {}}', "{"])
def test_a_damaged_record_is_refused(text):
    with pytest.raises(ValueError):
        Inputs.from_json(text)


def test_differing_options_are_named():
    before = {"builder": "custom", "options": {"seed": 0, "max_side": None}, "num_rows": 3}
    plan = {"builder": "custom", "options": {"seed": 1, "max_side": None}}
    assert option_changes(before, plan) == ["seed: 0 before, 1 now"]
    assert option_changes(before, {**before, "builder": "other"}) == ["builder: 'custom' before, 'other' now"]


def test_work_records_names_and_missing_files(tmp_path):
    for name in ("a/1.png", "a/2.txt", "a/.hidden.png", "b.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    work = Work(raw=tmp_path)
    assert work.listing(tmp_path) == [tmp_path / "a", tmp_path / "b.csv"]
    assert work.listing(tmp_path, "**/*", (".png",)) == [tmp_path / "a" / "1.png"]
    assert work.listing(tmp_path / "nothing") == []
    work.source(tmp_path / "b.csv")
    work.missing(tmp_path / "a" / "3.png")
    assert not changes(work.inputs, work.inputs.read_again(work))
    (tmp_path / "a" / "3.png").touch()
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "c.csv").touch()
    found = changes(work.inputs, work.inputs.read_again(work))
    assert found.added == ("a/3.png", "nothing/", "nothing/c.csv")


# Random edits of own data -----------------------------------------------------------------------------------------


def write_own(raw: Path) -> Path:
    """Write a table with images and one that does not exist yet, images by class, and a folder with metadata."""
    number = 0
    for folder in ("images", "site_b/cat", "site_b/dog", "site_c"):
        (raw / folder).mkdir(parents=True)
        for place in range(4):
            number += 1
            draw(number).save(raw / folder / f"{place}.png")
    rows = "".join(f"images/{place}.png,Is it {place}?,yes\n" for place in range(4))
    (raw / "site_a.csv").write_text(f"image,question,answer\n{rows}")
    rows = "".join(f"{place}.png,caption {place}\n" for place in range(4))
    (raw / "site_c" / "metadata.csv").write_text(f"file_name,answer\n{rows}")
    return raw


FILES = [
    "site_a.csv", "images/0.png", "images/3.png", "site_b/cat/1.png", "site_b/dog/2.png", "site_c/metadata.csv",
    "site_c/2.png",
]  # fmt: skip


def same_size_and_time(path: Path) -> None:
    """Change one byte of the content, and nothing that `stat` shows."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def rename(path: Path) -> None:
    path.rename(path.with_name(f"renamed{path.suffix}"))


EDITS = {
    "remove": Path.unlink,
    "append": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "same size and time": same_size_and_time,
    "rename": rename,
    "become a folder": lambda path: (path.unlink(), path.mkdir()),
}
ADDITIONS = {
    "table": lambda raw: (raw / "site_d.csv").write_text("image,question,answer\nimages/0.png,Why?,so\n"),
    "class": lambda raw: ((raw / "site_b/fox").mkdir(), draw(50).save(raw / "site_b/fox/0.png")),
    "image of a class": lambda raw: draw(51).save(raw / "site_b/cat/9.png"),
    "client": lambda raw: ((raw / "site_e/cat").mkdir(parents=True), draw(52).save(raw / "site_e/cat/0.png")),
    "metadata": lambda raw: (raw / "site_b/metadata.csv").write_text("file_name,answer\ncat/0.png,a cat\n"),
    "held-out rows": lambda raw: (raw / "test.csv").write_text("image,question,answer\nimages/0.png,Why?,so\n"),
    "image that comes first": lambda raw: (
        (raw / "site_c/images").mkdir(), draw(53).save(raw / "site_c/images/0.png")
    ),
}  # fmt: skip
OPTIONS = WriteOptions(num_workers=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build whose table of site_c also names an image of another folder: `site_c/images/0.png` would come first."""
    folder = tmp_path_factory.mktemp("built")
    raw = write_own(folder / "raw")
    with (raw / "site_c" / "metadata.csv").open("a") as file:
        file.write("images/0.png,from elsewhere\n")
    build_dataset(Custom(), raw, folder / "out", OPTIONS)
    return folder


def test_a_real_build_passes_all_checks(built):
    checks = check_federation(read_folder(built / "out"))
    assert failed(checks) == []
    assert not any(check.skipped for check in checks)


def second(folder: Path, **options) -> str:
    """Build again, and return what was said about changes."""
    said: list[str] = []
    build_dataset(Custom(), folder / "raw", folder / "out", OPTIONS, notify=said.append, **options)
    return " ".join(said)


edits = st.one_of(
    st.tuples(st.sampled_from(sorted(EDITS)), st.sampled_from(FILES)),
    st.tuples(st.just("add"), st.sampled_from(sorted(ADDITIONS))),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(edits, min_size=1, max_size=3, unique=True))
def test_every_edit_is_noticed(built, some):
    with tempfile.TemporaryDirectory() as name:
        folder = shutil.copytree(built, Path(name, "copy"))
        assert "Nothing has changed" in second(folder)
        done = 0
        for edit, where in some:
            path = folder / "raw" / where
            if edit == "add":
                ADDITIONS[where](folder / "raw")
            elif path.is_file():
                EDITS[edit](path)
            else:
                continue  # an earlier edit took the file away
            done += 1
        before = {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()}
        with pytest.raises(ValueError, match=r"is another build: .*(added|changed|removed).*`--rebuild`"):
            second(folder)
        assert {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()} == before


def test_a_copy_of_the_download_is_the_same_download(built, tmp_path):
    """Times differ and names of folders above it too; nothing is noticed."""
    folder = shutil.copytree(built, tmp_path / "copy", copy_function=shutil.copyfile)
    for path in (folder / "raw").rglob("*"):
        os.utime(path, (1, 1))
    (folder / "raw" / ".DS_Store").touch()
    assert "Nothing has changed" in second(folder)


def test_a_rebuild_names_what_changed_and_equals_a_fresh_build(built, tmp_path):
    folder = shutil.copytree(built, tmp_path / "copy")
    raw = folder / "raw"
    ADDITIONS["class"](raw)
    same_size_and_time(raw / "site_a.csv")
    (raw / "site_b/dog/3.png").unlink()
    said = second(folder, rebuild=True)
    assert "was built again" in said
    assert "2 added (site_b/fox/, site_b/fox/0.png); 1 changed (site_a.csv); 1 removed (site_b/dog/3.png)" in said
    assert "Nothing has changed" in second(folder, rebuild=True)
    fresh = build_dataset(Custom(), raw, tmp_path / "fresh", OPTIONS)
    assert contents(folder / "out") == contents(fresh)
    assert sorted(path.name for path in folder.iterdir()) == ["out", "raw"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_path_of_this_machine_is_recorded(built):
    """`inputs.json` has names in the download, the manifest only a digest of them."""
    out = built / "out"
    assert str(built) not in (out / "inputs.json").read_text() + (out / "manifest.json").read_text()
    recorded = Inputs.from_json((out / "inputs.json").read_text())
    assert json.loads((out / "manifest.json").read_text())["inputs"] == recorded.digest
    assert set(FILES) <= set(recorded.state())
