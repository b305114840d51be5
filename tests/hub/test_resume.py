"""Going on from a round on the Hub with nothing else at hand: same bits, and what is refused."""

import json
import pickle
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load, save

from hub_runs import CASES, TRAIN, changed_json, changed_tensor, files_of, put
from hub_server import Fault


@pytest.mark.parametrize(
    ("name", "base"),
    [("fedadam", "alice/fedadam-base"), ("two-stage", None), ("local", None), ("ditto", None), ("flora", None)],
)
def test_a_fresh_process_with_the_repository_alone_ends_in_the_same_bits(run, home, whole, name, base):
    """The base model is what was pushed beside the run, or a folder elsewhere with the same weights."""
    if base is None:
        base = home / f"base of {name}"
        shutil.copytree(home / "programs/my-base", base)
    out, source = home / f"{name} again", f"alice/{name}@round-0002"
    seen = run(TRAIN, OUT=out, MODEL=base, RESUME=source, KWARGS=CASES[name])
    assert seen["rounds"] == ["round-0002", "round-0003"]
    for what in ("end", "all", "states", "metrics"):
        assert seen[what] == whole[name][what], what
    assert "hospital_a" in json.dumps(whole[name]["metrics"])
    card = ModelCard.load(out / "rounds" / "round-0002" / "README.md")  # which was not pushed
    assert card.text.lstrip().startswith(f"# {name} again, round 2\n")
    score = whole[name]["metrics"][2][0]["vqa_accuracy"]
    assert f"| vqa  | accuracy | {score:.3f} |" in card.text
    assert (card.data.library_name, card.data.pipeline_tag) == ("peft", "image-text-to-text")
    # once more: it is this run by now, at a later round
    more = run(TRAIN, OUT=out, MODEL=base, RESUME=source, KWARGS=CASES[name], is_checked=False)
    assert f"holds this run up to round 3, later than `resume_from_checkpoint` '{source}'" in more.output
    assert "--resume_from_checkpoint true" in more.output


def of_format_1(content: bytes, base_model: str) -> bytes:
    """As an earlier version wrote it, which compared base models by name."""
    run = json.loads(content)
    return json.dumps(
        {k: v for k, v in run.items() if k not in ("format", "base_fingerprint")} | {"base_model": base_model}
    ).encode()


STATE, RUN = "federated_state/state.json", "federated_state/run.json"
TENSORS, SERVER = "federated_state/tensors.safetensors", "federated_state/server.safetensors"
EXPORT = "adapter_model.safetensors"

