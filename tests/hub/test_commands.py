"""`fedvlm report` and `fedvlm merge` of runs on the Hub, and repositories with content that is refused."""

import json
import pickle

import pytest
import torch
from huggingface_hub import ModelCard

from hub_runs import TRAIN, changed_json, changed_tensor, files_of, put


COMMAND = """
from fedvlm_hf.cli import main
sys.stderr = sys.stdout
show(status=main(ARGV))
"""


def command(run, *argv, **kwargs):
    """What a command printed, and its exit status."""
    seen = run(COMMAND, ARGV=[str(word) for word in argv], **kwargs)
    return seen["status"], "\n".join(seen.output.splitlines()[:-1])


@pytest.mark.parametrize("name", ["fedadam", "flora"])
def test_a_round_on_the_hub_is_merged(run, home, whole, name):
    """The weights are those that PEFT merges; the last round if none is named."""
    for source, tag in ((f"alice/{name}@round-0001", "round-0001"), (f"alice/{name}", "round-0003")):
        out = home / f"merged {name} {tag}"
        status, printed = command(run, "merge", source, "--output_dir", out)
        assert status == 0, printed
        assert f"{tag} of alice/{name}, merged into alice/{name}-base, is in {out}/" in printed
        code = """
from fedvlm_hf import apply_base_delta
folder = snapshot_download(REPO, revision=TAG)
base = apply_base_delta(AutoModelForImageTextToText.from_pretrained(REPO + "-base"), folder)
expected = PeftModel.from_pretrained(base, folder).merge_and_unload().state_dict()
found = AutoModelForImageTextToText.from_pretrained(OUT).state_dict()
plain = AutoModelForImageTextToText.from_pretrained(REPO + "-base").state_dict()
show(names=list(found) == list(expected), off=max((found[k] - expected[k]).abs().max().item() for k in expected),
     moved=max((found[k] - plain[k]).abs().max().item() for k in expected))
"""
        seen = run(code, REPO=f"alice/{name}", TAG=tag, OUT=out)
        card = ModelCard.load(out / "README.md")
        assert (card.data.base_model, card.data.to_dict()["base_model_relation"]) == (f"alice/{name}-base", "finetune")
        assert f"run [alice/{name}](https://huggingface.co/alice/{name}) by `{name}`" in card.text
        score = whole[name]["metrics"][int(tag[-1])][0]["vqa_accuracy"]
        assert f"| vqa  | accuracy | {score:.3f} |" in card.text
        assert seen["names"]
        assert seen["off"] < 1e-6
        assert seen["moved"] > 1e-4


@pytest.mark.parametrize("name", ["local", "ditto"])
def test_the_model_of_a_client_on_the_hub_is_merged(run, home, whole, name):
    """Of a client whose branch has its state; each has another model."""
    status, printed = command(run, "merge", f"alice/{name}", "--output_dir", home / "nobody's")
    assert status == 2
    assert "Name one of hospital_a, hospital_b, hospital_c" in printed
    found = {}
    for client_id in ("hospital_a", "hospital_c"):
        out = home / f"merged {name} {client_id}"
        status, printed = command(run, "merge", f"alice/{name}", "--client_id", client_id, "--output_dir", out)
        assert status == 0, printed
        found[client_id] = (out / "model.safetensors").read_bytes()
    assert found["hospital_a"] != found["hospital_c"]


