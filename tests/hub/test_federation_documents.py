"""Documents and tensor files are what was written, or an error that says what is wrong."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
import torch

from fedvlm_hf.hub.federation.documents import Document, DocumentError, from_json, to_json
from fedvlm_hf.hub.federation.protocol import Announcement, Reply, announcement_tag, package_versions
from fedvlm_hf.hub.federation.tensorfile import layout_of, read_state, size_range
from fedvlm_hf.state import save_state
from fedvlm_hf.tensors import TensorDict
from hub_updates import ANNOUNCEMENT, REPLY_OF_A


@dataclass(frozen=True)
class Note(Document):
    name: str
    size: int
    share: float
    tags: list[str]
    sums: dict[str, list[int]]
    until: str | None
    protocol: int = 1


NOTE = Note("a", 1, 0.5, ["x"], {"k": [1, 2]}, None)


def test_what_is_written_is_read():
    assert Note.from_bytes(NOTE.to_bytes()) == NOTE
    assert Announcement.from_bytes(ANNOUNCEMENT.to_bytes()) == ANNOUNCEMENT
    assert Reply.from_bytes(REPLY_OF_A.to_bytes()) == REPLY_OF_A


def test_the_order_of_tensors_survives():
    """ "w" was sent before "b"."""
    layout = Announcement.from_bytes(ANNOUNCEMENT.to_bytes()).layout
    assert list(layout["global"]) == ["w", "b"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", 3, "`name` is 3, which is no str"),
        ("name", None, "`name` is None, which is no str"),
        ("size", "1", "`size` is '1', which is no int"),
        ("size", 1.0, "`size` is 1.0, which is no int"),
        ("size", True, "`size` is True, which is no int"),
        ("size", 10**30, "which is no int"),
        ("share", "0.5", "which is no float"),
        ("tags", "x", "which is no list"),
        ("tags", [1], "which is no list"),
        ("sums", {"k": 1}, "which is no dict"),
        ("sums", {"k": ["1"]}, "which is no dict"),
        ("until", 3, "which is no str | None"),
        ("protocol", 2, "`protocol` is 2 and not 1: the two sides need the same version of fedvlm_hf"),
        ("protocol", None, "`protocol` is None"),
    ],
)
def test_a_field_of_another_type_is_named(field, value, message):
    content = to_json({**NOTE.__dict__, field: value})
    with pytest.raises(DocumentError) as error:
        Note.from_bytes(content)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not UTF-8 JSON"),
        (b'{"a": 1', "cut off"),
        (b'{"a": NaN}', "the number NaN"),
        (b'{"a": -Infinity}', "the number -Infinity"),
        (b'{"a": 1, "a": 2}', "a key twice"),
        (b"[" * 100_000, "cut off"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "cut off"),
    ],
)
def test_json_of_a_stranger_cannot_harm(content, message):
    with pytest.raises(DocumentError, match=message):
        from_json(content)


def test_a_number_too_large_for_a_float_is_refused():
    with pytest.raises(DocumentError, match="`share` is inf"):
        Note.from_bytes(to_json(NOTE.__dict__).replace(b"0.5", b"1e999"))


def test_no_nan_is_written():
    with pytest.raises(ValueError, match="JSON"):
        replace(NOTE, share=float("nan")).to_bytes()


def test_the_same_round_is_the_same_whenever_it_was_announced():
    later = replace(ANNOUNCEMENT, deadline="2030-01-01T00:00:00+00:00", refused={"site_b": "late"})
    assert ANNOUNCEMENT.is_same_round(later)
    assert not ANNOUNCEMENT.is_same_round(replace(later, tensors_sha256="0" * 64))
    assert not ANNOUNCEMENT.is_same_round(replace(later, cohort=["site_a"]))


def test_a_round_is_over_at_its_deadline():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    announced = replace(ANNOUNCEMENT, deadline=now.isoformat())
    assert not announced.is_over(now - timedelta(seconds=1))
    assert announced.is_over(now)
    assert not ANNOUNCEMENT.is_over(now)


def test_versions_are_those_that_are_installed():
    """Without the build, so that a server on a CPU and a client on a GPU agree."""
    assert package_versions()["torch"] == torch.__version__.partition("+")[0]
    assert announcement_tag(3) == "announced-0003"


def test_a_state_is_read_in_the_order_and_to_the_bit(tmp_path):
    """Two groups, an empty one, a scalar, -0.0 and a denormal number."""
    state = {
        "update": TensorDict.from_tensors({"z": torch.tensor([[-0.0, 1e-40]]), "a": torch.tensor(3.5)}),
        "control": TensorDict.from_tensors({"z": torch.arange(6.0).view(3, 2)}),
        "fixed": TensorDict({}),
    }
    save_state(tmp_path / "x.safetensors", state)
    back = read_state(tmp_path / "x.safetensors", layout_of(state))
    assert list(back) == ["update", "control", "fixed"]
    assert {name: group.digest() for name, group in back.items()} == {k: v.digest() for k, v in state.items()}
    least, most = size_range(layout_of(state))
    assert least <= (tmp_path / "x.safetensors").stat().st_size <= most


def test_a_file_of_long_names_is_not_too_large(tmp_path):
    """Names of layers that are nested deep, and with characters that JSON escapes."""
    names = [f'base_model.model.{"layers." * 20}{index}.\u00e9"weight' for index in range(300)]
    state = {"update": TensorDict.from_tensors({name: torch.zeros(1) for name in names})}
    save_state(tmp_path / "x.safetensors", state)
    assert (tmp_path / "x.safetensors").stat().st_size <= size_range(layout_of(state))[1]
    assert list(read_state(tmp_path / "x.safetensors", layout_of(state))["update"]) == names
