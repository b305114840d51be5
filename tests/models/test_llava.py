"""LLaVA with connectors of any depth: arithmetic by hand, names of stock LLaVA, real training and loading."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaModel,
    LlavaForConditionalGeneration,
)
from trl.trainer import utils as trl_utils

from federation import federated
from fedvlm_hf.models import FedLlavaConfig, FedLlavaForConditionalGeneration, FedLlavaModel, base_with_connector
from fedvlm_hf.models.connectors import llava_config
from fedvlm_hf.models.llava import FedLlavaConnector, num_connector_layers
from tiny import save_tiny, tiny_llava, tiny_processor, tiny_rows


CONNECTORS = ("linear", "mlp2x", "mlp6x")


def small(connector: str, vision: int = 1, text: int = 1, **fields) -> FedLlavaConfig:
    return FedLlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=vision, num_attention_heads=1),
        text_config=LlamaConfig(hidden_size=text, num_attention_heads=1, head_dim=2),
        connector=connector,
        **fields,
    )


def of_stock(model: LlavaForConditionalGeneration, connector: str) -> FedLlavaForConditionalGeneration:
    """A FedLlava of the same sizes, with random weights."""
    fields = {k: v for k, v in model.config.to_dict().items() if k not in ("model_type", "architectures")}
    return FedLlavaForConditionalGeneration(FedLlavaConfig(**fields, connector=connector)).eval()


def image_inputs() -> dict[str, torch.Tensor]:
    return tiny_processor()(images=tiny_rows(1, seed=9)[0]["images"], text="<image>what?", return_tensors="pt")


def names_on_disk(folder) -> set[str]:
    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        return set(file.keys())


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """The tiny LLaVA as base model with each connector, as the recipe makes them."""
    root = tmp_path_factory.mktemp("bases")
    tiny = save_tiny(root / "tiny")
    return {name: base_with_connector(tiny, name, root / name, seed=3) for name in CONNECTORS}


@pytest.mark.parametrize(("connector", "layers"), [("linear", 1), ("mlp2x", 2), ("mlp6x", 6), ("mlp12x", 12)])
def test_layers_of_a_connector(connector, layers):
    assert num_connector_layers(connector) == layers
    assert [name for name, _ in FedLlavaConnector(small(connector)).named_children()] == [
        *(f"linear_{index}" for index in range(1, layers + 1)),
        "act",
    ]


@pytest.mark.parametrize("connector", ["mlp", "mlp1x", "mlp0x", "mlp2x_gelu", "Linear", ""])
def test_unknown_connectors_are_refused(connector):
    with pytest.raises(ValueError, match=rf"`connector` must be 'linear', or 'mlpNx'.*got '{connector}'"):
        FedLlavaConfig(connector=connector)
    with pytest.raises(ValueError, match="`connector` must be"):
        llava_config(connector)


@pytest.mark.parametrize(("connector", "num_gelus"), [("linear", 0), ("mlp2x", 1), ("mlp6x", 5)])
def test_a_connector_by_hand(connector, num_gelus):
    """Width 1, weights 2, biases 1, x = 0.5: h = 2 * 0.5 + 1 = 2, then h <- 2 * gelu(h) + 1 once per further layer,
    with gelu(h) = h (1 + erf(h / sqrt(2))) / 2. No activation comes first or last: `linear` gives 2."""
    module = FedLlavaConnector(small(connector))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(2.0 if name.endswith("weight") else 1.0)
    hidden = 2.0
    for _ in range(num_gelus):
        hidden = 2 * (hidden * (1 + math.erf(hidden / math.sqrt(2))) / 2) + 1
    assert module(torch.full((3, 1), 0.5)).tolist() == [[pytest.approx(hidden, rel=1e-6)]] * 3


def test_sizes_by_hand():
    """Vision width 3 from two layers of the tower, text width 5: 6 x 5 + 5 = 35, and 5 x 5 + 5 = 30 a further one."""
    for connector, expected in {"linear": 35, "mlp2x": 65, "mlp6x": 185}.items():
        module = FedLlavaConnector(small(connector, vision=3, text=5, vision_feature_layer=[-2, -1]))
        assert sum(parameter.numel() for parameter in module.parameters()) == expected
    no_bias = FedLlavaConnector(small("mlp2x", vision=3, text=5, multimodal_projector_bias=False))
    assert sum(parameter.numel() for parameter in no_bias.parameters()) == 3 * 5 + 5 * 5


def test_mlp2x_is_stock_llava_in_memory_and_on_disk(tmp_path):
    """Names, shapes, outputs; stock -> ours -> stock leaves every weight as it was."""
    stock, _ = tiny_llava()
    ours = of_stock(stock, "mlp2x")
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in stock.state_dict().items()}
    stock.save_pretrained(tmp_path / "stock")
    loaded, info = FedLlavaForConditionalGeneration.from_pretrained(
        tmp_path / "stock", config=ours.config, output_loading_info=True
    )
    assert not any(info.values())
    loaded.save_pretrained(tmp_path / "ours")
    assert names_on_disk(tmp_path / "ours") == names_on_disk(tmp_path / "stock")
    again, info = LlavaForConditionalGeneration.from_pretrained(
        tmp_path / "ours", config=stock.config, output_loading_info=True
    )
    assert not any(info.values())
    weights = stock.state_dict()
    for model in (loaded, again):
        assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
        with torch.no_grad():
            assert torch.equal(model(**image_inputs()).logits, stock(**image_inputs()).logits)


@pytest.mark.parametrize("connector", CONNECTORS)
def test_auto_classes_load_what_was_saved(tmp_path, connector):
    model = of_stock(tiny_llava()[0], connector)
    model.save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (type(config), config.connector) == (FedLlavaConfig, connector)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(loaded) is FedLlavaForConditionalGeneration
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    inputs = AutoProcessor.from_pretrained(tmp_path)(
        images=tiny_rows(1, seed=9)[0]["images"], text="<image>what?", return_tensors="pt"
    )
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    headless = AutoModel.from_pretrained(tmp_path)
    assert type(headless) is FedLlavaModel
    with torch.no_grad():
        assert torch.equal(headless(**inputs)[0], model.model(**inputs)[0])


def test_the_language_model_is_built_once(monkeypatch):
    """A subclass that replaced parts built by its parent's `__init__` would create billions of parameters twice."""
    built = []
    init = LlamaModel.__init__
    monkeypatch.setattr(LlamaModel, "__init__", lambda self, config: (built.append(1), init(self, config))[1])
    stock, _ = tiny_llava()
    built.clear()
    of_stock(stock, "mlp6x")
    assert built == [1]


