"""Requests to the Hub: their errors in plain words and without a token, waits between attempts."""

import random
from types import SimpleNamespace

import pytest
from httpx2 import ConnectError, Request, Response
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from fedvlm_hf.repository.requests import (
    HubMovedError,
    HubOutageError,
    HubRefusedError,
    check_on_hub,
    plain_errors,
    wait_longer,
    without_tokens,
)
from hub_server import Fault, running


def answer(status: int, message: str = "") -> HfHubHTTPError:
    request = Request("POST", "https://hub.test/api", headers={"Authorization": "Bearer hf_secret"})
    return HfHubHTTPError(message or "answered", response=Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer(401), HubRefusedError, "hf auth login"),
        (answer(403), HubRefusedError, "may not write to me/run (403)"),
        (answer(404), HubRefusedError, "There is no me/run"),
        (answer(422, "bad\n  card"), HubRefusedError, "(status 422): bad card"),
        (answer(412), HubMovedError, "me/run"),
        (answer(408), HubOutageError, "status 408"),
        (answer(429), HubOutageError, "status 429"),
        (answer(500), HubOutageError, "status 500"),
        (answer(503), HubOutageError, "status 503"),
        (ConnectError("refused"), HubOutageError, "ConnectError: refused"),
        (TimeoutError(), HubOutageError, "no answer"),
        (ValueError("Illegal header value b'Bearer hf_secret'"), HubRefusedError, "Bearer <token>"),
        (HFValidationError("name"), HubRefusedError, "name"),
        (OfflineModeIsEnabled("offline"), HubRefusedError, "HF_HUB_OFFLINE"),
    ],
)
def test_each_error_is_one_of_three(error, kind, words):
    with pytest.raises(kind) as found, plain_errors("me/run", "hf_secret"):
        raise error
    assert type(found.value) is kind
    assert words in str(found.value)
    assert "hf_secret" not in str(found.value)
    assert found.value.__suppress_context__ or found.value.__cause__ is None


def test_an_upload_that_fails_in_a_thread_says_why():
    """huggingface_hub raises `RuntimeError("Error while uploading ...") from` what happened."""
    with pytest.raises(HubRefusedError, match="403"), plain_errors("me/run"):
        raise RuntimeError("Error while uploading 'a.safetensors' to the Hub.") from answer(403)
    with pytest.raises(HubOutageError, match="RuntimeError"), plain_errors("me/run"):
        raise RuntimeError("Data processing error")


def test_a_token_of_any_form_is_left_out(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "from-the-environment")
    text = "hf_abc123 own from-the-environment, else"
    assert without_tokens(text, "own") == "<token> <token> <token>, else"
    assert without_tokens("nothing", None) == "nothing"


def test_what_is_no_error_of_the_hub_passes():
    with pytest.raises(KeyError), plain_errors("me/run"):
        raise KeyError("x")


def waits(num: int, **kwargs) -> list[float]:
    """Return the first waiting times."""
    wait = wait_longer(**kwargs)
    return [wait(SimpleNamespace(attempt_number=number)) for number in range(1, num + 1)]


def test_waits_double_up_to_the_longest_and_are_up_to_half_shorter():
    """From 1 s and at most 60 s: 1, 2, 4, 8, 16, 32, 60, 60."""
    for bound, seconds in zip([1, 2, 4, 8, 16, 32, 60, 60], waits(8), strict=True):
        assert bound / 2 <= seconds <= bound


def test_waits_differ_and_leave_the_random_state_of_training_alone():
    before = random.getstate()
    assert waits(4) != waits(4)
    assert random.getstate() == before


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub for clients in this process, and an empty cache."""
    with running(tmp_path / "hub", {}) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_repository_is_looked_for_once(hub, kind):
    hub.store.create(f"{kind}s/org/there", False, "org")
    check_on_hub("--name", "org/there", kind)
    with pytest.raises(ValueError, match=r"`--name` 'org/gone' is not a folder in .*There is no repository org/gone"):
        check_on_hub("--name", "org/gone", kind, "v1")
    hub.faults.append(Fault(".", status=503, times=9))
    with pytest.raises(ValueError, match=f"cannot be read from {hub.endpoint}: the Hub answers with status 503"):
        check_on_hub("--name", "org/there", kind)
    place = f"GET /api/{kind}s/org"
    assert hub.log == [f"{place}/there", f"{place}/gone/revision/v1", f"{place}/there"]


def test_what_is_cached_or_cannot_be_a_name_is_not_looked_for(hub, tmp_path, monkeypatch):
    (tmp_path / "cache" / "models--org--cached").mkdir(parents=True)
    check_on_hub("--name", "org/cached", "model")
    with pytest.raises(ValueError, match=r"it cannot be a name on the Hub, such as 'org/name'"):
        check_on_hub("--name", "a/b/c", "model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set"):
        check_on_hub("--name", "org/other", "model")
    assert hub.log == []
