"""Tensor files of somebody else: read to the bit, or refused with the reason."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fedvlm_hf.exchange.tensor_files import (
    Entry,
    TensorFileError,
    layout_of,
    read_header,
    read_layout,
    read_tensors,
    save_state,
    size_range,
)
from fedvlm_hf.tensors import TensorDict


def test_a_state_is_read_in_the_order_and_to_the_bit(tmp_path):
    """Two groups, an empty one, a scalar, -0.0 and a denormal number."""
    state = {
        "update": TensorDict.from_tensors({"z": torch.tensor([[-0.0, 1e-40]]), "a": torch.tensor(3.5)}),
        "control": TensorDict.from_tensors({"z": torch.arange(6.0).view(3, 2)}),
        "fixed": TensorDict({}),
    }
    save_state(tmp_path / "x.safetensors", state)
    back = read_tensors(tmp_path / "x.safetensors", layout_of(state))
    assert list(back) == ["update", "control", "fixed"]
    for group, tensors in state.items():
        assert TensorDict.from_tensors(back[group]).digest() == tensors.digest()
    least, most = size_range(layout_of(state))
    assert least <= (tmp_path / "x.safetensors").stat().st_size <= most


def test_a_file_of_long_names_is_not_too_large(tmp_path):
    """Names of layers that are nested deep, and with characters that JSON escapes."""
    names = [f'base_model.model.{"layers." * 20}{index}.\u00e9"weight' for index in range(300)]
    state = {"update": TensorDict.from_tensors({name: torch.zeros(1) for name in names})}
    save_state(tmp_path / "x.safetensors", state)
    assert (tmp_path / "x.safetensors").stat().st_size <= size_range(layout_of(state))[1]
    assert list(read_tensors(tmp_path / "x.safetensors", layout_of(state))["update"]) == names


def test_tensors_keep_their_dtype(tmp_path):
    """As after quantization: int8 values with fp32 scales in another group."""
    state = {
        "update": {"q": torch.tensor([-128, 127], dtype=torch.int8), "h": torch.ones(2, 1, dtype=torch.bfloat16)},
        "scales": {"q": torch.tensor(0.5)},
    }
    save_state(tmp_path / "x.safetensors", state)
    layout = layout_of(state)
    assert layout["update"] == {"q": Entry("I8", [2]), "h": Entry("BF16", [2, 1])}
    assert read_layout(tmp_path / "x.safetensors", 10**6) == layout
    back = read_tensors(tmp_path / "x.safetensors", layout)
    assert back["update"]["q"].dtype == torch.int8
    assert back["update"]["q"].tolist() == [-128, 127]
    least, most = size_range(layout)
    assert least == 8 + 2 + 4 + 4
    assert least <= (tmp_path / "x.safetensors").stat().st_size <= most


def rewrite(
    path: Path, change: Callable[[dict], str | None], data: Callable[[bytes], bytes] = lambda data: data
) -> None:
    """Change the header of a file, and its data."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    text = change(header)
    new = (json.dumps(header) if text is None else text).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + data(content[8 + length :]))


def twice(header: dict) -> str:
    text = json.dumps(header)
    return text[:-1] + ', "b": ' + json.dumps(header["b"]) + "}"


@pytest.mark.parametrize(
    ("change", "data", "reason"),
    [
        (twice, lambda d: d, "has a key twice"),
        (lambda h: h["w"].update(data_offsets=[0, 16]), lambda d: d, "offset"),
        (lambda h: h["w"].update(data_offsets=[20, 36]), lambda d: d + bytes(8), "offset"),
        (lambda h: None, lambda d: d[:-1], "not fully covered"),
        (lambda h: None, lambda d: d + b"x", "not fully covered"),
        (lambda h: h["w"].update(shape=[2**40, 2**40]), lambda d: d, "overflow"),
        (lambda h: h["w"].update(shape=[-2, -2]), lambda d: d, "invalid value"),
        (lambda h: h["w"].update(dtype="Z9"), lambda d: d, "unknown variant"),
        (lambda h: '{"a":' + "[" * 100_000, lambda d: d, "recursion"),
        (lambda h: "[1]", lambda d: d, "invalid type"),
    ],
    ids=["twice", "overlap", "gap", "cut", "longer", "huge", "negative", "no dtype", "deep", "list"],
)
def test_a_file_that_is_not_safetensors_is_refused(tmp_path, change, data, reason):
    """Most of these safetensors itself refuses; a name that is there twice it does not."""
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.zeros(2, 2), "b": torch.zeros(3)}, path, {"layout": "a:w"})
    rewrite(path, change, data)
    with pytest.raises(TensorFileError, match=reason):
        read_header(path, 10**6)


def test_the_header_cannot_be_longer_than_the_file(tmp_path):
    path = tmp_path / "x.safetensors"
    for content in (b"", b"\0" * 7, struct.pack("<Q", 2**62) + b"{}", struct.pack("<Q", 100) + b"{}"):
        path.write_bytes(content)
        with pytest.raises(TensorFileError, match="is cut off or not a safetensors file"):
            read_header(path, 10**6)


def test_a_large_file_is_refused_before_it_is_opened(tmp_path):
    """A sparse file of 1 TB, which nothing may map or read."""
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(TensorFileError, match="1,000,000 is the most"):
        read_header(path, 10**6)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, "does not say the order"),
        ({"layout": "w"}, "does not say the order"),
        ({"layout": "a:w"}, "leaves out"),
        ({"layout": "a:w\na:b\na:c"}, "lacks the tensor 'a:c'"),
        ({"layout": "a:w\na:b\na:w"}, "lacks the tensor 'a:w'"),
    ],
)
def test_the_metadata_names_every_tensor_once(tmp_path, metadata, reason):
    path = tmp_path / "x.safetensors"
    save_file({"a:w": torch.zeros(2, 2), "a:b": torch.zeros(3)}, path, metadata)
    with pytest.raises(TensorFileError, match=reason):
        read_layout(path, 10**6)
