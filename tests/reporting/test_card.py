import json
import platform
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftConfig
from transformers import AutoModelForImageTextToText

import fedvlm_hf
from federation import federated
from fedvlm_hf.files import path_from_here
from fedvlm_hf.hub.layout import PushTarget
from fedvlm_hf.hub.pack import Packer
from fedvlm_hf.reporting.card import CardCallback, duration, model_card
from fedvlm_hf.reporting.round_card import round_card
from fedvlm_hf.reporting.run_info import RunInfo
from records import HISTORY, drive, record
from tiny import save_tiny, tiny_federation


CONFIG = {"num_rounds": 2, "output_dir": "/home/someone/out"}
SHOWN = {"num_rounds": 2, "learning_rate": 0.003, "method_kwargs": {"mu": 0.1}}
INFO = RunInfo(
    "owner/base", "fedavg", "joint", {"a": 1500, "b": 10}, CONFIG, SHOWN, dataset="owner/data", license="mit"
)


def test_metadata_reads_back(tmp_path):
    drive(CardCallback(tmp_path / "run", INFO), HISTORY)
    data = ModelCard.load(tmp_path / "run" / "README.md").data
    assert data.base_model == "owner/base"
    assert data.base_model_relation == "adapter"
    assert data.datasets == ["owner/data"]
    assert data.library_name == "peft"
    assert data.license == "mit"
    assert data.pipeline_tag == "image-text-to-text"
    assert data.tags == ["federated-learning", "fedvlm_hf", "trl", "lora", "sft"]
    assert data.model_name == "run"
    results = {result.metric_name: result for result in data.eval_results}
    assert results.keys() == {"vqa_accuracy", "grounding_mean_iou", "grounding_accuracy_at_50"}
    assert results["vqa_accuracy"].metric_value == 0.75
    assert results["vqa_accuracy"].metric_type == "accuracy"
    assert results["vqa_accuracy"].dataset_type == "owner/data"
    assert results["vqa_accuracy"].dataset_split == "test"


def test_the_card_describes_the_run():
    text = model_card(INFO, HISTORY, "run").text
    for part in (
        "a LoRA adapter of the language model and the connector for [owner/base](https://huggingface.co/owner/base)",
        "trained by `fedavg` in 2 rounds over 2 clients with 1,510 rows of [owner/data](https://huggingface.co/datasets/",
        "| vqa        | accuracy       |   0.500 |   0.750 |",
        "| a      |         1,500 |",
        "| `learning_rate` | `0.003`       |",
        "| `method_kwargs` | `{'mu': 0.1}` |",
        "![Learning curves](report/learning_curves.png)",
        'base = AutoModelForImageTextToText.from_pretrained("owner/base")',
        'model = PeftModel.from_pretrained(base, "run/rounds/round-0002")',
        "Traffic per client and round: 1.00 MB down, 2.00 MB up; 12.00 MB in total over 2 rounds.",
        "without clipping, noise or secure aggregation",
        "All clients were simulated by one program.",
        f"python {platform.python_version()}, fedvlm_hf {fedvlm_hf.__version__}, torch ",
    ):
        assert part in text, part


def test_a_pushed_card_loads_from_the_hub_and_shows_no_image_of_the_test():
    """The same metadata comes back from the text, so the Hub finds scores, base model and license."""
    info = replace(INFO, hub_model_id="owner/run", dataset_config="noniid", license="other", license_name="llama3.2")
    card = model_card(info, HISTORY, "owner/run", is_public=True)
    for part in (
        'model = PeftModel.from_pretrained(base, "owner/run", revision="round-0002")',
        'pipeline("image-text-to-text", "owner/run")',
        "fedvlm rounds owner/run",
        '--resume_from_checkpoint "owner/run@round-0002"',
        "report/learning_curves.png",
        "[owner/data](https://huggingface.co/datasets/owner/data), partition `noniid`.",
    ):
        assert part in card.text, part
    assert "samples.png" not in card.text
    assert "samples.png" in model_card(info, HISTORY, "run").text
    back = ModelCard(str(card)).data
    assert back.to_dict() == card.data.to_dict()
    assert (back.license, back.license_name, back.model_name) == ("other", "llama3.2", "owner/run")
    results = [(r.metric_name, r.metric_value, r.dataset_config, r.dataset_split) for r in back.eval_results]
    assert ("vqa_accuracy", 0.75, "noniid", "test") in results
    assert len(results) == 3


def test_text_is_never_taken_for_metadata_or_a_template():
    """Users choose the names: none of them may start another block of YAML or be rendered as a template."""
    info = replace(
        INFO, dataset="{{ 7 * 7 }} {% raw %}: [", license_name="---\nbase_model: evil/other", license="other"
    )
    card = model_card(info, HISTORY, "run: {{ 1 }}")
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
    assert card.data.base_model == "owner/base"
    assert "{{ 7 * 7 }}" in card.text
    assert "# run: {{ 1 }}" in card.text


