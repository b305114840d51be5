"""What a client takes from a server, what neither side lets travel, and what both compare before training."""

import json
from dataclasses import replace

import pytest
import torch
from trl import ModelConfig

from fedvlm_hf import FederatedConfig
from fedvlm_hf.exchange.settings import (
    Facts,
    MismatchError,
    base_sha256,
    client_arguments,
    compare_facts,
    make_settings,
    package_versions,
    read_settings,
)
from fedvlm_hf.exchange.tensor_files import Entry
from tiny import save_tiny, tiny_llava


SERVER = {"use_cpu": True, "bf16": False, "report_to": "none", "num_rounds": 4, "learning_rate": 0.03, "max_steps": 2}


def settings(tmp_path, base: str = "org/base", **kwargs):
    args = FederatedConfig(str(tmp_path / "server"), **{**SERVER, **kwargs})
    return make_settings(args, ModelConfig(lora_r=4, use_peft=True), ["site_b", "site_a"], base)


def test_a_client_trains_with_the_servers_arguments(tmp_path):
    """Every argument that a bit depends on is the server's, and the paths are the client's own."""
    sent = settings(tmp_path, method="fedprox", method_kwargs={"mu": 0.1}, seed=7, round_lr_scheduler_type="cosine")
    own = {"output_dir": str(tmp_path / "client"), "use_cpu": True, "report_to": "none"}
    args, model_args = client_arguments(read_settings(sent.to_bytes()), own)
    assert (args.method, args.method_kwargs, args.seed) == ("fedprox", {"mu": 0.1}, 7)
    assert (args.learning_rate, args.num_rounds, args.max_steps) == (0.03, 4, 2)
    assert args.round_learning_rate(3) == FederatedConfig(
        "x", **SERVER, round_lr_scheduler_type="cosine"
    ).round_learning_rate(3)
    assert args.output_dir == str(tmp_path / "client")
    assert args.model_init_kwargs["use_safetensors"]
    assert not args.trust_remote_code
    assert (model_args.lora_r, model_args.use_peft) == (4, True)
    assert sent.client_ids == ["site_a", "site_b"]


def test_no_path_leaves_a_server(tmp_path):
    content = settings(tmp_path, base=str(tmp_path), run_name="secret", hub_token="hf_secret").to_bytes()
    assert json.loads(content)["base_model"] is None
    assert str(tmp_path).encode() not in content
    assert b"secret" not in content


@pytest.mark.parametrize(
    ("name", "value"),
    [("chat_template_path", "x.jinja"), ("debug", "underflow_overflow"), ("torch_compile", True), ("packing", True)],
)
def test_an_argument_that_clients_would_not_take_is_an_error_and_not_dropped(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"`{name}` is set to"):
        settings(tmp_path, **{name: value})


def test_client_names_become_branches(tmp_path):
    args = FederatedConfig(str(tmp_path), **SERVER)
    with pytest.raises(ValueError, match=r"`client_ids` has '\.\./a'"):
        make_settings(args, ModelConfig(), ["../a"], "org/base")
    with pytest.raises(ValueError, match="name each client once"):
        make_settings(args, ModelConfig(), ["a", "a"], "org/base")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["args"].update(trust_remote_code=True), "has 'trust_remote_code', which no client takes"),
        (lambda s: s["args"].update(output_dir="/home"), "has 'output_dir', which no client takes"),
        (lambda s: s["args"].update(report_to="wandb"), "has 'report_to', which no client takes"),
        (lambda s: s["args"].update(resume_from_checkpoint="/x"), "has 'resume_from_checkpoint', which no client"),
        (lambda s: s["model"].update(model_name_or_path="/x"), "has 'model_name_or_path', which no client takes"),
        (lambda s: s["args"].pop("seed"), "lacks 'seed'"),
        (lambda s: s.update(base_model="../../x"), "cannot be used"),
        (lambda s: s.update(base_model="/etc"), "cannot be used"),
        (lambda s: s.update(code="x"), "unknown field 'code'"),
    ],
)
def test_a_client_takes_nothing_else_from_a_server(tmp_path, change, message):
    content = json.loads(settings(tmp_path).to_bytes())
    change(content)
    with pytest.raises(ValueError, match=r"config\.json cannot be used") as error:
        read_settings(json.dumps(content).encode())
    assert message in str(error.value)


LAYOUT = {"w": Entry("F32", [2, 2]), "b": Entry("F32", [3])}
SERVER_FACTS = Facts("c" * 64, "b" * 64, "a" * 64, LAYOUT, package_versions())


def test_a_host_like_the_server_may_train():
    assert compare_facts(SERVER_FACTS, SERVER_FACTS) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_sha256": "0" * 64}, "weight files have other hashes"),
        ({"config_sha256": "0" * 64}, "configuration has changed since this client started"),
        ({"adapter": {"w": LAYOUT["w"]}}, "'b' is missing here and F32[3] there"),
        ({"adapter": LAYOUT | {"w": Entry("F32", [2, 3])}}, "'w' is F32[2, 3] here and F32[2, 2] there"),
        ({"adapter": LAYOUT | {"w": Entry("I8", [2, 2])}}, "'w' is I8[2, 2] here and F32[2, 2] there"),
        ({"adapter": {"b": LAYOUT["b"], "w": LAYOUT["w"]}}, "they are in another order"),
    ],
)
def test_another_base_configuration_or_adapter_is_refused(change, message):
    with pytest.raises(MismatchError) as error:
        compare_facts(replace(SERVER_FACTS, **change), SERVER_FACTS, is_any_version=True)
    assert message in str(error.value)


def test_other_versions_are_refused_or_reported():
    theirs = replace(SERVER_FACTS, versions=package_versions() | {"torch": "1.0.0"})
    with pytest.raises(MismatchError, match=r"torch .* here, 1\.0\.0 at the server.*--any_versions"):
        compare_facts(SERVER_FACTS, theirs)
    (line,) = compare_facts(SERVER_FACTS, theirs, is_any_version=True)
    assert "1.0.0 at the server" in line


def test_other_random_numbers_are_reported():
    """The server may be on a CPU and the client on a GPU: training starts from the server's tensors anyway."""
    (line,) = compare_facts(replace(SERVER_FACTS, adapter_sha256="0" * 64), SERVER_FACTS)
    assert "other random numbers" in line


def test_the_hash_of_a_base_is_of_its_weights_and_not_of_its_place(tmp_path):
    names = [save_tiny(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    a, b, c = (base_sha256(name) for name in names)
    assert a == b != c
    model, _ = tiny_llava()
    model.save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    shards = sorted((tmp_path / "shards").glob("*.safetensors"))
    assert len(shards) > 1
    before = base_sha256(str(tmp_path / "shards"))
    shards[0].write_bytes(shards[0].read_bytes()[:-1] + b"?")
    assert base_sha256(str(tmp_path / "shards")) != before
    shards[1].unlink()
    with pytest.raises(ValueError, match="or not all of them"):
        base_sha256(str(tmp_path / "shards"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no weights in safetensors"):
        base_sha256(str(tmp_path / "empty"))


def test_versions_are_those_that_are_installed():
    """Without the build, so that a server on a CPU and a client on a GPU agree."""
    assert package_versions()["torch"] == torch.__version__.partition("+")[0]
