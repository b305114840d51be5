"""FederatedDPOTrainer: DPOTrainer is its client, bit for bit, and its reference never leaves the host."""

import json

import pytest
from datasets import Dataset, Features
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, set_seed
from trl import DPOConfig, DPOTrainer

from deep_images import deep_rows, in_8_bit_files
from federation import LOCAL, weights
from fedvlm_hf import FederatedDPOConfig, FederatedDPOTrainer
from fedvlm_hf.checkpoint import round_folder
from fedvlm_hf.client.adapters import Adapter, complete_config
from fedvlm_hf.data.features import FEATURES
from tiny import save_tiny, tiny_llava, tiny_rows


def preferences(num_rows, seed=0, source=None):
    """Rows in which the right colour is preferred to a wrong one, or the answers of `source` to a wrong one."""
    rows = [
        {
            "images": row["images"],
            "prompt": row["prompt"],
            "chosen": row["completion"],
            "rejected": [{"role": "assistant", "content": "purple"}],
        }
        for row in source or tiny_rows(num_rows, seed)
    ]
    message = FEATURES["completion"]
    features = Features({"images": FEATURES["images"], "prompt": message, "chosen": message, "rejected": message})
    return Dataset.from_list(rows, features=features)


def federated_dpo(output_dir, data, model=None, eval_dataset=None, **kwargs):
    tiny_model, processor = tiny_llava()
    args = FederatedDPOConfig(str(output_dir), **{**LOCAL, "num_rounds": 1, "max_steps": 3, **kwargs})
    return FederatedDPOTrainer(
        model or tiny_model, args, data, eval_dataset=eval_dataset or {}, processing_class=processor
    )


def plain_dpo(output_dir, rows, tuning, **kwargs):
    """The adapter after a run of plain DPOTrainer from the same start."""
    model, processor = tiny_llava()
    set_seed(42)
    model = get_peft_model(model, complete_config(None, model))
    args = DPOConfig(
        str(output_dir),
        **{
            **LOCAL,
            "lr_scheduler_type": "constant",
            "save_strategy": "no",
            "max_length": None,
            "max_steps": 3,
            **kwargs,
        },
    )
    trainer = DPOTrainer(model, args=args, train_dataset=rows, processing_class=processor)
    adapter = Adapter(trainer.model)
    adapter.set_trainable(adapter.names(tuning))
    trainer.train()
    return adapter


@pytest.mark.parametrize(
    ("tuning", "local"),
    [("joint", {}), ("llm", {"loss_type": ["ipo"], "beta": 0.3}), ("connector", {"gradient_accumulation_steps": 2})],
)
def test_one_client_is_dpotrainer_to_the_bit(tmp_path, tuning, local):
    rows = preferences(6)
    trainer = federated_dpo(tmp_path / "fed", {"client_00": rows}, tuning=tuning, **local)
    start = weights(trainer.local.adapter)
    trainer.train()
    assert weights(trainer.local.adapter) != start
    plain = plain_dpo(tmp_path / "plain", rows, tuning, **local)
    assert weights(trainer.local.adapter) == weights(plain)


def test_the_reference_never_moves_travels_or_is_exported(tmp_path):
    data = {"client_00": preferences(6), "client_01": preferences(4, seed=1)}
    trainer = federated_dpo(tmp_path / "run", data, num_rounds=2)
    reference = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if ".ref." in name}
    assert reference
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert all(after[name].equal(tensor) for name, tensor in reference.items())
    folder = round_folder(tmp_path / "run", 2)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["federated_state"]
    exported = load_file(folder / "adapter_model.safetensors")
    assert set(exported) == set(trainer.local.adapter.parameters)
    assert not any("ref" in name.split(".") for name in [*exported, *trainer.federation.tensors])
    base = AutoModelForImageTextToText.from_pretrained(save_tiny(tmp_path / "base"))
    loaded = PeftModel.from_pretrained(base, folder)
    assert list(loaded.peft_config) == ["default"]
    assert weights_of(loaded) == trainer.local.adapter.read(trainer.local.adapter.parameters).digest()


def weights_of(model):
    adapter = Adapter(model)
    return adapter.read(adapter.parameters).digest()


def test_a_stopped_run_resumes_to_the_same_bits(tmp_path):
    data = {"client_00": preferences(6), "client_01": preferences(4, seed=1)}
    whole = federated_dpo(tmp_path / "whole", data, num_rounds=2, method="fedprox+fedadam")
    whole.train()
    federated_dpo(tmp_path / "cut", data, num_rounds=1, method="fedprox+fedadam").train()
    resumed = federated_dpo(tmp_path / "cut", data, num_rounds=2, method="fedprox+fedadam")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.federation.tensors.digest() == whole.federation.tensors.digest()


def test_beta_decides_the_bits_and_is_compared_on_resume(tmp_path):
    data = {"client_00": preferences(4)}
    federated_dpo(tmp_path, data).train()
    with pytest.raises(ValueError, match=r"config.beta: 0.1 in `output_dir`, 0.5 now"):
        federated_dpo(tmp_path, data, num_rounds=2, beta=0.5).train(resume_from_checkpoint=True)


def test_scores_come_from_generated_answers(tmp_path):
    trainer = federated_dpo(tmp_path, {"client_00": preferences(4)}, eval_dataset=tiny_rows(4, seed=9))
    trainer.train()
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(last["evaluations"]["test"]["scores"]) == {"vqa_accuracy"}


def test_rows_without_a_rejected_answer_are_refused(tmp_path):
    rows = preferences(4).remove_columns("rejected")
    with pytest.raises(ValueError, match=r"client 'client_00' has no column `rejected`.*preference format"):
        federated_dpo(tmp_path, {"client_00": rows})


def test_an_empty_answer_is_refused_with_its_row(tmp_path):
    def empty(row, index):
        return {"chosen": [{"role": "assistant", "content": " "}]} if index == 2 else {}

    rows = preferences(4).map(empty, with_indices=True)
    with pytest.raises(ValueError, match="client 'client_00', row 2, column `chosen`: the answer is empty"):
        federated_dpo(tmp_path, {"client_00": rows})


def test_deep_images_train_as_their_8_bit_copies_to_the_bit(tmp_path):
    deep = deep_rows(4)
    trainer = federated_dpo(tmp_path / "fed", {"client_00": preferences(4, source=deep)})
    trainer.train()
    plain = plain_dpo(tmp_path / "plain", preferences(4, source=in_8_bit_files(deep)), "joint")
    assert weights(trainer.local.adapter) == weights(plain)


def test_a_length_that_cuts_an_answer_is_refused(tmp_path):
    """Also where only the rejected answer, the longer one, is cut: 'purple' is longer than any colour of the rows."""
    with pytest.raises(ValueError, match=r"`max_length=20` would cut the answer of 4 rows"):
        federated_dpo(tmp_path, {"client_00": preferences(4)}, max_length=20)
