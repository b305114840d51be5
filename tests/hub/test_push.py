"""Rounds on the Hub while a run trains: what they hold, what they do not, and what happens when the Hub is away."""

import json
import shutil

import pytest

from hub_server import Fault


ROUND = {
    "README.md", "adapter_config.json", "adapter_model.safetensors", "metrics.jsonl",
    "report/clients.md", "report/learning_curves.png", "report/results.md",
    "federated_state/run.json", "federated_state/server.safetensors", "federated_state/state.json",
    "federated_state/tensors.safetensors",
}  # fmt: skip
TRAINED = ROUND | {"report/client_loss.png"}


@pytest.fixture(autouse=True)
def no_faults_left(hub):
    yield
    hub.faults.clear()


def history(hub, repo_id: str, branch: str = "main") -> list[str]:
    """Titles of a branch's commits, the first one first."""
    return [commit["title"] for _, commit in reversed(hub.store.history(f"models/{repo_id}", branch))]


def tags(hub, repo_id: str) -> dict[str, str]:
    """Tag to the title of its commit."""
    repo = hub.store.repo(f"models/{repo_id}")
    return {tag: repo["commits"][sha]["title"] for tag, sha in repo["tags"].items()}


ROUNDS = ["Round 0 of 2", "Round 1 of 2", "Round 2 of 2"]
TAGS = {f"round-000{r}": title for r, title in enumerate(ROUNDS)}
SHORT = ["Round 0 of 1", "Round 1 of 1"]


def test_each_round_is_a_commit_with_a_tag_and_exactly_its_files(hub, run, tmp_path):
    """A stock PeftModel loads a round, and the repository names the base model that was only a folder."""
    out = tmp_path / "out"
    seen = run(
        """
trained = trainer(OUT, push_to_hub=True, hub_model_id="alice/rounds", hub_token="hf_alice", eval_every=1)
trained.train()
base = AutoModelForImageTextToText.from_pretrained("alice/rounds-base")
model = PeftModel.from_pretrained(base, "alice/rounds", revision="round-0001")
config = json.loads(Path(hf_hub_download("alice/rounds", "adapter_config.json", revision="round-0001")).read_text())
there = {name: tensor for name, tensor in model.named_parameters() if "lora_B" in name}
card = Path(hf_hub_download("alice/rounds", "README.md", revision="round-0001")).read_text()
code = {}
exec(card.split("```python")[1].split("```")[0], code)
same = all(torch.equal(tensor, code["model"].state_dict()[name]) for name, tensor in there.items())
same &= len(code["output"][0]) > code["inputs"]["input_ids"].shape[1]
show(code=same, base=config["base_model_name_or_path"], loaded=len(there),
     trained=any(t.abs().sum() > 0 for t in there.values()),
     url=trained.push_to_hub(), private=HfApi().model_info("alice/rounds").private)
""",
        OUT=out,
    )
    assert history(hub, "alice/rounds") == ["initial commit", *ROUNDS]
    assert tags(hub, "alice/rounds") == TAGS
    assert set(hub.store.files("models/alice/rounds", "round-0000")) == ROUND
    assert set(hub.store.files("models/alice/rounds", "round-0002")) == TRAINED
    lines = read(hub, "alice/rounds", "metrics.jsonl", "round-0001").decode().splitlines()
    assert [json.loads(line)["round_idx"] for line in lines] == [0, 1]
    assert seen["base"] == "alice/rounds-base"
    assert seen["loaded"] > 0
    assert seen["trained"] is True
    assert seen["code"] is True
    assert (seen["url"], seen["private"]) == (f"{hub.endpoint}/alice/rounds", True)
    assert [path.name for path in (out / "outbox").glob("round-*")] == []
    assert not any(request.startswith("POST") and "alice/rounds-base" in request for request in hub.log[-20:])


def read(hub, repo_id: str, path: str, revision: str) -> bytes:
    return hub.store.read_blob(hub.store.files(f"models/{repo_id}", revision)[path]["blob"])


