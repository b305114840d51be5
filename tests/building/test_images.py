import datasets
import numpy as np
import pytest
from PIL import ExifTags, Image

from deep_images import MODES, encoded, png_16, radiograph
from fedvlm_hf.building.images import (
    convert_deep,
    encode_grey,
    has_deep_colours,
    image_digest,
    open_image,
    pad_square,
    shrink,
    to_rgb,
)
from fedvlm_hf.data.pixels import Window, in_8_bits


@pytest.mark.parametrize("size", [(40, 20), (20, 40)])
def test_padding_is_black_and_centered(size):
    """40 x 20 white in a 40 x 40 square: rows (or columns) 0-9 and 30-39 black, 10-29 white, and white all along."""
    image = pad_square(Image.new("L", size, 255)).convert("L")
    assert image.size == (40, 40)
    if size[0] < size[1]:
        image = image.transpose(Image.Transpose.ROTATE_90)
    assert [image.getpixel((20, y)) for y in range(40)] == [0] * 10 + [255] * 20 + [0] * 10
    assert {image.getpixel((x, 20)) for x in range(40)} == {255}


def test_large_images_are_reduced_and_small_ones_kept():
    """100 x 50 within 40: the long side becomes 40, the short one 20; 30 x 20 within 40 stays."""
    assert shrink(Image.new("RGB", (100, 50)), 40).size == (40, 20)
    assert shrink(Image.new("RGB", (30, 20)), 40).size == (30, 20)


def test_what_is_not_an_image_is_named():
    with pytest.raises(ValueError, match=r"x\.jpg cannot be read as an image \(Pillow does not recognize its format"):
        open_image(b"not an image", "x.jpg")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM"])
def test_damaged_files_are_described_without_addresses(kind):
    """Cut after each quarter, empty, with zeros in the middle, and with a flipped byte in the header."""
    picture = Image.effect_noise((40, 30), 60)
    whole = encoded(picture, kind)
    damaged = [b"", *(whole[: len(whole) * part // 4] for part in (1, 2, 3)), whole[:10] + b"\0" * len(whole)]
    refused = 0
    for content in [*damaged, bytes([whole[0] ^ 255]) + whole[1:]]:
        try:
            open_image(content, "scans/x.file")
        except ValueError as error:
            assert str(error).startswith("scans/x.file cannot be read as an image (")
            assert " at 0x" not in str(error)
            refused += 1
    assert refused >= 3


def deep(values, dtype=np.uint16):
    return Image.fromarray(np.array([values], dtype=dtype))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_images_are_scaled(dtype):
    """100 to 4,000 becomes 0 to 255: 2,050 is in the middle, (2050 - 100) / 3900 x 255 = 127.5, rounded to 128."""
    image = to_rgb(deep([100, 4000, 2050], dtype))
    assert [image.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (255, 255, 255), (128, 128, 128)]
    assert to_rgb(deep([700, 700], dtype)).getpixel((1, 0)) == (0, 0, 0)


def test_different_deep_images_have_different_digests():
    """Both would be white in 8 bits, where values above 255 are clipped."""
    assert deep([300, 900]).convert("RGB") == deep([900, 300]).convert("RGB")
    assert image_digest(deep([300, 900])) != image_digest(deep([900, 300]))


def test_a_digest_is_of_pixels_and_not_of_files():
    image = Image.new("L", (6, 4), 90)
    assert image_digest(image) == image_digest(image.convert("RGB")) == image_digest(image.convert("P"))
    assert image_digest(image) != image_digest(Image.new("L", (4, 6), 90))
    assert image_digest(image) != image_digest(Image.new("L", (6, 4), 91))


@pytest.mark.parametrize("mode", MODES)
def test_the_digest_of_a_deep_image_is_that_of_its_converted_copy(mode):
    image = radiograph(mode=mode)
    assert image_digest(image) == image_digest(in_8_bits(image)) == image_digest(radiograph())
    assert image_digest(open_image(encode_grey(in_8_bits(image)), "x")) == image_digest(image)


def test_digests_of_8_bit_images_stay_as_they_were():
    """Datasets that exist name them: the hash of "2x1" and the RGB bytes."""
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    assert image_digest(image) == "163413dca9689721b30ff48e87e3fa37"


def test_an_image_that_cannot_be_converted_is_named():
    image = Image.fromarray(np.full((2, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"x\.tif cannot be converted to 8 bits: no value of the image is"):
        convert_deep(image, "x.tif", Window(40, 400))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_16_bits_are_read_with_their_upper_8(channels):
    """By Pillow, which does not say so: 4,095 becomes 15, and 255 becomes 0."""
    content = png_16(np.full((3, 2, channels), 4095))
    picture = open_image(content, "x")
    assert has_deep_colours(content)
    assert picture.mode == ("RGB" if channels == 3 else "RGBA")
    assert set(picture.convert("RGB").tobytes()) == {15}
    assert set(open_image(png_16(np.full((3, 2, channels), 255)), "x").convert("RGB").tobytes()) == {0}


def test_other_images_have_no_deep_colours():
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16"):
        assert not has_deep_colours(encoded(Image.new(mode, (17, 16)), "PNG"))
    for mode in ("L", "RGB", "CMYK", *MODES):
        assert not has_deep_colours(encoded(Image.new(mode, (17, 16)), "TIFF"))
        assert not has_deep_colours(encoded(Image.new(mode, (16, 16)), "TIFF", compression="tiff_deflate"))
    assert not has_deep_colours(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    assert not has_deep_colours(png_16(np.full((3, 2, 1), 4095)))


def test_an_image_is_rotated_as_datasets_does(tmp_path):
    """Orientation 6: the file's left column is the top row."""
    image = Image.new("RGB", (3, 2))
    image.putpixel((0, 1), (255, 0, 0))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "x.png", exif=exif)
    opened = open_image((tmp_path / "x.png").read_bytes(), "x.png")
    assert opened.size == (2, 3)
    assert opened.getpixel((0, 0)) == (255, 0, 0)
    ours = datasets.Image().decode_example({"path": str(tmp_path / "x.png"), "bytes": None})
    assert image_digest(opened) == image_digest(ours)


def test_a_changed_image_is_a_copy():
    image = Image.new("RGB", (8, 8))
    assert shrink(image, 4).size == (4, 4)
    assert image.size == (8, 8)