@pytest.mark.skipif(not hasattr(trl_utils, "add_fused_lm_head"), reason="TRL has this head from 1.15 on")
@pytest.mark.parametrize("connector", CONNECTORS)
def test_trls_fused_head_gives_the_models_own_loss(connector):
    model = of_stock(tiny_llava()[0], connector)
    inputs = image_inputs()
    expected = model(**inputs, labels=inputs["input_ids"]).loss
    trl_utils.add_fused_lm_head(model)
    fused = model(**inputs, labels=inputs["input_ids"], fused_lm_head=True).loss
    assert fused.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("connector", CONNECTORS)
def test_a_federation_trains_it_and_stock_peft_loads_the_export(tmp_path, folders, connector):
    trainer = federated(tmp_path, model=folders[connector], max_steps=2)
    before = trainer.local.initial
    trainer.train()
    after = trainer.federation.tensors
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    layers = range(1, num_connector_layers(connector) + 1)
    own = {f"linear_{index}.{leaf}" for index in layers for leaf in ("weight", "bias")}
    prefix = "base_model.model.model.multi_modal_projector."
    assert {name.removeprefix(prefix) for name in after if name.startswith(prefix)} == own
    assert moved == set(after)

    export = tmp_path / "rounds" / "round-0002"
    base = json.loads((export / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(base).resolve() == Path(folders[connector])
    loaded = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), export).eval()
    with torch.no_grad():
        assert torch.equal(loaded(**image_inputs()).logits, trainer.model.eval()(**image_inputs()).logits)
    assert loaded.generate(**image_inputs(), max_new_tokens=3, do_sample=False, eos_token_id=None).shape[1] == (
        image_inputs()["input_ids"].shape[1] + 3
    )


def test_mlp2x_needs_no_import_and_the_others_one(folders):
    """In a new process, like that of a user who loads an export."""
    code = f"""
import sys
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
AutoModelForImageTextToText.from_pretrained({folders["mlp2x"]!r}), AutoProcessor.from_pretrained({folders["mlp2x"]!r})
assert not any(name.startswith("fedvlm_hf") for name in sys.modules)
try:
    AutoConfig.from_pretrained({folders["linear"]!r})
except ValueError as error:
    assert "fed_llava" in str(error)
else:
    raise AssertionError("an unregistered family loaded")
import fedvlm_hf.models
model = AutoModelForImageTextToText.from_pretrained({folders["linear"]!r})
print(type(model).__name__, type(AutoProcessor.from_pretrained({folders["linear"]!r})).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["FedLlavaForConditionalGeneration", "LlavaProcessor"], done.stderr
