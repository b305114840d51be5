"""Images with more than 8 bits: one conversion, by their own range or by a window."""

import io

import numpy as np
import pytest
from datasets import Dataset, Features, Image, List
from PIL import Image as PILImage

from deep_images import MODES, encoded, radiograph
from fedvlm_hf.data.pixels import Window, decoding_problem, in_8_bits, is_deep, row_in_8_bits, scaled


def grey(values, dtype=np.uint16, **options):
    """The converted pixels of a picture of one row."""
    return np.asarray(in_8_bits(PILImage.fromarray(np.array([values], dtype)), **options))[0].tolist()


@pytest.mark.parametrize("dtype", MODES.values())
def test_the_own_range_becomes_0_to_255(dtype):
    """(v - 100) / 3900 x 255: 2,050 is in the middle, 127.5, which is rounded to the even 128; 130 becomes 1.96."""
    assert grey([100, 4000, 2050, 130], dtype) == [0, 255, 128, 2]


@pytest.mark.parametrize("dtype", MODES.values())
def test_a_single_value_becomes_black(dtype):
    assert grey([700, 700, 700], dtype) == [0, 0, 0]


def test_negative_values_and_fractions_have_a_range_too():
    assert grey([-1000, 0, 1000, 500], np.int32) == [0, 128, 255, 191]
    assert grey([0.0, 0.25, 1.0], np.float32) == [0, 64, 255]
    assert grey([-(2**31), 2**31 - 1, 0], np.int32) == [0, 255, 128]


def test_values_that_are_no_numbers_do_not_count():
    """The range is that of 1 to 3. NaN is black, such as the surroundings of a scan; infinities are outside."""
    assert grey([np.nan, 1, 2, 3, np.inf, -np.inf], np.float32) == [0, 0, 128, 255, 255, 0]
    assert grey([np.nan, 7, np.inf], np.float32) == [0, 0, 255]
    for options in ({}, {"window": Window(1, 2)}):
        with pytest.raises(ValueError, match="no value of the image is a finite number"):
            grey([np.nan, np.inf], np.float32, **options)


@pytest.mark.parametrize(
    ("window", "values", "expected"),
    [
        # The example of DICOM PS3.3 C.11.2.1.2.1 for 8-bit output: 0 up to 0, 255 above 4095, x * 255 / 4095 between
        (Window(2048, 4096), [0, 1, 2047, 2048, 4095, 5000], [0, 0, 127, 128, 255, 255]),
        # 0 up to 0 - 0.5 - 49.5 = -50, 255 above 49: (x + 0.5) / 99 + 0.5, so 0 -> 0.50505 x 255 = 128.79
        (Window(0, 100), [-1000, -50, -49, 0, 48, 49, 1000], [0, 0, 3, 129, 252, 255, 255]),
        # Width 1 is a threshold at center - 0.5
        (Window(2048, 1), [2047, 2048], [0, 255]),
        # Lung: 0 up to -600 - 0.5 - 749.5 = -1350, 255 above 149; -600 -> (0.5 / 1499 + 0.5) x 255 = 127.585
        (Window(-600, 1500), [-2000, -1350, -600, 149, 3000], [0, 0, 128, 255, 255]),
    ],
)
def test_a_window_is_dicoms_linear_function(window, values, expected):
    def formula(x):
        center, width = window
        if x <= center - 0.5 - (width - 1) / 2:
            return 0
        if x > center - 0.5 + (width - 1) / 2:
            return 255
        return round(((x - (center - 0.5)) / (width - 1) + 0.5) * 255)

    assert grey(values, np.int32, window=window) == expected == [formula(x) for x in values]
    if min(values) >= 0:
        assert grey(values, np.uint16, window=window) == expected


def test_the_own_range_is_a_window():
    """Center (low + high + 1) / 2 and width high - low + 1 are the range of 300 to 4,095."""
    image = radiograph()
    low, high = image.getextrema()
    assert in_8_bits(image, Window((low + high + 1) / 2, high - low + 1)) == in_8_bits(image)


