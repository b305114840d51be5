"""Announcing and answering through a loopback Hub: who wins, who is waited for, what is refused."""

import json

import pytest

from hub_processes import Processes
from hub_server import Fault, running
from waiting import WAITS, wait_until


pytestmark = WAITS

USERS = {
    "hf_server": ("alice", "write"),
    "hf_other": ("oscar", "write"),
    "hf_a": ("ann", "write"),
    "hf_reader": ("rita", "read"),
    "hf_impostor": ("ivan", "read"),
}
KEY = "models/alice/fed"


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """One Hub and one process to fork from; tests use repositories of their own by starting from an empty one."""
    folder = tmp_path_factory.mktemp("federation")
    with running(folder / "hub", USERS) as hub, Processes(hub.environment("", folder / "home"), folder) as processes:
        yield hub, processes


@pytest.fixture
def hub(family):
    hub, _ = family
    hub.faults.clear()
    if KEY in hub.store.repos:
        hub.store.delete(KEY)
    hub.store.create(KEY, True, "alice")
    return hub


@pytest.fixture
def snippets(family, hub, tmp_path):
    """Runs snippets beside each other, `{name: (token, code)}`; what each showed, or its exit status and log.

    Once one has failed, the others may wait for it for ever: they are killed, unless `may_fail` says that this belongs
    to the test.
    """
    _, processes = family

    def run(may_fail: bool = False, **codes: tuple[str, str]) -> dict:
        for name, (token, code) in codes.items():
            (processes.folder / f"{name}.log").unlink(missing_ok=True)
            processes.start(name, "federation_snippets", [code, str(tmp_path / f"{name}.json")], token)
        seen = {}

        def have_ended() -> bool:
            for name in codes.keys() - seen.keys():
                if (status := processes.status(name)) is not None:
                    out = tmp_path / f"{name}.json"
                    seen[name] = (
                        json.loads(out.read_text()) if status == 0 and out.exists() else (status, processes.log(name))
                    )
            failed = [name for name, result in seen.items() if isinstance(result, tuple)]
            left = codes.keys() - seen.keys()
            if failed and left and not may_fail:
                for name in left:
                    processes.kill(name)
                pytest.fail(f"{failed[0]} failed while {', '.join(sorted(left))} ran\n{processes.log(failed[0])}")
            return not left

        wait_until(have_ended, lambda: "\n".join(processes.log(name) for name in codes))
        return seen

    return run


def test_a_process_that_fails_ends_the_wait_for_the_others(family, snippets):
    """The other one would wait for ever; it is killed."""
    with pytest.raises(pytest.fail.Exception, match=r"(?s)one failed while two ran\n.*ValueError: broken"):
        snippets(one=("hf_a", "raise ValueError('broken')"), two=("hf_a", "time.sleep(10**6)"))
    _, processes = family
    wait_until(lambda: processes.status("two") == -9)


def titles(hub) -> list[str]:
    return [commit["title"] for _, commit in reversed(hub.store.history(KEY, "main"))][1:]


def test_of_two_servers_started_at_once_one_publishes(hub, snippets):
    """Both read the same head before either commits: the Hub takes the first commit, and the other server stops."""
    hub.faults += [Fault(r"POST .*/commit/main", delay=1.0, times=2)]
    seen = snippets(
        may_fail=True,
        first=("hf_server", "show(sha=announce(repository, server='first'))"),
        second=("hf_other", "show(sha=announce(repository, server='second'))"),
    )
    losers = [name for name, result in seen.items() if isinstance(result, tuple)]
    assert len(losers) == 1
    assert seen[losers[0]][0] == 1
    assert "AnotherServerError: `repo` 'alice/fed' is served by another server" in seen[losers[0]][1]
    assert titles(hub) == ["Round 1 of 5: 3 clients are asked"]


def test_what_is_announced_is_not_announced_again(hub, snippets):
    """A server that is started again finds its announcement, whose deadline holds, and its tag where it lacks it."""
    hub.faults += [Fault(r"POST .*/tag/", status=403)]
    code = "show(sha=announce(repository, timeout=100))"
    killed = snippets(one=("hf_server", code))["one"]
    assert killed[0] == 1
    assert hub.store.repo(KEY)["tags"] == {}
    seen = snippets(one=("hf_server", code))["one"], snippets(one=("hf_server", code))["one"]
    assert seen[0] == seen[1]
    assert titles(hub) == ["Round 1 of 5: 3 clients are asked"]
    assert list(hub.store.repo(KEY)["tags"]) == ["announced-0001"]