SPOILED = {
    "pickle-renamed": (EXPORT, lambda b: pickle.dumps({"a": 1}), "is cut off or not a safetensors file"),
    "half-a-file": (TENSORS, lambda b: b[: len(b) // 2], "is cut off or not a safetensors file"),
    "missing": (SERVER, lambda b: None, "has no file federated_state/server.safetensors"),
    "too-large": (SERVER, lambda b: b + bytes(2**23), "and at most"),
    "not-finite": (TENSORS, lambda b: changed_tensor(b, lambda t: t * torch.nan), "values that are not finite"),
    "other-dtype": (SERVER, lambda b: changed_tensor(b, torch.Tensor.half), "is F16 and not F32"),
    "other-shape": (EXPORT, lambda b: changed_tensor(b, lambda t: t[None].clone()), "1 tensors differ from this run"),
    "of-no-adapter": (TENSORS, lambda b: changed_tensor(b, lambda t: t[None].clone()), "does not belong to this run"),
    "no-layout": (TENSORS, lambda b: save(load(b)), "does not say the order of its tensors"),
    "no-json": (STATE, lambda b: b[:-20], "is not JSON"),
    "no-text": (RUN, lambda b: b"\xff\xfe", "is not text"),
    "no-record": (STATE, lambda b: b"{}", "it is not as fedvlm_hf writes it"),
    "another-round": (STATE, lambda b: changed_json(b, "record", "round_idx", value=1), "it is of round 1"),
    "rounds-left-out": ("metrics.jsonl", lambda b: b.split(b"\n", 1)[1], "does not have the rounds 0 to 2"),
    "not-a-number": (STATE, lambda b: changed_json(b, "server_scalars", value={"t": float("nan")}), "is not finite"),
    "client-out-of-folder": (
        STATE, lambda b: changed_json(b, "client_versions", value={"../../evil": 1}), "names '../../evil', which",
    ),
    "client-of-the-future": (
        STATE, lambda b: changed_json(b, "client_versions", value={"hospital_a": 3}), "has 3 for 'hospital_a'",
    ),
    "file-out-of-folder": ("../evil.safetensors", lambda b: b"x", "'../evil.safetensors', which is outside of"),
    "another-rate": (
        RUN, lambda b: changed_json(b, "config", "learning_rate", value=0.5),
        "config.learning_rate: 0.5 in alice/another-rate@round-0002, 0.01 now",
    ),
    "another-base": (
        RUN, lambda b: of_format_1(b, "alice/other-base"), "base_model: 'alice/other-base' in",
    ),
    "base-gone": (RUN, lambda b: of_format_1(b, "alice/gone"), "is no repository alice/gone"),
    "other-weights": (RUN, lambda b: changed_json(b, "base_fingerprint", value="0" * 32), "base_fingerprint: '0000"),
}  # fmt: skip


def test_what_is_spoiled_is_refused_in_plain_words_and_leaves_nothing(hub, run, home, whole):
    good = files_of(hub, "alice/fedadam")
    put(hub, "alice/other-base", {"model.safetensors": b"other weights"}, tag="v1")
    for name, (path, spoil, _) in SPOILED.items():
        put(hub, f"alice/{name}", {**good, path: spoil(good.get(path, b""))})
    code = """
data = dict(tiny_federation({"hospital_b": 4, "hospital_a": 3, "hospital_c": 2}, test_rows=1))
it = trainer(OUT, data, **{"num_rounds": 3, "eval_every": 1, "clients_per_round": 2, **KWARGS})
reasons = {}
for name in NAMES:
    try:
        it.train(resume_from_checkpoint=f"{name}@round-0002")
    except ValueError as error:
        reasons[name] = str(error)
show(reasons=reasons, left=[str(path) for path in Path(OUT).rglob("*")])
"""
    names = [f"alice/{name}" for name in SPOILED] + ["alice/nothing"]
    seen = run(code, OUT=home / "spoiled", KWARGS=CASES["fedadam"], NAMES=names)
    for name, (path, _, reason) in SPOILED.items():
        assert reason in seen["reasons"][f"alice/{name}"], name
        if name not in ("another-rate", "another-base", "base-gone", "other-weights"):
            assert path in seen["reasons"][f"alice/{name}"], name
    assert "There is no repository alice/nothing" in seen["reasons"]["alice/nothing"]
    assert seen["left"] == []


def test_a_download_that_is_cut_or_changed_leaves_nothing_and_a_later_one_works(hub, run, home, whole):
    """The client of huggingface_hub asks again for what a cut left out; what is changed only its hash tells."""
    good = files_of(hub, "alice/fedadam")
    changed = changed_tensor(good[EXPORT], lambda t: t + 1)
    source = put(hub, "alice/cut", {**good, EXPORT: changed})
    out, blob = home / "cut", hub.store.folder / "blobs" / hub.store.files("models/alice/cut", "main")[EXPORT]["blob"]
    arguments = {"OUT": out, "MODEL": home / "programs/my-base", "RESUME": source, "KWARGS": CASES["fedadam"]}
    blob.write_bytes(good[EXPORT])
    refused = run(TRAIN, **arguments, is_checked=False)
    assert f"adapter_model.safetensors of {source} was cut or changed" in refused.output
    assert not [path for path in out.rglob("*") if path.is_file()]
    blob.write_bytes(changed)
    hub.faults.append(Fault(r"GET .*alice/cut/resolve/.*/adapter_model", truncate=100, times=9))
    cut = run(f"import time; time.sleep = lambda seconds: None\n{TRAIN}", **arguments, is_checked=False)
    assert "alice/cut cannot be read now: the Hub cannot be reached (RemoteProtocolError: peer closed" in cut.output
    assert not [path for path in out.rglob("*") if path.is_file()]
    hub.faults.clear()
    assert run(TRAIN, **arguments)["rounds"] == ["round-0002", "round-0003"]


def test_what_clients_keep_is_needed_and_may_be_here(hub, run, home, whole):
    """Who went on without the branches would train other bits; a folder in which the clients trained has them."""
    source = put(hub, "alice/no-branches", files_of(hub, "alice/local"))
    arguments = {"MODEL": home / "programs/my-base", "RESUME": source, "KWARGS": CASES["local"]}
    refused = run(TRAIN, OUT=home / "not kept", **arguments, is_checked=False)
    assert (
        "those of hospital_a, hospital_b, hospital_c were not pushed. Train with `--push_client_adapters`"
        in refused.output
    )
    assert not (home / "not kept" / "rounds").exists()
    shutil.copytree(home / "kept by local", home / "kept" / "client_state")
    seen = run(TRAIN, OUT=home / "kept", **arguments)
    assert (seen["states"], seen["metrics"]) == (whole["local"]["states"], whole["local"]["metrics"])


def test_a_kill_amid_the_download_leaves_no_round(run, home, whole):
    """Just before the rename from which the round counts, when all else is there; then the same command again."""
    kill = """
rename = os.replace
def replace(source, target):
    if Path(target).parent.name == "rounds":
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.replace = replace
"""
    out = home / "killed"
    arguments = {"OUT": out, "MODEL": home / "programs/my-base", "KWARGS": CASES["local"]}
    killed = run(kill + TRAIN, **arguments, RESUME="alice/local@round-0002", is_checked=False)
    assert killed.status == -9
    assert (out / "run.json").exists()
    assert not list((out / "rounds").glob("round-*"))
    seen = run(TRAIN, **arguments, RESUME="alice/local@round-0002")
    assert (seen["states"], seen["metrics"]) == (whole["local"]["states"], whole["local"]["metrics"])


def test_an_optimizer_that_goes_on_is_not_on_the_hub(run, home):
    base, kwargs = (
        home / "programs/my-base",
        {"method": "central", "clients_per_round": None, "num_rounds": 2, "max_steps": 1},
    )
    pushed = {**kwargs, "push_to_hub": True, "hub_model_id": "alice/central"}
    ended = run(TRAIN, OUT=home / "central", MODEL=base, RESUME=None, KWARGS=pushed)
    arguments = {"MODEL": base, "RESUME": "alice/central@round-0001", "KWARGS": kwargs}
    refused = run(TRAIN, OUT=home / "central elsewhere", **arguments, is_checked=False)
    assert "Trainer keeps it in files that are never pushed" in refused.output
    assert "client_state/" in refused.output
    shutil.rmtree(home / "central" / "rounds")
    assert run(TRAIN, OUT=home / "central", **arguments)["all"] == ended["all"]


def test_a_folder_with_another_run_is_left_alone(run, home, whole):
    out, base = home / "another", home / "programs/my-base"
    run(TRAIN, OUT=out, MODEL=base, RESUME=None, KWARGS={"num_rounds": 1, "seed": 7})
    arguments = {"MODEL": base, "RESUME": "alice/fedadam@round-0002", "KWARGS": CASES["fedadam"]}
    refused = run(TRAIN, OUT=out, **arguments, is_checked=False)
    assert "holds another run, so it cannot be resumed" in refused.output
    assert "seed: 7 in `output_dir`, 42 now" in refused.output


def test_who_may_not_read_is_told_so(hub, run, home, whole):
    arguments = {"OUT": home / "nobody", "MODEL": home / "programs/my-base", "KWARGS": CASES["fedadam"]}
    refused = run(TRAIN, **arguments, RESUME="alice/fedadam@round-0002", token="", is_checked=False)
    assert "There is no repository alice/fedadam, or this token may not read it" in refused.output
    refused = run(TRAIN, **arguments, RESUME="alice/fedadam@round-0009", is_checked=False)
    assert "alice/fedadam has no revision 'round-0009'. `fedvlm rounds alice/fedadam` lists" in refused.output
    assert "hf_alice" not in refused.output
    assert not (home / "nobody" / "rounds").exists()