def test_knobs_command_and_hosts_are_named():
    info = replace(INFO, knobs={"server_lr": 0.1, "lora_r": 8}, command="accelerate launch x.py", is_simulated=False)
    text = model_card(info, HISTORY, "run").text
    assert "| `server_lr`     | `0.1`         |" in text
    assert "```bash\naccelerate launch x.py\n```" in text
    assert "simulated" not in text


def test_a_changed_base_is_changed_again_before_loading():
    info = replace(INFO, changes_base=True)
    text = model_card(info, HISTORY, "run").text
    assert "from fedvlm_hf import apply_base_delta\n" in text
    assert 'folder = "run/rounds/round-0002"\nbase = apply_base_delta(base, folder)\n' in text
    assert "model = PeftModel.from_pretrained(base, folder)" in text
    text = model_card(replace(info, hub_model_id="owner/run"), HISTORY, "run").text
    assert 'folder = snapshot_download("owner/run", revision="round-0002")\nbase = apply_base_delta(' in text
    assert "apply_base_delta" not in model_card(INFO, HISTORY, "run").text


def test_personal_models_are_explained():
    info = replace(INFO, is_personal=True, hub_model_id="owner/run")
    text = model_card(info, HISTORY, "run").text
    assert "the scores are those of each client's own model" in text
    assert "clients/a" not in text
    info = replace(info, config={**CONFIG, "push_client_adapters": True})
    assert (
        'PeftModel.from_pretrained(base, "owner/run", revision="clients/a")' in model_card(info, HISTORY, "run").text
    )


def test_what_a_card_is_made_of_is_kept_beside_it(tmp_path):
    drive(CardCallback(tmp_path / "run", INFO), HISTORY)
    kept = RunInfo(**json.loads((tmp_path / "run" / "card.json").read_text()))
    folder = path_from_here(tmp_path / "run")
    assert str(model_card(kept, HISTORY, "run", folder=folder)) + "\n" == (tmp_path / "run" / "README.md").read_text()


def test_nothing_of_the_machine_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    shown = {"model_init_kwargs": {"cache_dir": str(tmp_path / "cache")}}
    info = RunInfo(str(tmp_path / "base"), "fedavg", "llm", {"a": 1}, CONFIG, shown, dataset=str(tmp_path / "rows"))
    card = model_card(info, HISTORY, "run")
    assert str(tmp_path) not in str(card)
    assert "someone" not in str(card)
    assert platform.node() not in re.findall(r"[\w.-]+", str(card))
    assert 'from_pretrained("./base")' in card.text
    assert "| `model_init_kwargs` | `{'cache_dir': 'cache'}` |" in card.text
    # the metadata would link to another model and dataset with these names
    assert card.data.base_model is None
    assert card.data.datasets is None
    assert card.data.eval_results[0].dataset_type == "rows"


def test_the_embedded_base_is_loaded_by_name():
    base = Path(fedvlm_hf.__file__).parent / "mini" / "llava"
    text = model_card(RunInfo(str(base), "fedavg", "joint", {"a": 1}), HISTORY, "run").text
    assert 'AutoModelForImageTextToText.from_pretrained(base_model("llava"))' in text
    assert "from fedvlm_hf.mini import base_model\n" in text
    assert str(base.parent) not in text


def test_the_card_names_data_tasks_rows_scores_by_client_and_cost():
    """Three rounds of 4.5 s; each record has a peak memory of 1 GB."""
    info = replace(INFO, tasks=["vqa", "grounding"], eval_rows={"test": 1200}, hardware="1 x NVIDIA H200")
    text = model_card(info, HISTORY, "run").text
    for part in (
        "(tasks: vqa, grounding)",
        "Evaluation set `test` (1,200 rows), with greedily generated answers:",
        "Scores of each client's rows of `test`:",
        "| a      | vqa       | accuracy |   0.500 |   0.750 |",
        "| b      | grounding | mean_iou |   0.250 |   0.500 |",
        "Time: 14 s on 1 x NVIDIA H200, of which 0 s for evaluation. Peak memory: 1.00 GB of the process.",
    ):
        assert part in text, part
    accelerated = [replace(line, peak_accelerator_memory=2_500_000_000) for line in HISTORY]
    assert "1.00 GB of the process and 2.50 GB of the accelerator." in model_card(info, accelerated, "run").text


DURATIONS = [(0.4, "0 s"), (59.6, "1 min 0 s"), (372, "6 min 12 s"), (12000, "3 h 20 min")]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text


def code_of(card: Path) -> str:
    return re.search(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)[1]


