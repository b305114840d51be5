"""One server and three clients with nothing between them but a faulty Hub, each killed once: the bits are the same."""

from pathlib import Path

import pytest
import yaml

from hub_processes import Processes
from hub_server import Fault, Hub, running
from tiny import save_tiny, tiny_federation
from waiting import WAITS, wait_until


pytestmark = WAITS

USERS = {
    "hf_server": ("alice", "write"),
    "hf_a": ("ann", "write"),
    "hf_b": ("bob", "write"),
    "hf_c": ("cecil", "read"),  # answers in a pull request
}
REPO = "alice/fed"
SITES = ("site_a", "site_b", "site_c")
NAMES = ("server", *SITES)
# A stage of one round and one of two: the second round starts from what the first stage fixed, the third from the
# server optimizer's state
CONFIG = {
    "num_rounds": 3,
    "tuning": "two_stage",
    "stage_rounds": 1,
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 0.01,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "method": "fedyogi",
    "method_kwargs": {"server_lr": 0.01},
    "eval_max_new_tokens": 4,
}
FILES = [
    Path("rounds") / f"round-{round_idx:04d}" / file
    for round_idx in (1, 2, 3)
    for file in (
        "adapter_model.safetensors",
        "federated_state/tensors.safetensors",
        "federated_state/server.safetensors",
    )
]


@pytest.fixture
def site(tmp_path) -> Path:
    """A folder with the base model, unequal clients, and the run's arguments."""
    save_tiny(tmp_path / "base")
    save_tiny(tmp_path / "other", seed=1)
    tiny_federation({"client_00": 5, "client_01": 3, "client_02": 4}, test_rows=1).save_to_disk(tmp_path / "data")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


@pytest.fixture
def hub(site):
    with running(site / "hub", USERS) as hub:
        yield hub


@pytest.fixture
def processes(hub, site):
    with Processes(hub.environment("", site / "home"), site) as processes:
        yield processes


def command(site: Path, name: str, base: str | None = "base") -> list[str]:
    common = ["--repo", REPO, "--output_dir", str(site / name)]
    if base is not None:
        common += ["--model_name_or_path", str(site / base)]
    return [*common, "--poll_seconds", "0.1", "--num_threads", "1", "--dataset_name", str(site / "data")]


def start(processes: Processes, name: str, site: Path, base: str | None = "base") -> None:
    """Start the server or a client, also again, with the command that a user has."""
    if name == "server":
        argv = ["--config", str(site / "config.yaml"), "--client_ids", ",".join(SITES)]
        processes.start(name, "fedvlm_hf.commands.hub_server", command(site, name) + argv, "hf_server")
    else:
        argv = ["--client_id", name, "--split", f"client_{SITES.index(name):02d}", "--use_cpu", "true"]
        processes.start(name, "fedvlm_hf.commands.hub_client", command(site, name, base) + argv, f"hf_{name[-1]}")


def start_server(hub: Hub, processes: Processes, site: Path) -> None:
    """Start the server, and wait until there is a repository: a client that finds none ends with an error."""
    start(processes, "server", site)

    def is_there() -> bool:
        assert processes.status("server") is None, processes.log("server")
        return f"models/{REPO}" in hub.store.repos

    wait_until(is_there, lambda: processes.log("server"))


def start_strangers(processes: Processes, site: Path) -> None:
    """Who cannot take part: a client of no name, one with another base, and another server."""
    client, server = "fedvlm_hf.commands.hub_client", "fedvlm_hf.commands.hub_server"
    argv = [*command(site, "nobody"), "--client_id", "nobody", "--split", "client_00"]
    processes.start("nobody", client, argv, "hf_b")
    argv = [*command(site, "changed", "other"), "--client_id", "site_a", "--split", "client_00", "--use_cpu", "true"]
    processes.start("changed", client, argv, "hf_b")
    argv = [*command(site, "usurper"), "--config", str(site / "config.yaml"), "--client_ids", ",".join(SITES)]
    processes.start("usurper", server, argv, "hf_b")


def attend(processes: Processes, site: Path, expected: dict[str, int]) -> None:
    """Wait until all have ended by themselves, and start those again that were killed.

    Fail as soon as one ends with another exit status than expected, since the others may wait for it.
    """
    left = set(expected)

    def logs() -> str:
        return "\n".join(f"{name}: {processes.log(name)[-1500:]}" for name in sorted(left))

    def have_ended() -> bool:
        for name in sorted(left):
            status = processes.status(name)
            if status == -9:
                start(processes, name, site)
            elif status is not None:
                assert status == expected[name], f"{name} ended with status {status}\n{logs()}"
                left.remove(name)
        return not left

    wait_until(have_ended, logs)


def run_beside_one_process(hub: Hub, processes: Processes, site: Path) -> None:
    """Run the federation, and the same run in one process, until all have ended without an error."""
    argv = [str(site / "base"), str(site / "data"), str(site / "whole"), ",".join(SITES), str(site / "config.yaml")]
    processes.start("whole", "federation_in_process", argv)
    start_server(hub, processes, site)
    for name in SITES:
        start(processes, name, site)
    attend(processes, site, dict.fromkeys(("whole", *NAMES), 0))


def different_files(site: Path, files: list[Path]) -> list[str]:
    """The files of the server that are not those of the run in one process, byte for byte."""
    pairs = {path: (site / "server" / path, site / "whole" / path) for path in files}
    return [str(path) for path, (one, other) in pairs.items() if one.read_bytes() != other.read_bytes()]