def test_runs_on_the_hub_are_compared_with_one_in_a_folder(run, home, whole):
    folder = home / "beside"
    kwargs = {"num_rounds": 3, "method": "fedavg"}
    run(TRAIN, OUT=folder, MODEL=home / "programs/my-base", RESUME=None, KWARGS=kwargs)
    status, printed = command(run, "report", "alice/fedadam", folder, "alice/ditto", "--output_dir", home / "compared")
    assert status == 0, printed
    (line,) = [line for line in printed.splitlines() if line.startswith("| vqa")]
    scores = [whole[name]["metrics"][3][0]["vqa_accuracy"] for name in ("fedadam", "ditto")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert {f"{score:.3f}" for score in scores} <= set(cells[2:])
    header = next(line for line in printed.splitlines() if line.startswith("| task"))
    assert all(name in header for name in ("**fedadam**", " fedavg ", " ditto "))
    assert sorted(path.name for path in (home / "compared").iterdir()) == ["index.html", "learning_curves.png"]
    page = (home / "compared" / "index.html").read_text()
    assert "alice/fedadam" in page
    assert str(home) not in page


def test_a_run_with_numbered_clients_is_compared_by_number(run, home, whole):
    """`two-stage` was pushed without the names of its clients, and has the same rows."""
    status, printed = command(
        run, "report", "alice/fedadam", "alice/two-stage", "--output_dir", home / "compared by number"
    )
    assert status == 0, printed


METRICS, CONFIG, EXPORT = "metrics.jsonl", "adapter_config.json", "adapter_model.safetensors"
RUN, CARD = "federated_state/run.json", "README.md"


def changed_line(content: bytes, *path: str, value) -> bytes:
    """The first record of `metrics.jsonl` changed."""
    first, rest = content.split(b"\n", 1)
    return changed_json(first, *path, value=value) + b"\n" + rest


SCORE = ("evaluations", "test", "scores")
BAD_REPORT = {
    "metrics-cut": (METRICS, lambda b: b[:-20], "is not JSON"),
    "metrics-a-list": (METRICS, lambda b: b"[1]\n" + b, "cannot be used"),
    "metrics-of-another-version": (METRICS, lambda b: changed_line(b, "more", value=1), "more"),
    "metrics-no-text": (METRICS, lambda b: b"\xff" + b, "is not text"),
    "metrics-missing": (METRICS, lambda b: None, "has no file metrics.jsonl"),
    "metrics-empty": (METRICS, lambda b: b"", "was never evaluated"),
    "metrics-nested": (METRICS, lambda b: b"[" * 100_000, "is not JSON"),
    "scores-text": (METRICS, lambda b: changed_line(b, *SCORE, value="high"), "`evaluations.test.scores` is 'high'"),
    "score-text": (METRICS, lambda b: changed_line(b, *SCORE, value={"vqa_accuracy": "1"}), "vqa_accuracy"),
    "score-infinite": (METRICS, lambda b: changed_line(b, *SCORE, value={"vqa_accuracy": 1e308 * 10}), "finite|range"),
    "evaluations-a-list": (METRICS, lambda b: changed_line(b, "evaluations", value=[]), "`evaluations` is []"),
    "clients-a-list": (METRICS, lambda b: changed_line(b, "clients", value=[1]), "`clients` is"),
    "loss-text": (METRICS, lambda b: changed_line(b, "clients", value={"a": {"train_loss": "x"}}), "train_loss"),
    "bytes-huge": (METRICS, lambda b: changed_line(b, "bytes_down", value=10**400), "64 bits"),
    "bytes-none": (METRICS, lambda b: changed_line(b, "bytes_up", value=None), "`bytes_up` is None"),
    "round-text": (METRICS, lambda b: changed_line(b, "round_idx", value="0"), "`round_idx` is '0'"),
    "rounds-twice": (METRICS, lambda b: b + b, "not in order"),
    "run-a-list": (RUN, lambda b: b"[]", "federated_state/run.json"),
    "run-without-method": (RUN, lambda b: b.replace(b'"method":', b'"methods":'), "lacks the field `method`"),
    "run-method-a-number": (RUN, lambda b: changed_json(b, "method", value=3), "`method` is 3"),
    "run-clients-a-list": (RUN, lambda b: changed_json(b, "clients", value=[]), "`clients` is []"),
    "run-evaluations-numbers": (
        RUN,
        lambda b: changed_json(b, "evaluations", value={"test": 1}),
        "`evaluations.test`",
    ),
    "run-config-text": (RUN, lambda b: changed_json(b, "config", value="x"), "`config` is 'x'"),
}

BAD_MERGE = {
    "pickled": (EXPORT, lambda b: pickle.dumps({"a": 1}), "is cut off or not a safetensors file"),
    "cut": (EXPORT, lambda b: b[: len(b) // 2], "is cut off or not a safetensors file"),
    "missing": (EXPORT, lambda b: None, "has no file adapter_model.safetensors"),
    "too-large": (EXPORT, lambda b: b + bytes(2**23), "and at most"),
    "other-shape": (EXPORT, lambda b: changed_tensor(b, lambda t: t[None].clone()), "1 tensors differ from this run"),
    "not-finite": (EXPORT, lambda b: changed_tensor(b, lambda t: t * torch.nan), "values that are not finite"),
    "config-cut": (CONFIG, lambda b: b[:-20], "adapter_config.json"),
    "config-a-list": (CONFIG, lambda b: b"[]", "adapter_config.json"),
    "config-missing": (CONFIG, lambda b: None, "has no file adapter_config.json"),
    "config-of-another-kind": (CONFIG, lambda b: changed_json(b, "peft_type", value="IA3"), "`peft_type` is 'IA3'"),
    "config-imports": (CONFIG, lambda b: changed_json(b, "megatron_config", value={"a": 1}), "`megatron_config`"),
    "config-rank-text": (CONFIG, lambda b: changed_json(b, "r", value="8"), "`r` is '8'"),
    "config-rank-huge": (CONFIG, lambda b: changed_json(b, "r", value=10**9), "has the rank 1,000,000,000, but"),
    "config-pattern-huge": (CONFIG, lambda b: changed_json(b, "rank_pattern", value={"x": 10**9}), "has the rank 1,0"),
    "config-targets-a-number": (CONFIG, lambda b: changed_json(b, "target_modules", value=3), "adapter_config.json"),
    "config-no-such-target": (CONFIG, lambda b: changed_json(b, "target_modules", value=["x"]), "adapter_config.json"),
    "config-no-base": (CONFIG, lambda b: changed_json(b, "base_model_name_or_path", value=None), "base_model_name_or"),
    "config-base-away": (
        CONFIG, lambda b: changed_json(b, "base_model_name_or_path", value="alice/away"), "alice/away",
    ),
    "run-seed-below-0": (RUN, lambda b: changed_json(b, "seed", value=-1), "`seed` is -1"),
    "run-no-such-tuning": (RUN, lambda b: changed_json(b, "config", "tuning", value="all"), "`tuning`"),
    "run-tuning-a-list": (RUN, lambda b: changed_json(b, "config", "tuning", value=[]), "`config.tuning` is []"),
    "run-stages-text": (RUN, lambda b: changed_json(b, "config", "stage_rounds", value="1"), "stage_rounds"),
    "card-broken": (CARD, lambda b: b"---\na: [\n---\n", "README.md"),
    "card-too-large": (CARD, lambda b: b + bytes(2**20), "and at most"),
    "card-nested": (CARD, lambda b: b"---\na: " + b"[" * 100_000 + b"\n---\n", "README.md"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "cases"), [(["report", "alice/flora"], BAD_REPORT), (["merge"], BAD_MERGE)], ids=["report", "merge"]
)
def test_a_bad_repository_is_refused_in_one_line_and_nothing_is_written(hub, run, home, whole, verb, cases):
    good = files_of(hub, "alice/fedadam")
    for name, (path, spoil, _) in cases.items():
        put(hub, f"alice/{verb[0]}-{name}", {**good, path: spoil(good[path])})
    code = """
import contextlib, io, shutil
from fedvlm_hf.cli import main
ends = {}
for name in NAMES:
    Path(OUT, name).mkdir(parents=True)
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        try:
            status = main([*VERB, f"alice/{VERB[0]}-{name}", "--output_dir", f"{OUT}/{name}/out"])
        except Exception as error:
            status = repr(error)
    ends[name] = [status, err.getvalue(), sorted(map(str, Path(OUT).glob("*/*")))]
    shutil.rmtree(OUT)
print()
show(ends=ends)
"""
    ends = run(code, NAMES=list(cases), VERB=verb, OUT=home / f"refused by {verb[0]}")["ends"]
    problems = {}
    for name, (_, _, reason) in cases.items():
        status, error, left = ends[name]
        lines = [line for line in error.splitlines() if line.startswith("fedvlm")]
        is_named = f"alice/{verb[0]}-{name}" in error and any(part in error for part in reason.split("|"))
        is_plain = "Traceback" not in error and "not as fedvlm_hf writes it" not in error
        if status != 2 or len(lines) != 1 or not is_named or left or not is_plain:
            problems[name] = (status, error[-400:], left)
    assert not problems, json.dumps(problems, indent=1)


def test_names_with_signs_of_formulas_are_drawn(hub, run, home, whole):
    """Matplotlib would read text between dollar signs as a formula, and fail where it is none."""
    good = files_of(hub, "alice/fedadam")
    odd = "$\\frac{$"
    lines = [changed_json(line, "evaluations", value={odd: json.loads(line)["evaluations"]["test"]})
             for line in good[METRICS].splitlines()]  # fmt: skip
    for name in ("odd-one", "odd-two"):
        described = {**json.loads(good[RUN]), "method": f"{odd} {name}", "evaluations": {odd: "1"}}
        put(hub, f"alice/{name}", {**good, METRICS: b"\n".join(lines) + b"\n", RUN: json.dumps(described).encode()})
    status, printed = command(run, "report", "alice/odd-one", "alice/odd-two", "--output_dir", home / "odd")
    assert status == 0, printed
    assert (home / "odd" / "learning_curves.png").exists()
