import platform
import re
from pathlib import Path

from huggingface_hub import ModelCard

import fedvlm_hf
from fedvlm_hf.reporting.card import CardCallback, RunInfo, model_card
from records import HISTORY, drive, record


CONFIG = {"num_rounds": 2, "learning_rate": 0.003, "method_kwargs": {"mu": 0.1}, "output_dir": "/home/someone/out"}
INFO = RunInfo("owner/base", "fedavg", "joint", {"a": 1500, "b": 10}, CONFIG, dataset="owner/data", license="mit")


def test_metadata_reads_back(tmp_path):
    drive(CardCallback(tmp_path / "run", INFO), HISTORY)
    data = ModelCard.load(tmp_path / "run" / "README.md").data
    assert data.base_model == "owner/base"
    assert data.base_model_relation == "adapter"
    assert data.datasets == ["owner/data"]
    assert data.library_name == "peft"
    assert data.license == "mit"
    assert data.pipeline_tag == "image-text-to-text"
    assert data.tags == ["federated-learning", "fedvlm_hf", "trl", "sft", "lora"]
    assert data.model_name == "run"
    results = {result.metric_name: result for result in data.eval_results}
    assert results.keys() == {"vqa_accuracy", "grounding_mean_iou", "grounding_accuracy_at_50"}
    assert results["vqa_accuracy"].metric_value == 0.75
    assert results["vqa_accuracy"].metric_type == "accuracy"
    assert results["vqa_accuracy"].dataset_type == "owner/data"
    assert results["vqa_accuracy"].dataset_split == "test"


def test_the_card_tells_what_was_done():
    text = model_card(INFO, HISTORY, "run").text
    for part in (
        "a LoRA adapter of the language model and the connector for [owner/base](https://huggingface.co/owner/base)",
        "trained by `fedavg` in 2 rounds over 2 clients with 1,510 rows of owner/data",
        "| vqa        | accuracy       |   0.500 |   0.750 |",
        "| a      |         1,500 |",
        "| `learning_rate` | `0.003`       |",
        "| `method_kwargs` | `{'mu': 0.1}` |",
        "![Learning curves](report/learning_curves.png)",
        'base = AutoModelForImageTextToText.from_pretrained("owner/base")',
        'model = PeftModel.from_pretrained(base, "run/rounds/round-0002")',
        "Traffic of a client and round: 1.00 MB down, 2.00 MB up; 12.00 MB in all over 2 rounds.",
        "without clipping, noise or secure aggregation",
        f"fedvlm_hf {fedvlm_hf.__version__}, torch ",
    ):
        assert part in text, part


def test_nothing_of_the_machine_is_named(tmp_path):
    (tmp_path / "base").mkdir()
    config = {**CONFIG, "model_init_kwargs": {"cache_dir": str(tmp_path / "cache")}}
    info = RunInfo(str(tmp_path / "base"), "fedavg", "llm", {"a": 1}, config, dataset=str(tmp_path / "rows"))
    card = model_card(info, HISTORY, "run")
    assert str(tmp_path) not in str(card)
    assert "someone" not in str(card)
    assert platform.node() not in re.findall(r"[\w.-]+", str(card))
    assert 'from_pretrained("base")' in card.text
    assert "| `model_init_kwargs` | `{'cache_dir': 'cache'}` |" in card.text
    # the metadata would link to another model and data of these names
    assert card.data.base_model is None
    assert card.data.datasets is None
    assert card.data.eval_results[0].dataset_type == "rows"


def test_the_embedded_base_is_loaded_by_name():
    base = Path(fedvlm_hf.__file__).parent / "mini" / "llava"
    text = model_card(RunInfo(str(base), "fedavg", "joint", {"a": 1}), HISTORY, "run").text
    assert 'AutoModelForImageTextToText.from_pretrained(base_model("llava"))' in text
    assert "from fedvlm_hf.mini import base_model\n" in text
    assert str(base.parent) not in text


def test_a_run_without_scores_has_no_model_index():
    card = model_card(INFO, [record(0, None)], "run")
    assert "model-index" not in card.data.to_dict()
    assert "The run was not evaluated." in card.text


def test_many_clients_are_summed_up():
    clients = {f"client_{i:02d}": 10 + i for i in range(21)}
    text = model_card(RunInfo("owner/base", "fedavg", "joint", clients), HISTORY, "run").text
    assert "21 clients with 10 to 30 training rows." in text
    assert "client_00" not in text


def test_transforms_limits_and_paper_are_told():
    info = RunInfo(
        "owner/base", "fedprox", "connector", {"a": 1}, paper="https://huggingface.co/papers/1812.06127",
        transforms=["clipping at 1.0"], limits=["English only."],
    )  # fmt: skip
    text = model_card(info, HISTORY, "run").text
    assert "trained by [fedprox](https://huggingface.co/papers/1812.06127) in 2 rounds" in text
    assert "- Updates passed through clipping at 1.0 on their way to the server.\n" in text
    assert "secure aggregation" not in text
    assert "- English only.\n" in text


def test_a_resumed_run_leaves_the_same_card(tmp_path):
    for folder, first in (("a", 0), ("b", 2)):
        drive(CardCallback(tmp_path / folder / "run", INFO), HISTORY, first)
    assert (tmp_path / "a/run/README.md").read_text() == (tmp_path / "b/run/README.md").read_text()