@pytest.mark.parametrize(("text", "window"), [("40,400", (40, 400)), (" -600, 1500.5", (-600, 1500.5))])
def test_a_window_is_read(text, window):
    assert Window.parse(text) == window


@pytest.mark.parametrize("text", ["", "40", "40,400,1", "a,b", "40 400"])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(ValueError, match=rf"`window` must be two numbers, CENTER,WIDTH.*, got {text!r}"):
        Window.parse(text)


@pytest.mark.parametrize("text", ["40,0", "40,0.5", "40,-400", "nan,400", "40,inf", "inf,1"])
def test_a_window_without_a_width_is_refused(text):
    with pytest.raises(ValueError, match=f"`window` must have a finite center and a width of 1 or more, got '{text}'"):
        Window.parse(text)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_images_of_8_bits_are_not_touched(mode):
    image = PILImage.new(mode, (3, 2))
    assert in_8_bits(image, Window(40, 400)) is image
    row = {"images": [image], "prompt": []}
    assert row_in_8_bits(row) is row


def test_8_bit_arrays_that_datasets_stores_with_32_bits_are_not_touched():
    """`datasets` makes mode I of greyscale arrays in lists, whatever their type."""
    array = np.array([[17, 200, 90]], np.uint8)
    rows = Dataset.from_list([{"images": [array]}], features=Features({"images": List(Image())}))
    image = rows[0]["images"][0]
    assert image.mode == "I"
    assert not is_deep(image)
    assert in_8_bits(image) is image
    assert np.asarray(image.convert("RGB"))[0, :, 0].tolist() == [17, 200, 90]
    assert is_deep(PILImage.fromarray(np.array([[17, 256]], np.int32)))
    assert is_deep(PILImage.fromarray(np.array([[17, -1]], np.int32)))


def test_only_the_images_of_a_row_are_changed():
    deep, plain = radiograph(), PILImage.new("RGB", (3, 2), "red")
    row = {"images": [deep, plain], "prompt": [{"role": "user", "content": "?"}]}
    changed = row_in_8_bits(row)
    assert [image.mode for image in changed["images"]] == ["L", "RGB"]
    assert changed["images"][1] is plain
    assert changed["prompt"] is row["prompt"]
    assert row["images"][0] is deep
    for imageless in ({"images": []}, {"images": None}, {"prompt": []}):
        assert row_in_8_bits(imageless) is imageless


@pytest.mark.parametrize("mode", MODES)
def test_what_datasets_decodes_is_converted_in_every_mode(mode):
    """The same 12-bit values in each mode give the same picture, with every grey from 0 to 255 in reach."""
    content = encoded(radiograph(3, 32, mode))
    decoded = Image().decode_example({"bytes": content, "path": None})
    assert np.asarray(decoded.convert("RGB")).min() == 255  # what training saw
    assert in_8_bits(decoded) == in_8_bits(radiograph(3, 32))
    assert in_8_bits(decoded).getextrema() == (0, 255)
    assert len(set(np.asarray(in_8_bits(decoded)).ravel())) > 200


def test_scaling_is_the_same_for_16_bits_looked_up():
    values = np.arange(2**16).reshape(256, 256)
    image = PILImage.fromarray(values.astype(np.uint16))
    window = Window(1234, 777)
    assert (np.asarray(in_8_bits(image, window)) == scaled(values, *window.limits)).all()


def test_problems_have_no_addresses():
    with pytest.raises(PILImage.UnidentifiedImageError, match="at 0x") as caught:
        PILImage.open(io.BytesIO(b"no image"))
    assert decoding_problem(caught.value) == "Pillow does not recognize its format"
    assert decoding_problem(OSError("in <_io.BytesIO object at 0x7f12ab>: cut")) == "OSError: in: cut"
    assert decoding_problem(OSError("3 < 4 > 2")) == "OSError: 3 < 4 > 2"
