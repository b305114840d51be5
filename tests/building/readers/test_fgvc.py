"""FGVC-Aircraft's lists and its photographs without their banner."""

import pickle

import pytest
from PIL import Image

from fedvlm_hf.building.images import open_image
from fedvlm_hf.building.readers.fgvc import BannerImage, read
from raw_fgvc import BANNER, HEIGHT, WIDTH, raw_lines, write_raw


@pytest.fixture
def archive(tmp_path):
    return write_raw(tmp_path)


def test_every_line_is_read_in_the_files_order(archive):
    """7 manufacturers with 8 train, 2 val and 3 test images: 56, 14 and 21."""
    photographs = read(archive)
    assert [p.given_split for p in photographs] == ["train"] * 56 + ["validation"] * 14 + ["test"] * 21
    assert [f"{p.image_id} {p.manufacturer}" for p in photographs] == [
        line for lines in raw_lines().values() for line in lines
    ]


def test_ids_keep_their_zeros_and_names_their_spaces(archive):
    """Ids count from 0034309; the ninth line is the first of the second manufacturer."""
    photograph = read(archive)[8]
    assert (photograph.image_id, photograph.manufacturer) == ("0034317", "Cirrus Aircraft")
    assert photograph.image.path == archive / "data" / "images" / "0034317.jpg"


def test_the_folder_data_is_also_accepted(archive):
    assert read(archive / "data") == read(archive)


def test_windows_line_ends_and_empty_lines_are_accepted(archive):
    expected = read(archive)
    for path in (archive / "data").glob("*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert read(archive) == expected


def test_the_images_need_not_exist(archive):
    for path in (archive / "data" / "images").iterdir():
        path.unlink()
    assert len(read(archive)) == 91


def test_the_banner_is_cropped(archive):
    """30 rows of which the last 20 are white: 10 remain, of the image's colour, which JPEG moves by a few levels."""
    image = read(archive)[0].image
    stored = open_image(image.load(), "stored")
    assert stored.size == (WIDTH, HEIGHT - BANNER) == (24, 10)
    original = open_image(image.path.read_bytes(), "original")
    for point in ((0, 0), (12, 5), (23, 6)):
        assert all(abs(a - b) <= 8 for a, b in zip(stored.getpixel(point), original.getpixel(point), strict=True))


def test_only_the_last_twenty_rows_go(tmp_path):
    """A grey step at row 60 of 100: of the 80 rows that remain the step is where it was."""
    image = Image.new("RGB", (32, 100), (40, 40, 40))
    image.paste((200, 200, 200), (0, 60, 32, 100))
    image.save(tmp_path / "a.jpg", quality=95)
    stored = open_image(BannerImage("a", tmp_path / "a.jpg").load(), "stored")
    assert stored.size == (32, 80)
    assert stored.getpixel((16, 50))[0] < 60
    assert stored.getpixel((16, 70))[0] > 180


def test_an_image_goes_to_another_process(archive):
    image = read(archive)[0].image
    assert pickle.loads(pickle.dumps(image)).load() == image.load()


def test_an_image_of_banner_height_is_refused(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "small.jpg")
    with pytest.raises(ValueError, match=r"small.jpg is 20 pixels high, so nothing is left above the banner of 20"):
        BannerImage("small", tmp_path / "small.jpg").load()


def test_an_unreadable_image_is_named_and_a_missing_one_is_missing(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"cut.jpg cannot be read as an image"):
        BannerImage("cut", tmp_path / "cut.jpg").load()
    with pytest.raises(FileNotFoundError):
        BannerImage("none", tmp_path / "none.jpg").load()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("34309 ATR", "is not a 7-digit image id, a space and a manufacturer: '34309 ATR'"),
        ("0099999", "is not a 7-digit image id"),
        ("0099999  ATR", "is not a 7-digit image id"),
        ("0099999 AT", "the manufacturer 'AT' is not in .*manufacturers.txt"),
        ("0034309 ATR", "image 0034309 already occurred in train"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, expected):
    lines = raw_lines()
    lines["val"][2] = line
    archive = write_raw(tmp_path, raw_lines())
    (archive / "data" / "images_manufacturer_val.txt").write_text("\n".join(lines["val"]))
    with pytest.raises(ValueError, match=f"images_manufacturer_val.txt, line 3.*{expected}"):
        read(archive)


def test_a_missing_list_is_named(archive):
    (archive / "data" / "images_manufacturer_test.txt").unlink()
    with pytest.raises(ValueError, match=r"there is no file .*images_manufacturer_test.txt"):
        read(archive)


def test_a_level_too_high_is_named(archive):
    with pytest.raises(ValueError, match=f"one level off: use {archive}"):
        read(archive.parent)
