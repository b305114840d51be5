"""Documents are read as they were written, or refused with the reason."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from fedvlm_hf.engines.hub.protocol import Announcement, Reply, announcement_tag
from fedvlm_hf.exchange.documents import Document, DocumentError, from_json, to_json
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
    (task,) = Announcement.from_bytes(ANNOUNCEMENT.to_bytes()).tasks
    assert list(task.layout["tensors"]) == list(task.expects["tensors"]) == ["w", "b"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", 3, "`name` is 3: Input should be a valid string"),
        ("name", None, "`name` is None: Input should be a valid string"),
        ("size", "1", "`size` is '1': Input should be a valid integer"),
        ("size", 1.0, "`size` is 1.0: Input should be a valid integer"),
        ("size", True, "`size` is True: Input should be a valid integer"),
        ("size", 10**30, "which is beyond 64 bits"),
        ("share", "0.5", "`share` is '0.5': Input should be a valid number"),
        ("share", True, "`share` is True: Input should be a valid number"),
        ("tags", "x", "`tags` is 'x': Input should be a valid array"),
        ("tags", [1], "`tags.0` is 1: Input should be a valid string"),
        ("sums", {"k": 1}, "`sums.k` is 1: Input should be a valid array"),
        ("sums", {"k": ["1"]}, "`sums.k.0` is '1': Input should be a valid integer"),
        ("sums", {"k": [True]}, "`sums.k.0` is True"),
        ("until", 3, "`until` is 3: Input should be a valid string"),
        ("other", 3, "unknown field 'other'"),
        ("protocol", 2, "`protocol` is 2 and not 1: both sides need the same version of fedvlm_hf"),
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
        (b'{"a": NaN}', "the number NaN, which is not finite"),
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
    with pytest.raises(DocumentError, match="the number 1e999, which is not finite"):
        Note.from_bytes(to_json(NOTE.__dict__).replace(b"0.5", b"1e999"))


def test_no_nan_is_written():
    with pytest.raises(ValueError, match="JSON"):
        replace(NOTE, share=float("nan")).to_bytes()


def test_the_same_round_is_the_same_whenever_it_was_announced():
    later = replace(ANNOUNCEMENT, deadline="2030-01-01T00:00:00+00:00", refused={"site_b": "late"})
    assert ANNOUNCEMENT.is_same_round(later)
    assert not ANNOUNCEMENT.is_same_round(replace(later, fixed_sha256="0" * 64))
    assert not ANNOUNCEMENT.is_same_round(replace(later, cohort={"site_a": 0}))


def test_a_round_is_over_at_its_deadline():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    announced = replace(ANNOUNCEMENT, deadline=now.isoformat())
    assert not announced.is_over(now - timedelta(seconds=1))
    assert announced.is_over(now)
    assert not ANNOUNCEMENT.is_over(now)


def test_a_missing_field_is_named():
    content = {name: value for name, value in NOTE.__dict__.items() if name != "tags"}
    with pytest.raises(DocumentError, match="it lacks the field `tags`"):
        Note.from_bytes(to_json(content))


def test_a_number_in_free_form_settings_is_finite_too():
    """`Any` accepts every JSON value, but `1e999` would become infinity."""
    with pytest.raises(DocumentError, match="not finite"):
        from_json(b'{"args": {"rate": [1e999]}}')


def test_a_tag_names_its_round():
    assert announcement_tag(3) == "announced-0003"
