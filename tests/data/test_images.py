import io

import pytest
from PIL import Image

from fedvlm_hf.data.images import square_jpeg


def stored(path, max_side):
    return Image.open(io.BytesIO(square_jpeg(path, max_side)))


@pytest.mark.parametrize("size", [(40, 20), (20, 40)])
def test_padding_is_black_and_centered(tmp_path, size):
    """40 x 20 white in a 40 x 40 square: rows (or columns) 0-9 and 30-39 black, 10-29 white, give or take JPEG."""
    Image.new("L", size, 255).save(tmp_path / "x.png")
    image = stored(tmp_path / "x.png", 64).convert("L")
    assert image.size == (40, 40)
    if size[0] < size[1]:
        image = image.transpose(Image.Transpose.ROTATE_90)
    column = [image.getpixel((20, y)) for y in range(40)]
    assert max(column[:8] + column[32:]) < 10
    assert min(column[12:28]) > 245


def test_large_images_are_reduced_and_small_ones_kept(tmp_path):
    """100 x 50 within 40: the long side becomes 40; 30 x 20 within 40 stays 30 wide."""
    Image.new("RGB", (100, 50)).save(tmp_path / "large.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    assert stored(tmp_path / "large.png", 40).size == (40, 40)
    assert stored(tmp_path / "small.png", 40).size == (30, 30)


def test_what_is_not_an_image_is_named(tmp_path):
    (tmp_path / "x.jpg").write_text("not an image")
    with pytest.raises(ValueError, match=r"x\.jpg cannot be read as an image"):
        square_jpeg(tmp_path / "x.jpg", 64)
