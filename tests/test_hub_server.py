"""The loopback Hub answers the real clients; each child process prints what it saw as JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hub_server import Fault, running


USERS = {"hf_alice": ("alice", "write"), "hf_bob": ("bob", "read")}

PRELUDE = """
import io, json, sys
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
api = HfApi()

def add(path, content, **kwargs):
    operations = [CommitOperationAdd(path, io.BytesIO(content.encode()))]
    return api.create_commit(REPO, operations, commit_message=path, **kwargs)

def read(path, revision="main"):
    return open(hf_hub_download(REPO, path, revision=revision)).read()

def status(call):
    try:
        call()
    except HfHubHTTPError as error:
        return error.response.status_code

def show(**seen):
    print(json.dumps(seen))

REPO = "alice/run"
"""


def child(hub, token: str, home: Path, code: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], env=hub.environment(token, home), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def hub(tmp_path):
    with running(tmp_path / "hub", USERS) as hub:
        yield hub


def test_commits_tags_branches_and_the_lock(hub, tmp_path):
    seen = child(
        hub,
        "hf_alice",
        tmp_path / "alice",
        """
api.create_repo(REPO, private=True)
again = status(lambda: api.create_repo(REPO))
api.create_repo(REPO, exist_ok=True)
head = api.repo_info(REPO).sha
first = add("a.txt", "one", parent_commit=head)
api.create_tag(REPO, tag="round-0001")
api.create_branch(REPO, branch="clients/client_00")
add("big.safetensors", "large", revision="clients/client_00")
add("a.txt", "two")
late = status(lambda: add("a.txt", "three", parent_commit=head))
missing = status(lambda: hf_hub_download(REPO, "nothing.txt"))
refs = api.list_repo_refs(REPO)
show(again=again, late=late, missing=missing, tagged=read("a.txt", "round-0001"), now=read("a.txt"),
     pinned=read("a.txt", first.oid), large=read("big.safetensors", "clients/client_00"),
     branches=sorted(ref.name for ref in refs.branches), tags=[ref.name for ref in refs.tags],
     files=api.list_repo_files(REPO), commits=len(api.list_repo_commits(REPO)), me=api.whoami()["name"],
     tree=sorted(item.path for item in api.list_repo_tree(REPO, revision="clients/client_00")))
""",
    )
    assert seen == {
        "again": 409, "late": 412, "missing": 404, "tagged": "one", "now": "two", "pinned": "one", "large": "large",
        "branches": ["clients/client_00", "main"], "tags": ["round-0001"], "files": ["a.txt"], "commits": 3,
        "me": "alice", "tree": ["a.txt", "big.safetensors"],
    }  # fmt: skip


def test_roles_pull_requests_and_a_restart(tmp_path):
    """A reader may open a pull request and not commit; what was committed outlives the server."""
    with running(tmp_path / "hub", USERS) as hub:
        child(hub, "hf_alice", tmp_path / "alice", 'api.create_repo(REPO, private=True); add("a.txt", "one"); show()')
        code = """
direct = status(lambda: add("a.txt", "bob's"))
pull = add("b.txt", "bob's", create_pr=True)
more = add("c.txt", "too", revision=pull.pr_revision)
show(direct=direct, pull=pull.pr_num, theirs=read("b.txt", pull.pr_revision), also=read("c.txt", pull.pr_revision))
"""
        assert child(hub, "hf_bob", tmp_path / "bob", code) == {
            "direct": 403, "pull": 1, "theirs": "bob's", "also": "too",
        }  # fmt: skip
        assert child(hub, "", tmp_path / "nobody", "show(status=status(lambda: api.repo_info(REPO)))") == {
            "status": 401
        }
    with running(tmp_path / "hub", USERS) as hub:
        code = """
pulls = [(pull.num, pull.author, pull.status) for pull in api.get_repo_discussions(REPO)]
api.merge_pull_request(REPO, 1)
show(pulls=pulls, merged=sorted(api.list_repo_files(REPO)))
"""
        assert child(hub, "hf_alice", tmp_path / "alice", code) == {
            "pulls": [[1, "bob", "open"]], "merged": ["a.txt", "b.txt", "c.txt"],
        }  # fmt: skip


def test_faults_strike_as_often_as_they_are_told_to(hub, tmp_path):
    """The client of huggingface_hub retries a 503 by itself and meets the others."""
    child(hub, "hf_alice", tmp_path / "alice", 'api.create_repo(REPO); add("a.bin", "x" * 1000); show()')
    hub.faults += [
        Fault(r"POST .*/preupload/", status=503, times=2),
        Fault(r"GET .*/resolve/main/a\.bin", truncate=10),
        Fault(r"POST .*/tag/", cut=True),
    ]
    code = """
add("b.txt", "after two failures")
from huggingface_hub.errors import HTTPError
try:
    api.create_tag(REPO, tag="x")
    cut = False
except HTTPError:
    cut = True
show(b=read("b.txt"), whole=len(read("a.bin")), cut=cut)
"""
    assert child(hub, "hf_alice", tmp_path / "other", code) == {"b": "after two failures", "whole": 1000, "cut": True}
    assert [fault.times for fault in hub.faults] == [0, 0, 0]


def test_a_dataset_of_two_configurations_goes_up_and_comes_back(hub, tmp_path):
    code = """
import datasets
from PIL import Image
REPO = "alice/fed"
rows = datasets.Dataset.from_dict(
    {"id": ["a", "b"], "images": [[Image.new("RGB", (4, 3), "red")], [Image.new("RGB", (4, 3), "blue")]]},
    features=datasets.Features({"id": datasets.Value("string"), "images": datasets.List(datasets.Image())}))
for name in ("noniid", "iid"):
    splits = {"client_00": rows, "test": rows.select([1 if name == "iid" else 0])}
    datasets.DatasetDict(splits).push_to_hub(REPO, name, set_default=name == "noniid", private=True)
back = {name: datasets.load_dataset(REPO, name) for name in ("noniid", "iid")}
show(splits=sorted(back["iid"]), tests=[back[name]["test"]["id"][0] for name in ("noniid", "iid")],
     pixel=back["iid"]["client_00"][1]["images"][0].getpixel((0, 0)),
     streamed=next(iter(datasets.load_dataset(REPO, "iid", split="test", streaming=True)))["id"])
"""
    assert child(hub, "hf_alice", tmp_path / "alice", code) == {
        "splits": ["client_00", "test"], "tests": ["a", "b"], "pixel": [0, 0, 255], "streamed": "b",
    }  # fmt: skip
