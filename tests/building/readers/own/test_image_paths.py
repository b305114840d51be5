"""The images that the rows of a table name."""

import json
import os

import pytest

from fedvlm_hf.building.readers.own.sources import open_source
from fedvlm_hf.building.work import Work
from raw_custom import write_csv, write_image


def rows_of(path, image=None, image_folder=None, raw=None):
    found = open_source(path, Work(raw=raw or path.parent), image, image_folder)
    return [row for source in found.sources for row in source.rows()]


def image_of(tmp_path, name, raw=None, **options):
    """Return the image of a row in own/raw/tables/a.json."""
    path = tmp_path / "raw" / "tables" / "a.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"image": "1.png", "answer": "a"}, {"image": name, "answer": "a"}]))
    rows = rows_of(tmp_path / "raw", raw=raw, **options)
    return rows[1].image


@pytest.mark.parametrize("place", ["tables", "tables/images", "", "images"])
def test_images_are_next_to_the_table_or_in_the_folder_that_the_user_named(tmp_path, place):
    file = tmp_path / "raw" / place / "deep" / "1.png"
    write_image(file, 1)
    image = image_of(tmp_path, "./deep/1.png")
    assert image.path == file
    assert image.key == file.relative_to(tmp_path / "raw").as_posix()


def test_the_folder_next_to_the_table_comes_first(tmp_path):
    for place in ("", "tables"):
        write_image(tmp_path / "raw" / place / "2.png", 1)
    assert image_of(tmp_path, "2.png").key == "tables/2.png"


def test_image_folder_comes_before_all_others(tmp_path):
    for place in ("raw", "raw/tables", "elsewhere/of"):
        write_image(tmp_path / place / "coco" / "2.png", 1)
    image = image_of(tmp_path, "coco/2.png", image_folder=tmp_path / "elsewhere" / "of")
    assert image.path == tmp_path / "elsewhere" / "of" / "coco" / "2.png"
    assert image.key == "image_folder/coco/2.png"


@pytest.mark.parametrize("name", [r"deep\2.png", r".\deep\2.png", " deep/2.png "])
def test_paths_as_other_programs_write_them(tmp_path, name):
    write_image(tmp_path / "raw" / "deep" / "2.png", 1)
    assert image_of(tmp_path, name).key == "deep/2.png"


def test_an_absolute_path_in_the_folder_is_accepted(tmp_path):
    write_image(tmp_path / "raw" / "deep" / "2.png", 1)
    image = image_of(tmp_path, str(tmp_path / "raw" / "deep" / "2.png"))
    assert (image.key, image.path) == ("deep/2.png", tmp_path / "raw" / "deep" / "2.png")


def test_missing_files_are_left_to_the_build(tmp_path):
    image = image_of(tmp_path, "deep/2.png")
    assert image.path == tmp_path / "raw" / "tables" / "deep" / "2.png"
    with pytest.raises(FileNotFoundError):
        image.load()


def test_places_without_the_image_are_recorded(tmp_path):
    """A second build must notice an image that appears in an earlier place."""
    write_image(tmp_path / "raw" / "images" / "1.png", 1)
    write_csv(tmp_path / "raw" / "a.csv", [{"image": "1.png", "answer": "a"}])
    work = Work(raw=tmp_path / "raw")
    (source,) = open_source(tmp_path / "raw", work).sources
    assert [row.image.key for row in source.rows()] == ["images/1.png"]
    assert work.inputs.images == {"1.png": None}


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("../secret.png", r"'\.\./secret\.png' must be a path without `\.\.`"),
        ("a/../../secret.png", r"must be a path without"),
        (r"..\secret.png", r"must be a path without"),
        ("/secret.png", r"'/secret\.png' is an absolute path outside of .*--image_folder"),
        (r"C:\scans\1.png", r"'C:/scans/1\.png' is an absolute path outside of"),
        ("images", r"'images' is a folder, not an image"),
        (7, "expected is the path of a file, got 7"),
        ({"a": 1}, "expected is the path of a file, got {'a': 1}"),
        ("https://example.org/1.png", "is an address or the image itself"),
        ("data:image/png;base64,iVBORw0KGgo=", "is an address or the image itself"),
        ("a" * 1000, "a' is not the path of a file"),
        ("a\0b", "is not the path of a file"),
        (".", "is not the path of a file"),
        ("\ud800", "is not the path of a file"),
    ],
)
def test_paths_that_are_refused(tmp_path, image, problem):
    write_image(tmp_path / "secret.png", 1)
    write_image(tmp_path / "raw" / "images" / "1.png", 1)
    with pytest.raises(ValueError, match=rf"a\.json, row 1: `image`: .*{problem}") as error:
        image_of(tmp_path, image)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("link", ["2.png", "deep"])
def test_links_that_lead_out_of_the_folder_are_refused(tmp_path, link):
    write_image(tmp_path / "elsewhere" / "2.png", 1)
    (tmp_path / "raw" / "tables").mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere" / ("2.png" if link == "2.png" else ""), tmp_path / "raw" / "tables" / link)
    with pytest.raises(ValueError, match=rf"{link} is a link to .*elsewhere"):
        image_of(tmp_path, "2.png" if link == "2.png" else "deep/2.png")


def test_links_inside_of_the_folder_are_followed(tmp_path):
    write_image(tmp_path / "raw" / "images" / "2.png", 1)
    os.symlink(tmp_path / "raw", tmp_path / "link")
    os.symlink("../images/2.png", tmp_path / "raw" / "images" / "3.png")
    path = tmp_path / "link" / "a.csv"
    write_csv(path, [{"image": "3.png", "answer": "a"}])
    (row,) = rows_of(tmp_path / "link")
    assert row.image.load() == (tmp_path / "raw" / "images" / "2.png").read_bytes()


@pytest.mark.parametrize("column", ["image", "images", "file_name", "img_name", "image_path", "img_path"])
def test_the_usual_names_of_the_image_column(tmp_path, column):
    value = ["1.png"] if column == "images" else "1.png"
    (tmp_path / "a.json").write_text(json.dumps([{"answer": "a", "id": 3, column: value}]))
    (row,) = rows_of(tmp_path / "a.json")
    assert (row.image.key, row.values) == ("1.png", {"answer": "a", "id": 3})


def test_another_column_can_be_named(tmp_path):
    write_csv(tmp_path / "a.csv", [{"image": "x-ray", "scan": "1.png", "answer": "a"}])
    (row,) = rows_of(tmp_path / "a.csv", image="scan")
    assert (row.image.key, row.values) == ("1.png", {"image": "x-ray", "answer": "a"})


@pytest.mark.parametrize("image", [None, "picture"])
def test_without_a_known_name_the_columns_are_listed(tmp_path, image):
    write_csv(tmp_path / "a.csv", [{"scan": "deep/1.JPG", "answer": "a"}])
    option = "`image='picture'` is not a column" if image else "`image` must name the column with the images"
    with pytest.raises(
        ValueError, match=rf"a\.csv: {option}; the columns are \['scan', 'answer'\]\. .*--image scan\."
    ):
        rows_of(tmp_path / "a.csv", image=image)


def test_the_number_of_images_of_a_row(tmp_path):
    values = [["1.png"], ["1.png", "2.png"], [], None, "1.png"]
    (tmp_path / "a.json").write_text(json.dumps([{"images": value, "answer": "a"} for value in values]))
    rows = rows_of(tmp_path / "a.json")
    assert [row.num_images for row in rows] == [1, 2, 0, 0, 1]
    assert [row.image is None for row in rows] == [False, True, True, True, False]
