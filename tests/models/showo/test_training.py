"""A tiny Show-o in a federation: trained for real, against SFTTrainer, exported, and loaded in a new process."""

import json
import re
import subprocess
import sys

import pytest
import torch
from datasets import Dataset, concatenate_datasets
from peft import get_peft_model
from transformers import AutoModelForImageTextToText, AutoProcessor, set_seed
from trl import SFTConfig, SFTTrainer

import tiny
from federation import LOCAL, config, weights
from fedvlm_hf import FederatedTrainer
from fedvlm_hf.cli import main
from fedvlm_hf.client.adapters import Adapter, complete_config
from fedvlm_hf.commands.dry_run import dry_run
from tiny_showo import save_showo, tiny_showo


def rows_of_three_sizes(num_rows: int, seed: int = 0) -> Dataset:
    """Images of 16, 20 and 27 pixels; a batch of two has two sizes."""
    parts = [tiny.tiny_rows(num_rows, seed, image_size=size) for size in (16, 20, 27)]
    mixed = [parts[index % 3].select([index]) for index in range(num_rows)]
    return concatenate_datasets(mixed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return save_showo(tmp_path_factory.mktemp("base") / "showo")


def trainer_on(folder, output_dir, clients=None, **kwargs) -> FederatedTrainer:
    clients = clients or {"client_00": rows_of_three_sizes(5), "client_01": rows_of_three_sizes(3, seed=1)}
    eval_dataset = kwargs.pop("eval_dataset", {})
    return FederatedTrainer(folder, config(output_dir, **kwargs), clients, eval_dataset=eval_dataset)


def plain_sft(folder, output_dir, rows, **kwargs) -> Adapter:
    model = AutoModelForImageTextToText.from_pretrained(folder)
    set_seed(42)
    model = get_peft_model(model, complete_config(None, model))
    fixed = {"lr_scheduler_type": "constant", "save_strategy": "no", "max_length": None, "seed": 42}
    args = SFTConfig(str(output_dir), **{**LOCAL, **fixed, **kwargs})
    trainer = SFTTrainer(model, args, train_dataset=rows, processing_class=AutoProcessor.from_pretrained(folder))
    adapter = Adapter(trainer.model)
    trainer.train()
    return adapter


@pytest.mark.parametrize("local", [{}, {"bf16": True}, {"gradient_checkpointing": True}], ids=str)
def test_one_client_is_sft_trainer_to_the_bit(folder, tmp_path, local):
    rows = rows_of_three_sizes(5)
    trainer = trainer_on(folder, tmp_path / "fed", {"client_00": rows}, num_rounds=1, **local)
    start = weights(trainer.local.adapter)
    trainer.train()
    assert weights(trainer.local.adapter) == weights(plain_sft(folder, tmp_path / "sft", rows, max_steps=3, **local))
    assert weights(trainer.local.adapter) != start


def test_lora_on_the_language_model_trains_and_nothing_else_changes(folder, tmp_path):
    """Two layers of q, k, v, dense, fc1 and fc2, each with A and B: 24 tensors. `llm` is the default."""
    trainer = trainer_on(folder, tmp_path)
    assert trainer.local.plan.tuning == "llm"
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert len(moved) == 2 * 6 * 2
    assert all(".language_model.layers." in name and ".lora_" in name for name in moved)
    assert moved == {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    base = trainer.model.get_base_model()
    fresh, _ = tiny_showo()
    for name, buffer in fresh.named_buffers():
        assert torch.equal(base.get_buffer(name), buffer)


@pytest.mark.parametrize("tuning", ["connector", "joint", "two_stage"])
def test_tunings_of_a_connector_are_refused(folder, tmp_path, tuning):
    with pytest.raises(ValueError, match=f"`tuning` '{tuning}' trains the connector, but this model has none.*'llm'"):
        trainer_on(folder, tmp_path, tuning=tuning)


def test_a_bf16_base_trains_in_fp32(folder, tmp_path):
    trainer = trainer_on(folder, tmp_path, num_rounds=1, bf16=True, model_init_kwargs={"dtype": "bfloat16"})
    trainer.train()
    base = trainer.model.get_base_model().model
    assert {parameter.dtype for name, parameter in trainer.model.named_parameters() if ".lora_" in name} == {
        torch.float32
    }
    assert base.language_model.embed_tokens.weight.dtype == torch.bfloat16
    assert base.vqmodel.dtype == torch.float32


def test_the_counts_of_a_dry_run_are_those_of_a_run(folder, tmp_path):
    trainer = trainer_on(folder, tmp_path, num_rounds=1, max_steps=1)
    sizes = dry_run(trainer.model.config)
    assert list(sizes.parameters) == ["image tokenizer", "language model"]
    assert trainer.local.initial_shared().flat.nbytes == sizes.bytes_each_way("llm")


LOAD = """
import importlib, sys, torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText
module, base, export, merged, row = sys.argv[1:]
importlib.import_module(module)  # registers Show-o
model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), export).eval()
inputs = torch.load(row)
with torch.no_grad():
    logits = model(**inputs).logits
    merged_logits = AutoModelForImageTextToText.from_pretrained(merged)(**inputs).logits
answers = model.generate(**inputs, max_new_tokens=4, eos_token_id=None)
torch.save({"logits": logits, "answers": answers, "merged": merged_logits}, row)
"""


def test_the_export_loads_in_a_new_process_and_generates(folder, tmp_path, capsys):
    """After two rounds with evaluation by generation. Logits and tokens are those of the run, bit for bit; the merged
    model, which is loaded after the import that `fedvlm merge` names, has the same logits but for rounding."""
    test = rows_of_three_sizes(4, seed=2).add_column("client_id", ["client_00"] * 4)
    trainer = trainer_on(folder, tmp_path, eval_dataset={"test": test}, eval_max_new_tokens=4)
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [list(line["evaluations"]["test"]["scores"]) for line in lines] == [["vqa_accuracy"]] * 3
    inputs = trainer.data_collator([trainer.clients["client_00"][row] for row in range(3)])
    inputs = {name: value for name, value in inputs.items() if name != "labels"}
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(**inputs).logits
    answers = trainer.model.generate(**inputs, max_new_tokens=4, eos_token_id=None)
    torch.save(inputs, tmp_path / "row.pt")
    assert main(["merge", str(tmp_path), "--output_dir", str(tmp_path / "merged")]) == 0
    (module,) = re.findall("import ([a-z_.]+) before loading it", capsys.readouterr().out)
    places = [folder, *(str(tmp_path / name) for name in ("rounds/round-0002", "merged", "row.pt"))]
    done = subprocess.run([sys.executable, "-c", LOAD, module, *places], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "row.pt")
    assert torch.equal(found["logits"], logits)
    assert torch.equal(found["answers"], answers)
    torch.testing.assert_close(found["merged"], logits, rtol=0, atol=2e-5)