def test_nothing_private_leaves(hub, run, tmp_path):
    """No blob has a path of the machine, a token, an answer to a test question or the name of a client."""
    data = """
data = tiny_federation({"saint_mary": 4, "mercy_west": 3}, test_rows=2)
data = {name: rows.map(lambda row: {"references": ["zebra-answer"]}) if name == "test" else rows
        for name, rows in data.items()}
clients = {name: data[name] for name in ("saint_mary", "mercy_west")}
args = FederatedConfig(OUT, **{**ARGS, "eval_every": 1}, push_to_hub=True, hub_model_id="alice/withheld",
                       hub_token="hf_alice", share_client_names=False)
FederatedTrainer(str(BASE), args, clients, eval_dataset=data["test"]).train()
show(home=str(Path.home()), base=str(BASE))
"""
    before = set((hub.store.folder / "blobs").iterdir())
    seen = run(data, OUT=tmp_path / "out")
    assert history(hub, "alice/withheld")[1:] == ROUNDS
    assert b"zebra-answer" in (tmp_path / "out" / "report" / "generations.jsonl").read_bytes()
    private = [str(tmp_path), seen["base"], "hf_alice", "zebra-answer", "saint_mary", "mercy_west", "my-base"]
    blobs = set((hub.store.folder / "blobs").iterdir()) - before
    assert len(blobs) > 20
    for blob in blobs:
        content = blob.read_bytes()
        assert [word for word in private if word.encode() in content] == [], content[:300]
    assert not any(b"hf_alice" in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    state = json.loads(read(hub, "alice/withheld", "federated_state/state.json", "main"))
    assert set(state["record"]["clients"]) == {"client_00", "client_01"}


def test_with_the_hub_down_a_run_ends_and_is_pushed_later(hub, run, tmp_path):
    hub.faults.append(Fault("alice/down", cut=True, times=10**6))
    ended = run(
        """
trained = trainer(OUT, push_to_hub=True, hub_model_id="alice/down", hub_patience=1.0)
show(rounds=trained.train().global_step)
""",
        OUT=tmp_path / "out",
    )
    assert ended["rounds"] == 2
    assert "Rounds 0, 1, 2 were not sent to alice/down" in ended.output
    assert f"`fedvlm push {tmp_path / 'out'}`" in ended.output
    assert "models/alice/down" not in hub.store.repos
    hub.faults.clear()
    ended = run("fedvlm_push([OUT])", OUT=tmp_path / "out")
    assert [line.split(":")[0] for line in ended.output.splitlines()[-4:-1]] == ["round 0", "round 1", "round 2"]
    assert history(hub, "alice/down") == ["initial commit", *ROUNDS]
    assert tags(hub, "alice/down") == TAGS


def test_an_outage_in_the_middle_changes_no_bit(hub, run, tmp_path):
    """Refused, cut, slow, a commit whose answer is lost: each round arrives once, and training is the same."""
    code = "trained = trainer(OUT); trained.train(); show(bits=trained.federation.tensors.digest())"
    plain = run(code, OUT=tmp_path / "plain")
    hub.faults += [
        Fault(r"GET /api/models/alice/faulty/revision", status=503),
        Fault(r"POST .*faulty/commit/main", truncate=0),
        Fault(r"POST .*faulty/tag/", cut=True),
        Fault(r"GET .*faulty/tree", delay=0.5, times=2),
    ]
    pushed = run(
        """
trained = trainer(OUT, push_to_hub=True, hub_model_id="alice/faulty")
trained.train()
show(bits=trained.federation.tensors.digest())
""",
        OUT=tmp_path / "pushed",
    )
    assert pushed["bits"] == plain["bits"]
    assert [fault.times for fault in hub.faults] == [0] * 4
    assert history(hub, "alice/faulty") == ["initial commit", *ROUNDS]
    assert tags(hub, "alice/faulty") == TAGS
    assert "is tried again" in pushed.output
    assert "The Hub answers again" in pushed.output
    assert "were not sent" not in pushed.output


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("hf_wrong", "does not accept the token, or got none (401)"),
        ("hf_bob", "may not write to alice/no (403)"),
    ],
)
def test_a_token_that_may_not_write_ends_in_plain_words(hub, run, tmp_path, token, reason):
    code = """
trained = trainer(OUT, push_to_hub=True, hub_model_id="alice/no", hub_token=TOKEN, num_rounds=1)
show(rounds=trained.train().global_step)
"""
    ended = run(code, token="", OUT=tmp_path / "out", TOKEN=token)
    assert ended["rounds"] == 1
    assert reason in ended.output
    assert "fedvlm push" in ended.output
    assert token not in ended.output
    assert "Traceback" not in ended.output
    assert "models/alice/no" not in hub.store.repos


def test_a_killed_run_sends_the_rest_when_it_is_resumed(hub, run, tmp_path):
    """Round 1 was saved before the kill and not packed; while the Hub is away, round 0 was packed and not sent."""
    hub.faults.append(Fault("alice/killed", cut=True, times=10**6))
    arguments = 'OUT, push_to_hub=True, hub_model_id="alice/killed"'
    killed = run(f"trainer({arguments}, callbacks=[KillAfter(1)]).train()", is_checked=False, OUT=tmp_path)
    assert killed.status == -9
    assert (tmp_path / "outbox" / "round-0000").is_dir()
    hub.faults.clear()
    run(f"trainer({arguments}).train(resume_from_checkpoint=True)", OUT=tmp_path)
    assert history(hub, "alice/killed") == ["initial commit", *ROUNDS]
    assert tags(hub, "alice/killed") == TAGS


