"""What a card says about a run, and what it must not reveal."""

import json
from dataclasses import dataclass, replace

import pytest
from trl import DPOConfig

from federation import federated
from fedvlm_hf.config import FederatedConfig
from fedvlm_hf.methods import resolve_method
from fedvlm_hf.reporting.run_info import (
    ALWAYS_SHOWN,
    hyperparameters,
    is_hub_id,
    method_paper,
    public_command,
    public_name,
    public_value,
)
from fedvlm_hf.transforms import Transform, TransformContext
from fedvlm_hf.types import ClientUpdate
from tiny import save_tiny, tiny_federation


def test_what_matters_and_what_differs_is_shown(tmp_path):
    default = {"output_dir": str(tmp_path), "bf16": False, "use_cpu": True}
    resolved = {"loss_type"}  # the default of TRL before 1.16 is None, which is replaced after parsing
    assert sorted(hyperparameters(FederatedConfig(**default)).keys() - resolved) == sorted(ALWAYS_SHOWN)
    changed = {
        "adam_beta2": 0.95, "method_kwargs": {"mu": 0.1}, "learning_rate": 3e-3, "logging_steps": 7, "hub_token": "t",
        "run_name": "r", "dataloader_num_workers": 2,
    }  # fmt: skip
    shown = hyperparameters(FederatedConfig(**default, **changed))
    assert shown.keys() - resolved - set(ALWAYS_SHOWN) == {"adam_beta2", "method_kwargs"}
    assert (shown["learning_rate"], shown["method_kwargs"]) == (3e-3, {"mu": 0.1})


def test_other_configurations_are_compared_with_their_own_defaults(tmp_path):
    """DPO's `beta` is not a field of FederatedConfig."""
    default = {"output_dir": str(tmp_path), "bf16": False, "use_cpu": True}
    assert "beta" not in hyperparameters(DPOConfig(**default))
    shown = hyperparameters(DPOConfig(**default, beta=0.3))
    assert shown.keys() - set(ALWAYS_SHOWN) == {"beta"}
    assert "num_rounds" not in shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/someone/cache", "cache"),
        ("~/cache", "cache"),
        ("C:\\Users\\someone\\cache", "cache"),
        ("owner/name", "owner/name"),
        ({"cache_dir": "/data/hub", "dtype": "float32"}, {"cache_dir": "hub", "dtype": "float32"}),
        ([["/a/b"], 1.5, None], [["b"], 1.5, None]),
    ],
)
def test_absolute_paths_are_cut(value, expected):
    assert public_value(value) == expected


def test_a_hub_id_is_owner_and_name_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "base").mkdir(parents=True)
    assert is_hub_id("owner/name")
    for name in ("out/base", str(tmp_path), "name", "./out/base", "a/b/c", "Fed-Nature mini"):
        assert not is_hub_id(name), name
    assert public_name("owner/name") == "owner/name"
    assert public_name("out/base") == "base"
    assert public_name(f"{tmp_path}/out/base/") == "base"
    assert public_name("Fed-Nature mini") == "Fed-Nature mini"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["recipes/fed_nature.py", "--method", "fedyogi"], "accelerate launch recipes/fed_nature.py --method fedyogi"),
        (["/home/someone/code/run.py", "--output_dir", "/data/out/x"], "accelerate launch run.py --output_dir x"),
        (["run.py", "--output_dir=/data/out/x", "--seed=1"], "accelerate launch run.py --output_dir=x --seed=1"),
        (["run.py", "--hub_token", "hf_secret", "--seed", "1"], "accelerate launch run.py --seed 1"),
        (["run.py", "--hub_token=hf_secret", "--resume_from_checkpoint", "true"], "accelerate launch run.py"),
        (
            ["run.py", "--model_init_kwargs", '{"cache_dir": "/data/hub"}'],
            """accelerate launch run.py --model_init_kwargs '{"cache_dir": "hub"}'""",
        ),
        (["run.py", "--tags", "[not json"], "accelerate launch run.py --tags '[not json'"),
        (["/usr/bin/fedvlm", "hub-server", "--repo", "org/x"], "fedvlm hub-server --repo org/x"),
        (["/usr/lib/python3/site-packages/pytest/__main__.py", "-x"], None),
        (["/usr/lib/python3/site-packages/ipykernel_launcher.py"], None),
        (["-c"], None),
        ([""], None),
    ],
)
def test_a_command_names_no_path_and_no_token(argv, expected):
    assert public_command(argv) == expected


@pytest.mark.parametrize(
    ("method", "paper"),
    [
        ("fedavg", "1602.05629"),
        ("fedyogi", "2003.00295"),
        ("fedprox", "1812.06127"),
        ("fedprox+fedadam", None),
        ("local", None),
        ("central", None),
    ],
)
def test_the_paper_is_that_of_the_methods_file(method, paper):
    """A method with two papers has no single paper, and a baseline has none."""
    link = method_paper(resolve_method(method))
    assert link == (paper and f"https://huggingface.co/papers/{paper}")


@dataclass(frozen=True)
class Halve(Transform):
    """Halve the updates on the way to the server."""

    factor: float = 0.5

    def on_client(self, update: ClientUpdate, context: TransformContext) -> ClientUpdate:
        return replace(update, tensors=update.tensors.with_flat(update.tensors.flat * self.factor))


def test_transforms_are_named_with_their_knobs(tmp_path):
    """The card joins their descriptions, so they must be text."""
    data = tiny_federation({"client_00": 2}, test_rows=1)
    trained = federated(
        tmp_path / "run", data, num_rounds=1, max_steps=1, trainer_kwargs={"transforms": [Halve(0.25)]}
    )
    trained.train()
    info = json.loads((tmp_path / "run" / "card.json").read_text())
    assert [text.endswith("Halve (factor=0.25)") for text in info["transforms"]] == [True]
    assert "Halve (factor=0.25) on their way to the server." in (tmp_path / "run" / "README.md").read_text()


def test_a_run_says_what_it_is_made_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["recipes/x.py", "--output_dir", str(tmp_path)])
    base = tmp_path / "base"
    save_tiny(base)
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: tiny\nlicense_link: LICENSE\n---\n\n# Tiny\n")
    data = tiny_federation({"client_00": 2, "client_01": 2}, test_rows=1)
    for rows in data.values():
        rows.info.dataset_name, rows.info.config_name = "owner/fed", "noniid"
    kwargs = {"num_rounds": 1, "max_steps": 1, "method": "fedadam", "method_kwargs": {"server_lr": 0.5}}
    federated(tmp_path / "run", data, model=str(base), **kwargs).train()
    info = json.loads((tmp_path / "run" / "card.json").read_text())
    assert info["knobs"] == {
        "server_lr": 0.5, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3, "v0": None, "variant": "paper",
        "lora_r": 8, "lora_alpha": 32, "lora_dropout": 0.05,
    }  # fmt: skip
    assert (info["dataset"], info["dataset_config"]) == ("owner/fed", "noniid")
    assert [info[key] for key in ("license", "license_name", "license_link")] == ["other", "tiny", "LICENSE"]
    assert info["command"] == f"accelerate launch recipes/x.py --output_dir {tmp_path.name}"
    assert info["base_model"] == str(base)
    assert info["is_simulated"]
    assert info["hub_model_id"] is None
    assert str(tmp_path) not in (tmp_path / "run" / "README.md").read_text()
