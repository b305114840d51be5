"""Stock TRL trains on the result of a build."""

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from fedvlm_hf.building.writing.build import build_dataset
from fedvlm_hf.building.writing.options import WriteOptions
from tiny import tiny_llava
from toy_builder import ToyBuilder, write_toy


def test_sft_trainer_trains_on_a_client_of_a_built_folder(tmp_path):
    """Six rows in batches of two: three steps whose loss is that of the answers, and every step changes the model."""
    out = build_dataset(ToyBuilder(), write_toy(tmp_path / "raw"), tmp_path / "out", WriteOptions(num_workers=1))
    rows = load_dataset(str(out), "labels", cache_dir=str(tmp_path / "cache"))["client_00"]
    model, processor = tiny_llava()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    args = SFTConfig(
        str(tmp_path / "run"),
        per_device_train_batch_size=2,
        num_train_epochs=1,
        max_length=None,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )
    trainer = SFTTrainer(model, args, train_dataset=rows, processing_class=processor)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3
    assert all(0 < loss < 20 for loss in losses)
    assert any(not tensor.equal(before[name]) for name, tensor in model.state_dict().items())
