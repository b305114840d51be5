"""Families at a tiny size: each is tuned in every way, equals SFTTrainer, and is loaded and asked in another process.

All of them are reloaded by one process. Each batch has images of three sizes, which become rows of other lengths, and
in many families other numbers of tiles. Families with a processor that needs torchvision are skipped without it.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from datasets import Dataset, concatenate_datasets
from peft import get_peft_model
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, set_seed
from transformers.utils import is_torchvision_available
from trl import SFTConfig, SFTTrainer

from federation import LOCAL, config, weights
from fedvlm_hf import FederatedTrainer
from fedvlm_hf.checkpoint import round_folder
from fedvlm_hf.client.adapters import Adapter, complete_config
from fedvlm_hf.evaluation import prompt_inputs
from fedvlm_hf.models import vlm_parts
from tiny import tiny_rows
from tiny_families import FAMILIES as WITHOUT_TORCHVISION
from tiny_families_torchvision import TORCHVISION_FAMILIES


FAMILIES = {**WITHOUT_TORCHVISION, **TORCHVISION_FAMILIES}
missing = pytest.mark.skipif(not is_torchvision_available(), reason="The processor of this family needs torchvision.")
each_family = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[missing] if name in TORCHVISION_FAMILIES else []) for name in FAMILIES]
)
SIZES = [(24, 24), (48, 24), (40, 64)]
# A processor that does not keep its chat template (5.23)
WITHOUT_TEMPLATE = {"chameleon"}

CHILD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

for base, folder, batch, expected in json.load(open(sys.argv[1])):
    model = AutoModelForImageTextToText.from_pretrained(base)
    model = PeftModel.from_pretrained(model, folder).eval()
    inputs, expected = load_file(batch), load_file(expected)
    with torch.no_grad():
        difference = (model(**inputs).logits - expected["logits"]).abs().max().item()
        tokens = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    print(json.dumps([difference, torch.equal(tokens, expected["tokens"])]), flush=True)
"""


@dataclass
class Trained:
    """A round of a family: its adapter, what moved, the same run of SFTTrainer, and the rows of the reload."""

    adapter: Adapter
    moved: set[str]
    trained: set[str]
    sft: str
    scores: dict
    reload: list[str]


def rows_of_three_sizes() -> Dataset:
    rows = concatenate_datasets([tiny_rows(1, seed=seed) for seed in range(len(SIZES))])

    def resized(row, index):
        return {"images": [image.resize(SIZES[index]) for image in row["images"]]}

    return rows.map(resized, with_indices=True, features=rows.features)


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def trained(name: str, folder: Path) -> Trained:
    rows, base = rows_of_three_sizes(), str(folder / "base")
    model, processor = FAMILIES[name]()
    model.save_pretrained(base)
    processor.save_pretrained(base)
    args = {"num_rounds": 1, "max_steps": 3, "per_device_train_batch_size": 3}
    trainer = FederatedTrainer(
        base, config(folder / "run", **args), {"client_00": rows}, eval_dataset=rows, processing_class=processor
    )
    before = tensors(trainer.model)
    trainer.train()
    after = tensors(trainer.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    learns = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    scores = trainer.evaluate()
    batch = dict(prompt_inputs(processor, rows))
    with torch.no_grad():
        model = trainer.model.eval()
        # TRL turns it on for mixtures of experts, and then plain `generate` fails
        model.get_base_model().config.get_text_config().output_router_logits = False
        tokens = model.generate(**batch, max_new_tokens=4, do_sample=False)
        expected = {"logits": model(**batch).logits.contiguous(), "tokens": tokens}
    files = [save(folder / "batch.safetensors", batch), save(folder / "expected.safetensors", expected)]
    reload = [base, str(round_folder(trainer.run_args.output_dir, 1)), *files]
    return Trained(trainer.local.adapter, moved, learns, sft(base, processor, rows, folder), scores, reload)


def save(path: Path, values: dict[str, torch.Tensor]) -> str:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in values.items()}, path)
    return str(path)