def test_killed_and_started_again_over_a_faulty_hub_the_bits_are_those_of_one_process(hub, processes, site):
    def strike(pattern: str, name: str) -> Fault:
        """Kill a process at its first request of that kind, which has no effect."""
        return Fault(pattern, cut=True, before=lambda: processes.kill(name))

    hub.faults += [
        Fault(r"POST .*/tag/"),  # the first is let pass
        strike(r"POST .*/tag/", "server"),  # after the second announcement, before its tag
        strike(r"POST .*/commit/updates/site_a", "site_a"),  # after training, before anything is sent
        # after its update is there, before it knows
        Fault(r"POST .*/commit/updates/site_b", before=lambda: processes.kill("site_b")),
        strike(r"GET /api/whoami-v2", "site_c"),  # before its pull request is opened
        Fault(r"GET .*/refs", status=503, times=3),
        Fault(r"GET .*/refs", cut=True, times=2),
        Fault(r"POST .*/commit/main", delay=0.5),
        Fault(r"POST .*/preupload/", status=503),
        Fault(r"GET .*/resolve/[^/]*/updates/site_a/update.safetensors", truncate=100),
        Fault(r"GET .*/tree/", cut=True),
    ]
    run_beside_one_process(hub, processes, site)
    assert [fault.times for fault in hub.faults] == [0] * len(hub.faults)
    assert {name: processes.starts[name] for name in NAMES} == dict.fromkeys(NAMES, 2)

    repo = hub.store.repo(f"models/{REPO}")
    assert repo["private"]
    assert sorted(repo["tags"]) == ["announced-0001", "announced-0002", "announced-0003"]
    assert sorted(repo["refs"]) == ["main", "refs/pr/1", "updates/site_a", "updates/site_b"]
    titles = [commit["title"] for _, commit in reversed(hub.store.history(f"models/{REPO}", "main"))]
    asked = [f"Round {round_idx} of 3: 3 clients are asked" for round_idx in (1, 2, 3)]
    assert titles[1:] == [*asked, "The federation is finished after round 3"]  # nothing was announced twice
    assert different_files(site, FILES) == []

    # Who comes when it is over, or with something else, is told so before any training
    start_strangers(processes, site)
    attend(processes, site, {"nobody": 0, "changed": 0, "usurper": 1})
    assert "is served by another server" in processes.log("usurper")


RANKS = {"site_a": 2, "site_b": 4, "site_c": 8}
METHODS = {
    "scaffold, 8 bits": {
        "method": "scaffold", "method_kwargs": None, "optim": "sgd", "max_grad_norm": 0.0, "transforms": ["quantize"],
    },
    "flora, ranks": {"method": "flora", "method_kwargs": {"ranks": RANKS}},
}  # fmt: skip


@pytest.mark.parametrize("kwargs", METHODS.values(), ids=METHODS.keys())
def test_all_that_a_method_sends_travels(hub, processes, site, kwargs):
    """Control variates and int8 codes with their scales; a task for each rank and the change of the base model. The
    bits are those of one process."""
    one_stage = {"num_rounds": 2, "tuning": "joint", "stage_rounds": None}
    (site / "config.yaml").write_text(yaml.safe_dump(CONFIG | one_stage | kwargs))
    run_beside_one_process(hub, processes, site)
    files = sorted(path.relative_to(site / "whole") for path in (site / "whole/rounds").rglob("*.safetensors"))
    assert any(path.name == "base_delta.safetensors" for path in files) == ("ranks" in (kwargs["method_kwargs"] or {}))
    assert different_files(site, files) == []


def test_nothing_of_a_host_is_in_the_repository(hub, processes, site):
    """No row, path, token or client state: every blob of a federation is searched. Rounds are pushed beside."""
    pushed = {"num_rounds": 2, "push_to_hub": True, "hub_model_id": REPO, "hub_base_model": "alice/base"}
    (site / "config.yaml").write_text(yaml.safe_dump(CONFIG | pushed))
    hub.store.create("models/alice/base", True, "alice")
    files = [(path.name, hub.store.blob(path.read_bytes())) for path in sorted((site / "base").iterdir())]
    hub.store.commit("models/alice/base", "main", "Base", files, "alice", large=("model.safetensors",))
    start_server(hub, processes, site)
    for name in SITES:
        start(processes, name, site, None if name == "site_a" else "base")  # site_a finds it on the Hub
    processes.start("changed", "fedvlm_hf.commands.hub_client", [
        *command(site, "changed", "other"), "--client_id", "site_a", "--split", "client_00", "--use_cpu", "true",
    ], "hf_b")  # fmt: skip
    processes.start("nobody", "fedvlm_hf.commands.hub_client", [
        *command(site, "nobody"), "--client_id", "nobody", "--split", "client_00",
    ], "hf_b")  # fmt: skip
    attend(processes, site, {**dict.fromkeys(NAMES, 0), "changed": 1, "nobody": 1})
    assert "its weight files have other hashes" in processes.log("changed")
    assert not (site / "changed" / "answers").exists()
    assert "'nobody' is not one of the federation's clients: site_a, site_b, site_c" in processes.log("nobody")
    assert sorted(hub.store.repo(f"models/{REPO}")["tags"]) == [
        *("announced-0001", "announced-0002"), *("round-0000", "round-0001", "round-0002"),
    ]  # fmt: skip
    blobs = [path.read_bytes() for path in (site / "hub" / "blobs").iterdir()]
    secrets = [str(site), "Which colour", "hf_server", "hf_a", "vqa-0-0", "client_state"]
    assert [secret for secret in secrets for blob in blobs if secret.encode() in blob] == []
    logs = "".join(processes.log(name) for name in NAMES)
    assert not any(token in logs for token in USERS)