def test_another_run_is_not_written_over(hub, run, tmp_path):
    arguments = 'push_to_hub=True, hub_model_id="alice/taken", num_rounds=1'
    run(f"trainer(OUT, {arguments}).train()", OUT=tmp_path / "first")
    head = hub.store.resolve("models/alice/taken", "main")
    ended = run(f"trainer(OUT, {arguments}, seed=7).train(); show(ended=True)", OUT=tmp_path / "second")
    assert "`hub_model_id` 'alice/taken' holds another run, so nothing was sent" in ended.output
    assert "config.seed: 42 in alice/taken, 7 now" in ended.output
    assert hub.store.resolve("models/alice/taken", "main") == head
    run('fedvlm_push([OUT, "--repo", "alice/second"])', OUT=tmp_path / "second")
    assert history(hub, "alice/second") == ["initial commit", *SHORT]
    config = json.loads(read(hub, "alice/second", "adapter_config.json", "round-0001"))
    assert config["base_model_name_or_path"] == "alice/second-base"


def test_a_round_that_is_there_is_not_sent_twice_and_a_changed_one_is_moved_to(hub, run, tmp_path):
    arguments = 'OUT, push_to_hub=True, hub_model_id="alice/again", num_rounds=1'
    run(f"trainer({arguments}).train()", OUT=tmp_path)
    before = dict(hub.store.repo("models/alice/again")["tags"])
    shutil.rmtree(tmp_path / "rounds" / "round-0001")
    run(f"trainer({arguments}).train(resume_from_checkpoint=True)", OUT=tmp_path)
    assert history(hub, "alice/again") == ["initial commit", *SHORT]
    code = f"""
from safetensors.torch import load_file, save_file
import shutil
shutil.rmtree(Path(OUT) / "rounds" / "round-0001")
trained = trainer({arguments}, callbacks=[Before(lambda round_idx: change())])
def change():
    path = Path(OUT) / "rounds" / "round-0001" / "adapter_model.safetensors"
    save_file({{name: 2 * tensor for name, tensor in load_file(path).items()}}, path, {{"format": "pt"}})
trained.train(resume_from_checkpoint=True)
"""
    ended = run(code, OUT=tmp_path)
    assert "round-0001 of alice/again came out different" in ended.output
    assert history(hub, "alice/again") == ["initial commit", *SHORT, SHORT[1]]
    after = hub.store.repo("models/alice/again")["tags"]
    assert {tag for tag in before if before[tag] != after[tag]} == {"round-0001"}


def test_going_on_from_the_hub_sends_no_round_twice(hub, run, tmp_path):
    """A new folder, the repository alone and round 1 of it: rounds 1 and 2 are there already."""
    arguments = 'push_to_hub=True, hub_model_id="alice/resumed"'
    run(f"trainer(OUT, {arguments}).train()", OUT=tmp_path / "first")
    code = f'trainer(OUT, model="alice/resumed-base", {arguments}).train("alice/resumed@round-0001")'
    run(code, OUT=tmp_path / "second")
    assert history(hub, "alice/resumed") == ["initial commit", *ROUNDS]
    assert tags(hub, "alice/resumed") == TAGS
    sent = json.loads((tmp_path / "second" / "outbox" / "sent.json").read_text())
    assert list(sent["alice/resumed"]) == ["1", "2"]


def test_what_others_add_stays_and_their_commits_are_not_undone(hub, run, tmp_path):
    """A licence is committed between the reading of the head and the commit of round 1, whose lock then fails."""

    def license_comes_between():
        store = hub.store
        store.commit("models/alice/shared", "main", "LICENSE", [("LICENSE", store.blob(b"MIT"))], "alice")

    code = 'trainer(OUT, push_to_hub=True, hub_model_id="alice/shared").train()'
    hub.faults += [
        Fault("POST .*alice/shared/commit/main", delay=0),
        Fault("POST .*alice/shared/commit/main", before=license_comes_between),
    ]
    run(code, OUT=tmp_path)
    assert history(hub, "alice/shared") == ["initial commit", ROUNDS[0], "LICENSE", *ROUNDS[1:]]
    assert set(hub.store.files("models/alice/shared", "round-0002")) == TRAINED | {"LICENSE"}