def sft(base: str, processor, rows: Dataset, folder: Path) -> str:
    """The weights after plain SFTTrainer on the same rows."""
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    set_seed(42)
    model = get_peft_model(model, complete_config(None, model))
    settings = {**LOCAL, "per_device_train_batch_size": 3, "max_steps": 3, "lr_scheduler_type": "constant"}
    args = SFTConfig(str(folder / "sft"), **settings, save_strategy="no", max_length=None)
    trainer = SFTTrainer(model, args, train_dataset=rows, processing_class=processor)
    adapter = Adapter(trainer.model)
    adapter.set_trainable(adapter.names("joint" if adapter.connector else "llm"))
    trainer.train()
    return weights(adapter)


@pytest.fixture(scope="module")
def families(request, tmp_path_factory) -> dict[str, Trained | Exception]:
    """The families whose tests were chosen, each trained once; an exception is that of its tests alone."""
    chosen = {item.callspec.params["name"] for item in request.session.items if item.module is request.module}
    chosen -= set() if is_torchvision_available() else TORCHVISION_FAMILIES.keys()
    done: dict[str, Trained | Exception] = {}
    for name in sorted(chosen):
        try:
            done[name] = trained(name, tmp_path_factory.mktemp(name))
        except Exception as error:
            done[name] = error
    return done


@pytest.fixture(scope="module")
def reloaded(families, tmp_path_factory) -> dict[str, list]:
    """The difference of logits, and whether the same tokens were generated, of all families in one other process."""
    whole = {name: family.reload for name, family in families.items() if isinstance(family, Trained)}
    jobs = tmp_path_factory.mktemp("reload") / "jobs.json"
    jobs.write_text(json.dumps(list(whole.values())))
    child = subprocess.run([sys.executable, "-c", CHILD, str(jobs)], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-3000:]
    return dict(zip(whole, map(json.loads, child.stdout.splitlines()), strict=True))


@pytest.fixture
def family(families, name) -> Trained:
    if isinstance(families[name], Exception):
        raise families[name]
    return families[name]


@each_family
def test_each_tuning_trains_what_it_should(name, family):
    """`connector`: every parameter of the connector. `llm`: A and B of every linear of the language model."""
    model = FAMILIES[name]()[0]
    parts = vlm_parts(model)
    connector = {f"base_model.model.{n}" for n, _ in model.named_parameters() if parts.part_of(n) == "connector"}
    assert set(family.adapter.names("connector")) == connector
    linears = [n for n, m in model.named_modules() if type(m) is nn.Linear and parts.part_of(n) == "language model"]
    lora = {f"base_model.model.{n}.lora_{x}.weight" for n in linears if n != parts.head for x in "AB"}
    assert set(family.adapter.names("llm")) == lora
    assert set(family.adapter.names("joint")) == connector | lora


@each_family
def test_what_trains_moves_and_nothing_else(family):
    """Also no buffer, such as a statistic of the tower."""
    assert family.moved == family.trained
    assert all(".lora_" in name or ".modules_to_save." in name for name in family.trained)


@each_family
def test_one_client_is_sft_trainer_to_the_bit(family):
    assert weights(family.adapter) == family.sft


@each_family
def test_it_is_evaluated_and_is_the_same_in_another_process(name, family, reloaded):
    assert list(family.scores) == ["test/vqa_accuracy"]
    difference, same_tokens = reloaded[name]
    assert difference == 0
    assert same_tokens


@each_family
def test_its_processor_is_saved_with_it(name, family):
    if name in WITHOUT_TEMPLATE:
        pytest.skip("transformers 5.23 does not save the chat template of this processor.")
    loaded, built = AutoProcessor.from_pretrained(family.reload[0]), FAMILIES[name]()[1]
    rows = rows_of_three_sizes()
    one, other = prompt_inputs(loaded, rows), prompt_inputs(built, rows)
    assert one.keys() == other.keys()
    # with torchvision, the faster variant of an image processor is loaded, which rounds in another way
    same_class = type(loaded.image_processor) is type(built.image_processor)
    assert all(torch.equal(one[key], other[key]) for key in one if same_class or "pixel" not in key)
