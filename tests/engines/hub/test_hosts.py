"""What a host of its own trains is what one process trains; what cannot be is refused before anything is trained."""

from dataclasses import dataclass

import pytest
from trl import ModelConfig

from federation import config, federated
from fedvlm_hf.commands.hub_server import HubServerArguments, make_federation
from fedvlm_hf.engines.hub.answers import Answers, exclusive_lock
from fedvlm_hf.engines.hub.protocol import REPLY, TENSORS
from fedvlm_hf.exchange.settings import make_settings
from fedvlm_hf.methods import ClientMethod
from fedvlm_hf.repository import Repository
from fedvlm_hf.sampling import sample_cohort
from fedvlm_hf.tensors import TensorDict
from fedvlm_hf.types import ClientTask
from tiny import save_tiny, tiny_federation


DATA = tiny_federation({"client_00": 6, "client_01": 4, "client_02": 5}, test_rows=1)
IDS = ["client_00", "client_01", "client_02"]


@dataclass(frozen=True)
class KeepA(ClientMethod):
    """LoRA's A stays at the client."""

    def is_shared(self, name: str) -> bool:
        return "lora_A" not in name


@pytest.mark.parametrize("method", ["fedavg", KeepA()])
def test_a_host_with_its_own_rows_alone_trains_the_same_bits(tmp_path, method):
    """The seed of a client run depends on the client's place among all clients. Each round is run by a new trainer, as
    after a kill; what stays at the client is found again by its version."""
    together = federated(tmp_path / "together", DATA, method=method)
    tensors, versions = together.local.shared_tensors(), {}
    for round_idx in (1, 2):
        task = ClientTask(round_idx, "client_01", tensors)
        expected = together.run_client(task)
        rows = {"client_01": DATA["client_01"]}
        host = federated(tmp_path / "host", rows, trainer_kwargs={"client_ids": IDS}, method=method)
        host.store.restore(versions)
        assert host.local.initial.digest() == together.local.initial.digest()
        update = host.run_client(task)
        assert update.tensors.digest() == expected.tensors.digest()
        assert (update.weight, update.metrics["train_loss"]) == (4, expected.metrics["train_loss"])
        tensors, versions = update.tensors, host.store.versions
        assert versions == ({} if method == "fedavg" else {"client_01": round_idx})


def test_without_the_other_clients_names_the_seed_would_differ(tmp_path):
    task = ClientTask(1, "client_01", federated(tmp_path / "together", DATA).local.shared_tensors())
    rows = {"client_01": DATA["client_01"]}
    named = federated(tmp_path / "named", rows, trainer_kwargs={"client_ids": IDS})
    alone = federated(tmp_path / "alone", rows)
    assert named.run_client(task).tensors.digest() != alone.run_client(task).tensors.digest()


def test_a_later_stage_trains_over_what_the_first_trained(tmp_path):
    """A host that starts in round 2 gets the connector of round 1 with its task."""
    host = federated(
        tmp_path, {"client_01": DATA["client_01"]}, trainer_kwargs={"client_ids": IDS}, tuning="two_stage"
    )
    connector = host.local.shared_tensors()
    trained = connector.with_flat(connector.flat + 1)
    lora = TensorDict.from_tensors({k: v for k, v in host.local.initial.items() if k not in connector})
    update = host.run_client(ClientTask(2, "client_01", lora, fixed=trained))
    assert list(update.tensors) == list(lora)
    assert host.local.adapter.read(trained).digest() == trained.digest()


def test_a_client_that_is_none_of_the_federations_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'client_01', which is not one of the federation's: site_a, site_b"):
        federated(tmp_path, {"client_01": DATA["client_01"]}, trainer_kwargs={"client_ids": ["site_b", "site_a"]})


def server(tmp_path, **kwargs):
    args = config(tmp_path / "out", **kwargs)
    own = HubServerArguments("org/name", ",".join(IDS))
    model_args = ModelConfig(str(tmp_path / "base"))
    settings = make_settings(args, model_args, IDS, model_args.model_name_or_path)
    return make_federation(own, args, model_args, settings, Repository("org/name"))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"method": "central"}, "trains on pooled rows"),
        ({"method": "local"}, "shares nothing"),
        ({"client_sampling": "weighted"}, "needs the number of rows of every client"),
    ],
)
def test_what_needs_no_server_or_rows_that_are_not_there_is_refused(tmp_path, kwargs, message):
    save_tiny(tmp_path / "base")
    with pytest.raises(ValueError, match=message):
        server(tmp_path, **kwargs)


def test_a_server_asks_the_cohort_that_one_process_would(tmp_path):
    """Two of three clients, a pure function of the seed and the round, without a row of theirs."""
    save_tiny(tmp_path / "base")
    federation, engine = server(tmp_path, clients_per_round=2)
    sizes = {name: DATA[name].num_rows for name in IDS}
    for round_idx in (1, 2, 3):
        assert federation.cohort(round_idx) == sample_cohort(sizes, 2, "uniform", 42, round_idx)
    trainer = federated(tmp_path / "p", DATA)
    assert federation.tensors.digest() == trainer.local.shared_tensors().digest()
    facts = engine.run_facts.facts
    assert (facts.adapter_sha256, list(facts.adapter)) == (trainer.local.initial.digest(), list(trainer.local.initial))


def write(answers: Answers, round_idx: int, sha256: str) -> None:
    with answers.new(round_idx, sha256) as (folder, versions):
        (folder / TENSORS).write_bytes(b"t")
        (folder / REPLY).write_bytes(b"r")
        versions["site_a"] = round_idx


def test_an_answer_is_there_whole_or_not_at_all(tmp_path):
    answers = Answers(tmp_path)
    with pytest.raises(KeyboardInterrupt), answers.new(1, "x") as (folder, _):
        (folder / TENSORS).write_bytes(b"t")
        raise KeyboardInterrupt
    assert answers.find("x") is None
    write(answers, 1, "x")
    found = Answers(tmp_path).find("x")
    assert found.files("site_a").keys() == {f"updates/site_a/{name}" for name in (TENSORS, REPLY)}


def test_answers_are_found_by_what_they_answer(tmp_path):
    """A round that is announced anew is trained anew, from the states before it; two answers are kept."""
    answers = Answers(tmp_path)
    assert answers.versions_before(1) == {}
    for round_idx, sha256 in ((1, "x"), (2, "y"), (3, "z")):
        write(answers, round_idx, sha256)
        assert answers.sent().get("announcement_sha256") != sha256
        answers.mark_sent(answers.find(sha256), "updates/site_a")
    assert answers.sent()["announcement_sha256"] == "z"
    assert answers.find("x") is None
    assert answers.versions_before(3) == {"site_a": 2}
    write(answers, 3, "anew")
    assert answers.find("z") is None
    assert answers.find("anew").round_idx == 3


def test_two_processes_do_not_share_a_folder(tmp_path):
    with (
        exclusive_lock(tmp_path, "server"),
        pytest.raises(ValueError, match="another process works in it as server"),
        exclusive_lock(tmp_path, "server"),
    ):
        pass
    with exclusive_lock(tmp_path, "server"):  # the lock is gone with who held it
        pass
