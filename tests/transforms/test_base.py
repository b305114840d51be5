"""How names become transforms, and whole runs with transforms: from names, objects and the shell, and resumed."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from federation import federated
from fedvlm_hf.callbacks import RoundCallback
from fedvlm_hf.launch import DataArguments, parse_recipe
from fedvlm_hf.methods import Method, resolve_method
from fedvlm_hf.run_description import RunMismatchError
from fedvlm_hf.testing import scalars
from fedvlm_hf.transforms import Transform, resolve_transforms
from fedvlm_hf.transforms.clip import Clip
from fedvlm_hf.transforms.gaussian import Gaussian
from fedvlm_hf.transforms.quantize import Quantize
from method_copies import Controlled, ControlledMean


FEDAVG = resolve_method("fedavg")
DP = {"transforms": ["clip", "gaussian"], "transform_kwargs": {"max_norm": 0.01, "noise_multiplier": 0.5}}


# --- names ---


@pytest.mark.parametrize(
    ("transforms", "kwargs", "message"),
    [
        (["clap"], None, "`transforms` 'clap' is unknown. Did you mean 'clip'"),
        ("clip", None, "`transforms` must be a list of names, such as .* got 'clip'"),
        (["clip"], None, "`transform_kwargs` has no 'max_norm', which Clip in `transforms` needs: Largest L2 norm"),
        (["clip"], {"max_norms": 1}, "`transform_kwargs` 'max_norms' is unknown. Did you mean 'max_norm'"),
        (None, {"bits": 8}, "`transform_kwargs` has 'bits', but no transform in `transforms` has knobs"),
        ([Quantize()], {"bits": 8}, "`transform_kwargs` has 'bits', but no transform in `transforms` has knobs"),
    ],
)
def test_a_mistake_is_named(transforms, kwargs, message):
    with pytest.raises(ValueError, match=message):
        resolve_transforms(transforms, kwargs, FEDAVG)


@pytest.mark.parametrize("method", ["central", "local"])
def test_a_baseline_has_nothing_to_transform(method):
    with pytest.raises(ValueError, match=f"`transforms` changes what travels .* `method` {method.title()} nothing"):
        resolve_transforms(["quantize"], None, resolve_method(method))
    assert resolve_transforms([], None, resolve_method(method)) == ()


# --- whole runs ---


def shared_size(trainer) -> tuple[int, int]:
    """Number of values, and of tensors, that travel."""
    tensors = trainer.federation.tensors
    return tensors.flat.numel(), len(tensors)


def test_names_and_objects_are_the_same_run(tmp_path):
    """With clip the clients count the same, and the noise of a run follows from its seed."""
    digests = []
    for name, arguments in {
        "names": DP,
        "objects": {"trainer_kwargs": {"transforms": [Clip(0.01), Gaussian(0.5, 0.01)]}},
        "arguments": {"transforms": [Clip(0.01), Gaussian(0.5, 0.01)]},
        "clip": {"transforms": ["clip"], "transform_kwargs": {"max_norm": 0.01}},
        "seed": {**DP, "seed": 1},
    }.items():
        trainer = federated(tmp_path / name, num_rounds=1, **arguments)
        trainer.train()
        digests.append(trainer.federation.tensors.digest())
        assert [c["num_samples"] for c in trainer.federation.end.history[-1].clients.values()] == [1, 1]
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests)) == 3


def test_a_quarter_of_the_bytes_goes_up(tmp_path):
    trainer = federated(tmp_path, num_rounds=1, transforms=["quantize"])
    trainer.train()
    values, tensors = shared_size(trainer)
    record = trainer.federation.end.history[-1]
    assert record.bytes_down == 2 * 4 * values
    assert record.bytes_up == 2 * (values + 4 * tensors)
    assert 0.25 < record.bytes_up / record.bytes_down < 0.26
    plain = federated(tmp_path / "plain", num_rounds=1)
    plain.train()
    change, error = (
        (end - start).norm().item()
        for end, start in (
            (plain.federation.tensors.flat, plain.local.initial_shared().flat),
            (trainer.federation.tensors.flat, plain.federation.tensors.flat),
        )
    )
    assert 0 < error < 0.02 * change


def test_the_card_and_run_json_show_them(tmp_path):
    federated(tmp_path, num_rounds=1, **DP).train()
    words = " ".join((tmp_path / "README.md").read_text().split())
    assert "clip (max_norm=0.01), gaussian (noise_multiplier=0.5, max_norm=0.01, secret=False)" in words
    names = [transform["name"] for transform in json.loads((tmp_path / "run.json").read_text())["transforms"]]
    assert names == ["clip", "gaussian"]


def test_a_method_whose_clients_send_control_groups_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="'clip', but clients also send the control group 'change'"):
        federated(tmp_path, method=Method(Controlled(), ControlledMean()), **DP)


# --- resuming ---


@dataclass(frozen=True)
class CoarseWithErrorFeedback(Transform):
    """Sends multiples of 2^-8; a client keeps what it did not send, and adds it in its next round."""

    def on_client(self, update, context):
        left = update.state.get("left", update.tensors.with_flat(torch.zeros_like(update.tensors.flat))).flat
        total = update.tensors.flat + left
        sent = (total * 256).round() / 256
        kept = {"left": update.tensors.with_flat(total - sent)}
        return replace(update, tensors=update.tensors.with_flat(sent), state=kept)


@dataclass(frozen=True)
class ShrinksWithTheRounds(Transform):
    """The server counts its rounds and divides the mean change by their number."""

    def on_server(self, aggregate, context):
        count = aggregate.state.get("count", scalars(n=[0.0]))["n"].item() + 1
        change = aggregate.tensors.with_flat(aggregate.tensors.flat / count)
        return replace(aggregate, tensors=change, state={"count": scalars(n=[count])})


class StopAfter(RoundCallback):
    def __init__(self, round_idx):
        self.round_idx = round_idx

    def on_round_end(self, end):
        return end.record.round_idx == self.round_idx


def stateful(folder: Path, stop_after=None):
    transforms = [CoarseWithErrorFeedback(), Clip(5.0), ShrinksWithTheRounds(), Gaussian(0.01, 5.0), Quantize()]
    trainer_kwargs = {"transforms": transforms, "callbacks": [StopAfter(stop_after)]}
    return federated(folder, num_rounds=3, clients_per_round=1, trainer_kwargs=trainer_kwargs)


def test_a_resumed_run_has_the_same_bits_and_the_transforms_their_state(tmp_path):
    whole = stateful(tmp_path / "whole")
    whole.train()
    stateful(tmp_path / "cut", stop_after=1).train()
    resumed = stateful(tmp_path / "cut")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.federation.tensors.digest() == whole.federation.tensors.digest()
    kept = whole.federation.end.transforms
    assert {name: group["n"].item() for name, group in kept.items()} == {"transform.2.ShrinksWithTheRounds.count": 3.0}
    assert resumed.federation.end.transforms.keys() == kept.keys()
    versions = whole.federation.end.client_versions
    assert resumed.federation.end.client_versions == versions
    for client_id in versions:
        state = whole.store.load(client_id)
        assert state.keys() == {"transform.0.CoarseWithErrorFeedback.left"}
        assert state["transform.0.CoarseWithErrorFeedback.left"].flat.abs().max().item() > 0
        assert resumed.store.load(client_id).keys() == state.keys()
        for name, group in resumed.store.load(client_id).items():
            assert group.digest() == state[name].digest()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"transform_kwargs": {"max_norm": 0.02, "noise_multiplier": 0.5}}, r"transforms\.clip\.max_norm: 0\.01 in"),
        ({"transform_kwargs": {**DP["transform_kwargs"], "secret": True}}, r"transforms\.gaussian\.secret: False in"),
        (
            {"transforms": ["clip"], "transform_kwargs": {"max_norm": 0.01}},
            r"transforms: \['clip', 'gaussian'\] in `output_dir`, \['clip'\] now",
        ),
    ],
)
def test_a_changed_knob_is_refused_by_name(tmp_path, other, message):
    federated(tmp_path, num_rounds=1, **DP).train()
    trainer = federated(tmp_path, num_rounds=2, **{**DP, **other})
    with pytest.raises(RunMismatchError, match=message):
        trainer.train(resume_from_checkpoint=True)


# --- the shell ---


@pytest.mark.parametrize("way", ["options", "yaml"])
def test_they_come_from_the_shell(tmp_path, way):
    """With the parser of the recipes."""
    argv = ["--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false", "--num_threads", "1"]
    if way == "options":
        argv += ["--transforms", "clip", "gaussian"]
        argv += ["--transform_kwargs", '{"max_norm": 1.0, "noise_multiplier": 0.5}']
    else:
        config = tmp_path / "run.yaml"
        config.write_text(
            "transforms: [clip, gaussian]\ntransform_kwargs:\n  max_norm: 1.0\n  noise_multiplier: 0.5\n"
        )
        argv += ["--config", str(config)]
    _, args, _ = parse_recipe([*argv, "--model_name_or_path", "x"], DataArguments, "", "")
    assert resolve_transforms(args.transforms, args.transform_kwargs, FEDAVG) == (Clip(1.0), Gaussian(0.5, 1.0))