def test_a_commit_that_comes_between_is_no_other_server(hub, snippets):
    """Rounds are pushed to the same branch: the announcement is committed on top of what came between."""
    blob = hub.store.blob(b"between")
    between = lambda: hub.store.commit(KEY, "main", "between", [("README.md", blob)], "alice")  # noqa: E731
    hub.faults += [Fault(r"POST .*/commit/main", before=between)]
    assert "sha" in snippets(one=("hf_server", "show(sha=announce(repository))"))["one"]
    assert titles(hub) == ["between", "Round 1 of 5: 3 clients are asked"]


def test_a_commit_whose_answer_is_lost_is_found(hub, snippets):
    """The connection is cut after the commit took effect; the server sees its own announcement and goes on."""
    code = """
commit = repository.api.create_commit
def lost(*args, **kwargs):
    commit(*args, **kwargs)
    repository.api.create_commit = commit
    raise ConnectionResetError("cut")
repository.api.create_commit = lost
show(sha=announce(repository))
"""
    assert "sha" in snippets(one=("hf_server", code))["one"]
    assert titles(hub) == ["Round 1 of 5: 3 clients are asked"]


def test_an_older_copy_of_the_servers_folder_is_refused(hub, snippets):
    snippets(one=("hf_server", "announce(repository, 1); announce(repository, 2); show()"))
    status, log = snippets(one=("hf_server", "announce(repository, 1)"))["one"]
    assert status == 1
    assert "is at round 2, but `output_dir` only at round 1" in log


def test_bad_answers_and_absent_clients_do_not_stop_a_round(hub, snippets):
    """site_a is good, site_b's answer is cut off, site_c is absent; two seconds and one answer are enough."""
    server = """
hub = engine(repository, waiting=Waiting(min_clients=1, round_timeout=2.0))
answers = list(hub.run(tasks(1)))
first = [(u.client_id, u.tensors.flat[0].item(), u.weight) for u in answers if isinstance(u, ClientUpdate)]
absent = {left.client_id: left.reason for left in answers if isinstance(left, Absent)}
seen = dict(hub.refused)
hub.announce(tasks(2), Path(__import__("tempfile").mkdtemp()))
told = read_announcement(repository, repository.head())[0].refused
show(first=first, absent=absent, seen=seen, told=told, rows=hub.rows)
"""
    cut = "lambda folder: (folder / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:-4])"
    seen = snippets(
        server=("hf_server", server),
        site_a=("hf_a", "answer(repository, 'site_a', 0.5); show()"),
        site_b=("hf_a", f"answer(repository, 'site_b', 0.5, {cut}); show()"),
    )
    assert seen["server"]["first"] == [["site_a", 3.5, 5]]
    assert "SHA-256 sums differ" in seen["server"]["seen"]["site_b"]
    assert seen["server"]["told"] == seen["server"]["seen"]
    assert seen["server"]["rows"] == {"site_a": 5}
    assert seen["server"]["absent"]["site_c"] == "it did not answer before the deadline"
    assert seen["server"]["absent"]["site_b"] == seen["server"]["seen"]["site_b"]


