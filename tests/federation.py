"""What trainer tests share: a tiny federated run, and the plain SFTTrainer run that it is held against."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model
from transformers import AutoModelForImageTextToText, set_seed
from trl import SFTConfig, SFTTrainer

from fedvlm_hf import FederatedConfig, FederatedTrainer, apply_base_delta
from fedvlm_hf.checkpoint import round_folder
from fedvlm_hf.client.adapters import Adapter, complete_config
from tiny import tiny_federation, tiny_llava


LOCAL = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


def config(output_dir: Path, **kwargs: Any) -> FederatedConfig:
    """A run of two rounds of three steps on the CPU."""
    return FederatedConfig(str(output_dir), **{**LOCAL, "num_rounds": 2, "max_steps": 3, **kwargs})


def federated(output_dir: Path, data: Any = None, model: Any = None, trainer_kwargs: Any = None, **kwargs: Any):
    """A FederatedTrainer on a tiny LLaVA: two unequal clients unless `data` is given, no evaluation unless asked."""
    tiny_model, processor = tiny_llava()
    return FederatedTrainer(
        model if model is not None else tiny_model,
        config(output_dir, **kwargs),
        data if data is not None else tiny_federation({"client_00": 6, "client_01": 4}, test_rows=4),
        processing_class=processor,
        **{"eval_dataset": {}, **(trainer_kwargs or {})},
    )


def plain_sft(output_dir: Path, rows: Dataset, tuning: str = "joint", seed: int = 42, **kwargs: Any) -> Adapter:
    """The adapter after a run of plain SFTTrainer from the same start: the reference of invariant 1."""
    model, processor = tiny_llava()
    set_seed(seed)
    model = get_peft_model(model, complete_config(None, model))
    args = SFTConfig(
        str(output_dir),
        **{
            **LOCAL,
            "lr_scheduler_type": "constant",
            "save_strategy": "no",
            "max_length": None,
            "seed": seed,
            **kwargs,
        },
    )
    trainer = SFTTrainer(model, args, train_dataset=rows, processing_class=processor)
    adapter = Adapter(trainer.model)
    adapter.set_trainable(adapter.names(tuning))
    trainer.train()
    return adapter


def weights(adapter: Adapter) -> str:
    """Digest of everything that trains."""
    return adapter.read(adapter.trainable()).digest()


def check_export_changes_base(trainer: FederatedTrainer, base: str, tolerance: float, change: float) -> None:
    """Stock PEFT, after one call that puts the change on the base model, gives the logits of the run's own model.

    `tolerance` bounds the difference, and without the call the logits differ by more than `change`.
    """
    batch = trainer.data_collator([trainer.clients["client_00"][0]])
    batch = {name: value for name, value in batch.items() if name != "labels"}

    def logits(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(**batch).logits

    trainer.federation.load()
    own = logits(trainer.model)
    folder = round_folder(trainer.run_args.output_dir, trainer.run_args.num_rounds)
    loaded = apply_base_delta(AutoModelForImageTextToText.from_pretrained(base), folder)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(loaded, folder)), own, rtol=0, atol=tolerance)
    without = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), folder)
    assert (logits(without) - own).abs().max() > change