def test_clients_adapters_are_on_branches_of_their_own(hub, run, tmp_path):
    """With `local` the global adapter never changes, and each client's does."""
    run(
        """
own = {"method": "local", "push_client_adapters": True, "num_rounds": 1}
trainer(OUT, push_to_hub=True, hub_model_id="alice/own", **own).train()
base = AutoModelForImageTextToText.from_pretrained("alice/own-base")
lora = {}
for revision in ("main", "clients/client_00", "clients/client_01"):
    model = PeftModel.from_pretrained(base, "alice/own", revision=revision)
    lora[revision] = [t.abs().sum().item() for name, t in model.named_parameters() if "lora_B" in name]
    if revision != "main":
        card = Path(hf_hub_download("alice/own", "README.md", revision=revision)).read_text()
        code = {}
        exec(card.split("```python")[1].split("```")[0], code)
        shown = [t.abs().sum().item() for name, t in code["model"].named_parameters() if "lora_B" in name]
        assert shown == lora[revision], (shown, lora[revision])
    base = model.unload()
assert sum(lora["main"]) == 0 and 0 < sum(lora["clients/client_00"]) != sum(lora["clients/client_01"]) > 0, lora
""",
        OUT=tmp_path,
    )
    assert history(hub, "alice/own") == ["initial commit", *SHORT]
    assert history(hub, "alice/own", "clients/client_01") == ["initial commit", SHORT[1]]
    assert set(hub.store.files("models/alice/own", "clients/client_01")) == {
        "README.md", "adapter_config.json", "adapter_model.safetensors",
        "federated_state/client.safetensors", "federated_state/state.json",
    }  # fmt: skip
    state = tmp_path / "client_state" / "client_01" / "round-0001" / "state.safetensors"
    pushed = read(hub, "alice/own", "federated_state/client.safetensors", "clients/client_01")
    assert pushed == state.read_bytes()


def test_a_run_made_without_the_hub_is_pushed_whole(hub, run, tmp_path):
    seen = run(
        """
trained = trainer(OUT, hub_model_id="alice/late", hub_private_repo=False, hub_revision="trial", num_rounds=1)
trained.train()
outbox = (Path(OUT) / "outbox").exists()
urls = [trained.push_to_hub(), trained.push_to_hub()]
show(urls=urls, outbox=outbox, public=not HfApi().model_info("alice/late").private)
""",
        OUT=tmp_path,
    )
    assert seen["urls"] == [f"{hub.endpoint}/alice/late"] * 2
    assert (seen["outbox"], seen["public"]) == (False, True)
    assert history(hub, "alice/late", "trial") == ["initial commit", *SHORT]
    assert history(hub, "alice/late") == ["initial commit"]
    assert set(hub.store.files("models/alice/late", "round-0001")) == TRAINED


def test_only_the_last_round_with_strategy_end(hub, run, tmp_path):
    run(
        'trainer(OUT, push_to_hub=True, hub_model_id="alice/end", hub_strategy="end", num_rounds=1).train()',
        OUT=tmp_path,
    )
    assert history(hub, "alice/end") == ["initial commit", SHORT[1]]
    assert tags(hub, "alice/end") == {"round-0001": SHORT[1]}


def test_rounds_that_are_deleted_here_are_sent_all_the_same(hub, run, tmp_path):
    hub.faults.append(Fault("alice/pruned", cut=True, times=10**6))
    arguments = 'hub_model_id="alice/pruned", save_total_limit=1, hub_patience=0.0, num_rounds=1'
    run(f"trainer(OUT, push_to_hub=True, {arguments}).train()", OUT=tmp_path)
    assert [path.name for path in (tmp_path / "rounds").iterdir()] == ["round-0001"]
    hub.faults.clear()
    run("fedvlm_push([OUT])", OUT=tmp_path)
    assert history(hub, "alice/pruned") == ["initial commit", *SHORT]


def test_a_crash_of_sending_is_reported(hub, run, tmp_path):
    """Somebody broke a file that sending needs."""
    hub.faults.append(Fault("alice/crash", cut=True, times=10**6))
    run(
        'trainer(OUT, push_to_hub=True, hub_model_id="alice/crash", hub_patience=0.0, num_rounds=1).train()',
        OUT=tmp_path,
    )
    hub.faults.clear()
    (tmp_path / "card.json").write_text("{")
    ended = run("fedvlm_push([OUT])", is_checked=False, OUT=tmp_path)
    assert "Sending rounds to the Hub crashed" in ended.output
    assert "Rounds 0, 1 were not sent to alice/crash: sending crashed with JSONDecodeError" in ended.output