@pytest.mark.parametrize("method", ["fedavg", "flora"])
def test_the_snippets_of_a_run_and_of_its_rounds_run_as_they_stand(tmp_path, monkeypatch, capsys, method):
    """From the directory in which the run was started. FLoRA changes the base model too."""
    monkeypatch.chdir(tmp_path)
    base = save_tiny(tmp_path / "base")
    data = tiny_federation({"client_00": 4, "client_01": 4}, test_rows=2)
    run = federated(Path("out/run"), data, model=base, method=method, num_rounds=2, max_steps=2)
    run.train()
    weights = {}
    for card in ("out/run/README.md", "out/run/rounds/round-0001/README.md", "out/run/rounds/round-0002/README.md"):
        capsys.readouterr()
        namespace = {}
        exec(code_of(Path(card)), namespace)
        assert capsys.readouterr().out.endswith("\n")
        assert len(namespace["output"][0]) > namespace["inputs"]["input_ids"].shape[1]
        weights[card] = torch.cat([value.flatten() for value in namespace["model"].merge_and_unload().parameters()])
        # written by the run, without the template and the paths of PEFT
        text = Path(card).read_text(encoding="utf-8")
        assert "More Information Needed" not in text
        assert str(tmp_path) not in text
    first, last = weights["out/run/rounds/round-0001/README.md"], weights["out/run/rounds/round-0002/README.md"]
    assert torch.equal(weights["out/run/README.md"], last)
    assert not torch.equal(first, last)
    assert "# run, round 2\n" in Path("out/run/rounds/round-0002/README.md").read_text(encoding="utf-8")
    config = PeftConfig.from_pretrained("out/run/rounds/round-0002")
    assert config.base_model_name_or_path == "./base"
    assert AutoModelForImageTextToText.from_pretrained(config.base_model_name_or_path) is not None


def test_a_card_of_a_round_has_its_scores():
    card = round_card(INFO, HISTORY[2], "out/run")
    assert "# run, round 2\n" in card.text
    assert "| vqa        | accuracy       | 0.750 |" in card.text
    assert 'PeftModel.from_pretrained(base, "./out/run/rounds/round-0002")' in card.text
    assert card.data.base_model == "owner/base"
    assert card.data.license == "mit"


def test_a_pushed_card_runs_from_its_repository(tmp_path, monkeypatch, capsys):
    """The repository is replaced by the folder of the round that would be pushed; the code is otherwise unchanged."""
    monkeypatch.chdir(tmp_path)
    base = save_tiny(tmp_path / "base")
    data = tiny_federation({"client_00": 4}, test_rows=2)
    federated(Path("run"), data, model=base, num_rounds=1, max_steps=1).train()
    packer = Packer(Path("run"), PushTarget("owner/run"))
    (tmp_path / "pushed").mkdir()
    packer.pack_round(1, tmp_path / "pushed")
    code = code_of(tmp_path / "pushed" / "README.md")
    assert 'PeftModel.from_pretrained(base, "owner/run", revision="round-0001")' in code
    assert code.count('from_pretrained("owner/run-base")') == 2
    code = code.replace('"owner/run", revision="round-0001"', '"pushed"').replace("owner/run-base", "./base")
    exec(code, {})
    assert capsys.readouterr().out.endswith("\n")


def test_a_run_without_scores_has_no_model_index():
    card = model_card(INFO, [record(0, None)], "run")
    assert "model-index" not in card.data.to_dict()
    assert "Nothing was evaluated" in card.text


def test_many_clients_are_summarized():
    clients = {f"client_{i:02d}": 10 + i for i in range(21)}
    text = model_card(RunInfo("owner/base", "fedavg", "joint", clients), HISTORY, "run").text
    assert "21 clients with 10 to 30 training rows." in text
    assert "client_00" not in text


def test_transforms_limits_and_paper_are_named():
    info = RunInfo(
        "owner/base", "fedprox", "connector", {"a": 1}, paper="https://huggingface.co/papers/1812.06127",
        transforms=["clipping at 1.0"], limits=["English only."],
    )  # fmt: skip
    text = model_card(info, HISTORY, "run").text
    assert "trained by [fedprox](https://huggingface.co/papers/1812.06127) in 2 rounds" in text
    assert "- Updates passed through clipping at 1.0 on their way to the server.\n" in text
    assert "secure aggregation" not in text
    assert "- English only.\n" in text


def test_a_run_that_ends_before_its_first_round_has_no_card(tmp_path):
    """Ctrl-C during the evaluation of round 0 ended in an `IndexError`."""
    callback = CardCallback(tmp_path, INFO)
    callback.on_start([], 3)
    callback.on_end([])
    assert not (tmp_path / "README.md").exists()


def test_a_resumed_run_leaves_the_same_card(tmp_path, monkeypatch):
    for folder, first in (("a", 0), ("b", 2)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        drive(CardCallback("run", INFO), HISTORY, first)
    assert (tmp_path / "a/run/README.md").read_text() == (tmp_path / "b/run/README.md").read_text()
