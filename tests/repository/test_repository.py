"""The limit on silence: which requests get it, which settings are left alone. tests/engines/hub has a silent Hub."""

import subprocess
import sys
from importlib import import_module

import pytest
from huggingface_hub import close_session, get_session, set_client_factory
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import _http

from fedvlm_hf.repository import Repository
from fedvlm_hf.repository.requests import SILENCE, check_repo_id


httpx = import_module(HTTPError.__module__)  # or httpx2: the one that huggingface_hub is built on

IMPORTS = """
from huggingface_hub.utils import _http
before = _http._GLOBAL_CLIENT_FACTORY
import fedvlm_hf, fedvlm_hf.hub.push, fedvlm_hf.hub.rounds, fedvlm_hf.engines.hub.engine
assert _http._GLOBAL_CLIENT_FACTORY is before
"""


def test_importing_changes_no_setting_of_the_process():
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


@pytest.fixture
def requests_of_a_user(monkeypatch):
    """A user's own client; the requests that it would have sent."""
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=[])

    def make_client() -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(answer), headers={"X-Proxy": "own"}, timeout=None)

    monkeypatch.setattr(_http, "_GLOBAL_CLIENT_FACTORY", make_client)  # put back when the test ends
    set_client_factory(make_client)
    yield sent
    close_session()


def test_a_request_without_a_limit_gets_one_and_a_users_client_is_kept(requests_of_a_user):
    for _ in range(2):  # the second repository finds the limit in place
        Repository("org/name")
        close_session()  # as huggingface_hub does after a connection that failed
    session = get_session()
    session.get("https://hub.test/api", timeout=None)
    session.get("https://hub.test/api", timeout=7.0)
    none, own = (request.extensions["timeout"] for request in requests_of_a_user)
    assert none == dict.fromkeys(("connect", "read", "write", "pool"), SILENCE)
    assert own == dict.fromkeys(("connect", "read", "write", "pool"), 7.0)
    assert all(request.headers["X-Proxy"] == "own" for request in requests_of_a_user)
    assert len(session.event_hooks["request"]) == 1


def test_a_token_is_not_printed():
    assert "hf_secret" not in repr(Repository("org/name", "hf_secret"))


@pytest.mark.parametrize(
    ("name", "reason"), [("run", "Write 'OWNER/run'"), ("a b/c", "cannot be"), ("a/b/c", "cannot be")]
)
def test_a_repository_is_owner_and_name(name, reason):
    with pytest.raises(ValueError, match=f"`repo` {name!r}.*{reason}"):
        check_repo_id("repo", name)