def test_clients_may_be_sent_and_asked_for_different_tensors(hub, snippets):
    """site_a and site_c share a task, site_b has a smaller one; all get the fixed tensors and the change of the base.
    Each answers with what it was sent, plus 1, and a control group that it was asked for."""
    server = """
small = TensorDict.from_tensors({"w": CURRENT["w"][:1], "b": CURRENT["b"]})
fixed, base = TensorDict.from_tensors({"f": torch.ones(1)}), TensorDict.from_tensors({"x": torch.ones(2)})
def task(client_id, tensors):
    control = {"c": tensors.with_flat(tensors.flat * 2)}
    return ClientTask(1, client_id, tensors, control, Expected.of(tensors, control), fixed, base)
tasks = [task("site_a", CURRENT), task("site_b", small), task("site_c", CURRENT)]
hub = engine(repository)
answers = list(hub.run(tasks))
hub.finish(1, CURRENT)
show(steps=[(answer.tensors.flat - task.tensors.flat).unique().tolist() for answer, task in zip(answers, tasks)],
     shapes=[list(answer.tensors["w"].shape) for answer in answers],
     control=[answer.control["c"].digest() == task.control["c"].digest() for answer, task in zip(answers, tasks)])
"""
    client = "show(answered=run_host(repository, {client!r}, {folder!r}))"
    sites = {
        name: ("hf_a", client.format(client=name, folder=str(hub.store.folder.parent / name)))
        for name in ("site_a", "site_b", "site_c")
    }
    seen = snippets(server=("hf_server", server), **sites)
    assert seen["server"] == {"steps": [[1.0]] * 3, "shapes": [[2, 2], [1, 2], [2, 2]], "control": [True] * 3}
    assert [seen[name]["answered"] for name in sites] == [1, 1, 1]
    files = [path for path in hub.store.files(KEY, "announced-0001") if path.startswith("federation/task")]
    assert files == ["federation/task-0.safetensors", "federation/task-1.safetensors"]


def test_without_a_timeout_the_whole_cohort_is_waited_for(hub, snippets):
    """site_b answers badly, then well: the round waits, and the answers come in client-id order."""
    server = """
updates = list(engine(repository).run(tasks(1, ["site_a", "site_b"])))
show(ids=[u.client_id for u in updates], steps=[u.tensors.flat[0].item() - 3.0 for u in updates])
"""
    b = """
def pickled(folder):
    import pickle
    (folder / TENSORS).write_bytes(pickle.dumps([1.0] * 100))
answer(repository, "site_b", 0.25, pickled)
time.sleep(1.0)
answer(repository, "site_b", 0.25)
show()
"""
    seen = snippets(
        server=("hf_server", server),
        site_b=("hf_a", b),
        site_a=("hf_a", "time.sleep(0.5); answer(repository, 'site_a', 0.5); show()"),
    )
    assert seen["server"] == {"ids": ["site_a", "site_b"], "steps": [0.5, 0.25]}


def test_a_reader_answers_in_a_pull_request_and_keeps_its_name(hub, snippets):
    """Someone else's later pull request under the same name is not looked at, nor is a late answer of the reader."""
    snippets(announced=("hf_server", "announce(repository, 1); show()"))
    reader = """
may = repository.try_to_create_branch("updates/site_a")
answer(repository, "site_a", 0.5, is_pull=True)
show(may=may)
"""
    assert snippets(reader=("hf_reader", reader))["reader"] == {"may": False}
    snippets(impostor=("hf_impostor", "answer(repository, 'site_a', 9.0, is_pull=True); show()"))
    server = """
hub = engine(repository, waiting=Waiting(1, 1.0))
updates = list(hub.run(tasks(1)))
show(steps={u.client_id: u.tensors.flat[0].item() - 3.0 for u in updates},
     pulls=[pull.author for pull in repository.pull_requests()])
"""
    seen = snippets(server=("hf_server", server), b=("hf_a", "answer(repository, 'site_b', 0.25); show()"),
                    c=("hf_a", "answer(repository, 'site_c', 0.125); show()"))  # fmt: skip
    assert seen["server"] == {
        "steps": {"site_a": 0.5, "site_b": 0.25, "site_c": 0.125}, "pulls": ["rita", "ivan"],
    }  # fmt: skip


UNDELIVERABLE = r"(GET|HEAD) .*/resolve/[^/]*/updates/site_b/update.safetensors"


