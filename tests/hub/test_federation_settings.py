"""What a client takes from a server, and what neither side lets travel."""

import json

import pytest
from trl import ModelConfig

from fedvlm_hf import FederatedConfig
from fedvlm_hf.hub.federation.settings import client_arguments, make_settings, read_settings


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