@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": True}, {"hangs": True}], ids=["503", "cut", "hangs"])
def test_a_file_that_the_hub_cannot_deliver_holds_up_nobody(hub, snippets, fault):
    """site_b's file fails at every download. The round ends at its deadline with site_a, and names site_b.

    No download has a time limit: a server that waited for one that hangs would never end.
    """
    hub.faults += [Fault(UNDELIVERABLE, times=10**6, **fault)]
    server = """
huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT = huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT = 10**6
hub = engine(repository, waiting=Waiting(min_clients=1, round_timeout=4.0))
hub.announce(tasks(1, SITES[:2]), Path(__import__("tempfile").mkdtemp()))
ids = [answer.client_id for answer in hub.run(tasks(1, SITES[:2])) if isinstance(answer, ClientUpdate)]
show(ids=ids, refused=hub.refused)
"""
    seen = snippets(
        server=("hf_server", server),
        site_b=("hf_a", "answer(repository, 'site_b', 0.5); show()"),
        site_a=("hf_a", "answer(repository, 'site_a', 0.5); show()"),
    )
    assert seen["server"]["ids"] == ["site_a"]
    assert hub.faults[0].times < 10**6  # the file was asked for
    assert seen["server"]["refused"] == {"site_b": "the Hub could not deliver it before the deadline"}


def test_a_file_that_is_delivered_late_counts_where_all_are_needed(hub, snippets):
    """Past the deadline with too few updates the download goes on, and the other client is not held up by it."""
    hub.faults += [Fault(UNDELIVERABLE, hangs=True, times=1)]
    server = """
huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT = huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT = 3
hub = engine(repository, waiting=Waiting(min_clients=2, round_timeout=0.5))
show(ids=[update.client_id for update in hub.run(tasks(1, SITES[:2]))], refused=hub.refused)
"""
    seen = snippets(
        server=("hf_server", server),
        site_b=("hf_a", "answer(repository, 'site_b', 0.5); show()"),
        site_a=("hf_a", "answer(repository, 'site_a', 0.5); show()"),
    )
    assert seen["server"] == {"ids": ["site_a", "site_b"], "refused": {}}


def test_a_round_ends_at_its_deadline_with_the_hub_away(hub, snippets):
    """Once site_a's update is there, the Hub answers no more; the round needs no other update."""
    away = lambda: hub.faults.append(Fault(r"GET .*/refs", cut=True, times=10**6))  # noqa: E731
    hub.faults += [Fault(r"GET .*/updates/site_a/update.safetensors", delay=0.1, before=away)]
    server = """
hub = engine(repository, waiting=Waiting(min_clients=1, round_timeout=3.0))
answers = hub.run(tasks(1))
show(ids=[answer.client_id for answer in answers if isinstance(answer, ClientUpdate)], refused=hub.refused)
"""
    seen = snippets(
        server=("hf_server", server),
        site_a=("hf_a", "answer(repository, 'site_a', 0.5); show()"),
    )
    assert seen["server"] == {"ids": ["site_a"], "refused": {}}


@pytest.mark.parametrize("request_", [r"GET .*/refs", r"POST .*/preupload/", r"POST .*/commit/main", r"POST .*/tag/"])
def test_a_request_that_is_never_answered_is_made_again(hub, snippets, request_):
    """The Hub accepts the connection and is silent. huggingface_hub itself would wait for ever."""
    hub.faults += [Fault(request_, hangs=True)]
    seen = snippets(one=("hf_server", "requests.SILENCE = 0.5; show(sha=announce(repository))"))
    assert "sha" in seen["one"]
    assert hub.faults[0].times == 0
    assert titles(hub) == ["Round 1 of 5: 3 clients are asked"]


def test_an_upload_that_is_never_answered_is_made_again(hub, snippets):
    """Its bytes are new, so that the Hub asks for them."""
    hub.faults += [Fault(r"PUT /lfs/", hangs=True)]
    code = """
requests.SILENCE = 0.5
show(sha=repository.commit("new", {"x.safetensors": __import__("os").urandom(100)}, "main"))
"""
    assert "sha" in snippets(one=("hf_server", code))["one"]
    assert hub.faults[0].times == 0


def test_nothing_of_the_run_is_in_a_clients_branch(hub, snippets):
    snippets(server=("hf_server", "announce(repository, 1); show()"))
    snippets(a=("hf_a", "answer(repository, 'site_a', 0.5); show()"))
    assert sorted(hub.store.files(KEY, "updates/site_a")) == [
        "updates/site_a/update.json",
        "updates/site_a/update.safetensors",
    ]


def test_who_may_not_read_is_told_so(hub, snippets):
    status, log = snippets(nobody=("", "repository.head()"))["nobody"]
    assert status == 1
    assert "HubRefusedError" in log
    assert "hf_" not in log
