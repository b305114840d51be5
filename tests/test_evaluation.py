import copy
import random

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig, set_seed
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

import tiny
from deep_images import deep_rows, in_8_bit_files
from fedvlm_hf.evaluation import PreparedEvaluation, prompt_inputs
from fedvlm_hf.metrics import PRIMARY


TASKS = ("vqa", "caption", "grounding")


@pytest.fixture
def model_and_processor():
    return tiny.tiny_llava(5)  # among the first seeds, its answers differ most between rows


@pytest.fixture
def rows() -> Dataset:
    """Rows of three tasks, mixed, with prompts of different lengths."""
    together = concatenate_datasets([tiny.tiny_rows(5, task=task) for task in TASKS])
    return together.shuffle(seed=0).flatten_indices()


def evaluate_rows(model, processor, dataset, autocast_dtype=None, on_batch=None, **kwargs):
    """Prepare and score a dataset once, keeping no batch in memory."""
    evaluation = PreparedEvaluation(dataset, processor, cache_size=0, **kwargs)
    return evaluation.run(model, autocast_dtype=autocast_dtype, on_batch=on_batch)


def answers(result) -> list[str]:
    return [generation.prediction for generation in result.generations]


def sft_trainer(model, processor, train_dataset, output_dir, lora=True, **kwargs) -> SFTTrainer:
    settings = {
        "output_dir": str(output_dir),
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "max_length": None,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    args = SFTConfig(**{**settings, **kwargs})
    peft_config = LoraConfig(r=2, lora_dropout=0.1, target_modules=r".*language_model.*\.(q_proj|v_proj)")
    set_seed(0)  # the adapter starts from random numbers, which not every TRL draws after its own seed
    return SFTTrainer(
        model, args, train_dataset=train_dataset, processing_class=processor, peft_config=peft_config if lora else None
    )


def test_prompts_are_those_of_training_token_by_token(model_and_processor, rows):
    _, processor = model_and_processor
    collator = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    training = collator([dict(row) for row in rows])
    inputs = prompt_inputs(processor, rows)
    for index in range(len(rows)):
        is_prompt = (training["labels"][index] == -100) & (training["attention_mask"][index] == 1)
        prompt = inputs["input_ids"][index][inputs["attention_mask"][index] == 1]
        assert prompt.tolist() == training["input_ids"][index][is_prompt].tolist()
    assert torch.equal(inputs["pixel_values"], training["pixel_values"])
    assert inputs["attention_mask"][:, -1].all(), "padding belongs on the left"
    assert not inputs["attention_mask"].all(), "the test needs rows that are padded"


def test_deep_images_are_answered_as_their_8_bit_copies(model_and_processor):
    model, processor = model_and_processor
    rows = deep_rows(6)
    given, expected, white = (answers(evaluate_rows(model, processor, own)) for own in (
        rows, in_8_bit_files(rows), rows.map(lambda row: {"images": [Image.new("L", (16, 16), 255)]})
    ))  # fmt: skip
    assert given == expected
    assert given != white, "the test needs a model that looks at the image"


def test_prompts_without_completion_or_image(model_and_processor):
    _, processor = model_and_processor
    rows = [{"images": [], "prompt": [{"role": "user", "content": text}]} for text in ("Hi?", "Well?")]
    inputs = prompt_inputs(processor, rows)
    texts = processor.tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    assert texts == ["user: Hi?\nassistant: ", "user: Well?\nassistant: "]
    assert "pixel_values" not in inputs


def test_batches_cache_and_padding_do_not_change_answers_or_their_order(model_and_processor, rows):
    """Compare with one row at a time, without padding, cache or `generate`: repeated argmax of a full forward pass."""
    model, processor = model_and_processor
    expected = []
    for row in rows:
        inputs = prompt_inputs(processor, [row])
        ids = inputs["input_ids"]
        with torch.no_grad():
            for _ in range(6):
                logits = model(input_ids=ids, pixel_values=inputs["pixel_values"], use_cache=False).logits
                ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        assert processor.tokenizer.eos_token_id not in ids
        expected.append(processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :]).strip())
    assert len(set(expected)) >= 8, "the test needs different answers"
    for batch_size in (1, 3, 8):
        result = evaluate_rows(model, processor, rows, batch_size=batch_size, max_new_tokens=6)
        assert answers(result) == expected
        assert [generation.row for generation in result.generations] == list(range(len(rows)))
        assert [generation.task for generation in result.generations] == rows["task"][:]
        assert [generation.references for generation in result.generations] == rows["references"][:]
        assert [generation.id for generation in result.generations] == rows["id"][:]
        questions = [prompt[-1]["content"] for prompt in rows["prompt"]]
        assert [generation.question for generation in result.generations] == questions
        for task in set(rows["task"]):
            values = [generation.score for generation in result.generations if generation.task == task]
            assert sum(values) / len(values) == pytest.approx(result.scores[f"{task}_{PRIMARY[task]}"])


def test_one_prefill_then_one_token_a_step_and_no_step_after_the_last_row_ends(model_and_processor):
    """Every token ends an answer: one forward pass a batch. A longest reference of 6 bytes ("yellow") allows
    ceil(1.5 * 6) + 8 = 17 tokens: the prompt and 16 single tokens, unless all rows end before."""
    model, processor = model_and_processor
    rows = tiny.tiny_rows(8)
    assert max(len(texts[0]) for texts in rows["references"]) == 6
    lengths = []
    decoder = model.get_decoder()
    decoder.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    result = evaluate_rows(model, processor, rows, batch_size=4)
    prompt_length = prompt_inputs(processor, rows)["input_ids"].shape[1]
    assert lengths == ([prompt_length] + [1] * 16) * 2
    assert max(map(len, answers(result))) <= 17

    lengths.clear()
    model.generation_config.eos_token_id = list(range(len(processor.tokenizer)))
    assert answers(evaluate_rows(model, processor, rows, batch_size=4)) == [""] * 8
    assert lengths == [prompt_length] * 2


@pytest.mark.parametrize("as_list", [True, False])
def test_an_answer_ends_at_the_models_own_end_tokens(model_and_processor, as_list):
    model, processor = model_and_processor
    rows = tiny.tiny_rows(6)
    before = answers(evaluate_rows(model, processor, rows, max_new_tokens=8))
    stop = next(char for text in before for char in text if char.isascii() and char.isalnum() and set(text) != {char})
    token = processor.tokenizer.convert_tokens_to_ids(stop)
    model.generation_config.eos_token_id = [token] if as_list else token
    after = answers(evaluate_rows(model, processor, rows, max_new_tokens=8))
    assert after == [text.split(stop)[0].strip() for text in before]
    assert after != before


def test_sampling_and_penalties_of_the_model_do_not_apply(model_and_processor, rows):
    model, processor = model_and_processor
    expected = answers(evaluate_rows(model, processor, rows))
    model.generation_config.update(
        do_sample=True, temperature=5.0, repetition_penalty=9.0, num_beams=2, min_length=400, max_length=500
    )
    assert answers(evaluate_rows(model, processor, rows)) == expected


def random_states() -> list:
    return [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_and_the_random_state_are_left_as_they_were(model_and_processor, rows, fails):
    model, processor = model_and_processor
    model.train()
    model.model.vision_tower.eval()  # like a tower with statistics that must not change
    model.model.vision_tower.requires_grad_(False)
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
    model.config.use_cache = False
    model.generation_config = GenerationConfig(eos_token_id=[2], temperature=0.5, do_sample=True)
    generation_config = model.generation_config

    def observed() -> dict:
        return {
            "modes": {name: module.training for name, module in model.named_modules()},
            "checkpointing": {
                n: m.gradient_checkpointing for n, m in model.named_modules() if "gradient_checkpointing" in vars(m)
            },
            "config": model.config.to_dict(),
            "generation_config": model.generation_config.to_dict(),
            "grad": {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()},
            "attributes": sorted(vars(model)),
            "enabled": torch.is_grad_enabled(),
        }

    def stop(num_rows):
        assert not model.training
        raise KeyboardInterrupt

    before, state, weights = observed(), random_states(), copy.deepcopy(model.state_dict())
    if fails:
        with pytest.raises(KeyboardInterrupt):
            evaluate_rows(model, processor, rows, on_batch=stop)
    else:
        evaluate_rows(model, processor, rows)
    assert observed() == before
    assert model.generation_config is generation_config
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert random_states() == state


def test_a_model_of_sft_trainer_answers_as_before_and_trains_as_if_never_evaluated(rows, tmp_path):
    """TRL wraps the base model's forward, checkpoints it and makes its embeddings ask for gradients. LoRA starts at
    B = 0, so before training the answers are the base model's; after it they are not. Two runs, one evaluated before,
    between and after its steps, end in the same bits (dropout draws random numbers)."""
    weights = []
    for evaluated in (True, False):
        model, processor = tiny.tiny_llava(5)
        expected = answers(evaluate_rows(model, processor, rows, max_new_tokens=8))
        trainer = sft_trainer(model, processor, rows, tmp_path, max_steps=8)
        if evaluated:
            assert trainer.args.gradient_checkpointing
            evaluation = PreparedEvaluation(rows, processor, max_new_tokens=8)
            assert answers(evaluation.run(trainer.model)) == expected
            trainer.train()
            trained = answers(evaluation.run(trainer.model))
            assert trained != expected
            assert answers(evaluation.run(trainer.model)) == trained
        else:
            trainer.train()
        trainer.optimizer = trainer.lr_scheduler = None
        trainer.train()
        weights.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_a_model_under_bf16_training_without_adapters(rows, tmp_path):
    """accelerate wraps the forward of such a model in autocast; generation goes through it."""
    model, processor = tiny.tiny_llava(5)
    model.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    trainer = sft_trainer(model, processor, rows, tmp_path, lora=False, bf16=True)
    trainer.train()
    result = evaluate_rows(trainer.model, processor, rows, autocast_dtype=torch.bfloat16)
    assert answers(result) == answers(evaluate_rows(trainer.model, processor, rows, autocast_dtype=torch.bfloat16))
    trainer.train()


def test_a_mixture_of_experts_whose_router_loss_trains_is_answered(rows):
    """TRL turns `output_router_logits` on, and its loss cannot be computed for one token after a cache."""
    processor = tiny.tiny_processor()
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "intermediate_size": 32,
        "vocab_size": len(processor.tokenizer),
    }
    experts = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0}
    vision = {"hidden_size": 16, "depth": 1, "num_heads": 2, "out_hidden_size": 32, "intermediate_size": 16}
    text = {**sizes, **experts, **heads, "rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2]}}
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(
        AutoConfig.for_model(
            "qwen3_vl_moe", text_config=text, vision_config={**vision, "deepstack_visual_indexes": [0]}
        )
    )
    without_images = rows.map(lambda row: {"images": []}, features=rows.features)
    evaluation = PreparedEvaluation(without_images, processor, max_new_tokens=4)
    answers = evaluation.run(model).generations
    model.config.text_config.output_router_logits = True
    assert evaluation.run(model).generations == answers
    assert model.config.text_config.output_router_logits is True


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_autocast_is_used_when_asked_for(model_and_processor, rows, dtype):
    model, processor = model_and_processor
    seen = set()
    model.get_decoder().layers[0].mlp.register_forward_hook(lambda module, args, output: seen.add(output.dtype))
    evaluate_rows(model, processor, rows, autocast_dtype=dtype)
    assert seen == {dtype or torch.float32}


def test_prepared_inputs_are_kept_as_far_as_the_cache_reaches(model_and_processor, rows, monkeypatch):
    """Three batches of 5 rows of 3 x 16 x 16 pixels in fp32, 15,360 bytes, and ids and masks of less than 5,000: a
    cache of 40,000 bytes holds one or two of them."""
    model, processor = model_and_processor
    calls = []
    processor_class = type(processor)
    original = processor_class.__call__
    monkeypatch.setattr(
        processor_class, "__call__", lambda self, *args, **kwargs: calls.append(1) or original(self, *args, **kwargs)
    )
    passes = {}
    for cache_size in (0, 40_000, 256 * 2**20):
        evaluation = PreparedEvaluation(rows, processor, cache_size=cache_size)
        first = answers(evaluation.run(model))
        calls.clear()
        assert answers(evaluation.run(model)) == first
        passes[cache_size] = len(calls)
    assert passes[0] == 3
    assert 0 < passes[40_000] < 3
    assert passes[256 * 2**20] == 0


def test_scores_over_all_rows_clients_and_subsets(model_and_processor):
    """The references are what the model says, or not: rows 0, 1 and 4 of six are right. Client a has rows 0-2, so
    2/3; b has 3 and 4, so 1/2; row 5 has no client. Open: rows 0, 2, 4, so 2/3; closed 1/3."""
    model, processor = model_and_processor
    rows = tiny.tiny_rows(6, task="classification").remove_columns("references")
    said = answers(evaluate_rows(model, processor, rows.add_column("references", [["?"]] * 6), max_new_tokens=4))
    assert all(said)
    right = (0, 1, 4)
    rows = rows.add_column("references", [[said[row] if row in right else "no, this"] for row in range(6)])
    rows = rows.add_column("client_id", ["a", "a", "a", "b", "b", None])
    rows = rows.add_column("subset", ["open", "closed"] * 3)
    batches = []
    result = PreparedEvaluation(rows, processor, batch_size=4, max_new_tokens=4).run(model, on_batch=batches.append)
    assert result.scores == {"classification_accuracy": 3 / 6}
    assert result.clients == {"a": {"classification_accuracy": 2 / 3}, "b": {"classification_accuracy": 1 / 2}}
    assert result.subsets == {"closed": {"classification_accuracy": 1 / 3}, "open": {"classification_accuracy": 2 / 3}}
    assert batches == [4, 2]
    assert result.seconds > 0


def test_a_client_has_the_scores_of_its_tasks_only_and_the_set_is_the_mean_of_its_rows(model_and_processor):
    """Captions of two clients, 3 and 1 rows: one caption alone has no CIDEr, but in the set it has."""
    model, processor = model_and_processor
    parts = [("a", "caption", 3), ("b", "caption", 1), ("b", "vqa", 2)]
    rows = concatenate_datasets(
        [tiny.tiny_rows(n, task=task).add_column("client_id", [client] * n) for client, task, n in parts]
    )
    result = evaluate_rows(model, processor, rows)
    captions = {"caption_cider", "caption_rouge_l"}
    assert list(result.scores) == ["vqa_accuracy", "caption_cider", "caption_rouge_l"]
    assert set(result.clients["a"]) == captions
    assert set(result.clients["b"]) == captions | {"vqa_accuracy"}
    assert result.subsets == {}
    for name in captions:
        total = 3 * result.clients["a"][name] + result.clients["b"][name]
        assert result.scores[name] == pytest.approx(total / 4)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda rows: rows.remove_columns(["task", "references"]), {}, "without task, references"),
        (lambda rows: rows.select([]), {}, "`dataset` has no rows"),
        (lambda rows: rows, {"batch_size": 0}, "`batch_size` must be 1 or more, got 0"),
        (lambda rows: rows, {"max_new_tokens": 0}, "`max_new_tokens` must be 1 or more, got 0"),
        (lambda rows: rows.map(lambda row: {"task": "vqq"}), {}, "`task` must be one of .* got 'vqq'"),
        (lambda rows: rows.map(lambda row: {"task": None}), {}, "`task` must be one of .* got None"),
        (lambda rows: rows.map(lambda row: {"task": "grounding"}), {}, "`references` must be boxes"),
        (lambda rows: rows.select([0]).map(lambda row: {"task": "caption"}), {}, "two rows or more"),
    ],
)
def test_errors_come_before_anything_is_generated(model_and_processor, change, arguments, message):
    _, processor = model_and_processor
    with pytest.raises(ValueError, match=message):
        PreparedEvaluation(change(tiny.tiny_rows(3)), processor, **arguments)


@pytest.mark.parametrize("autocast_dtype", [None, torch.bfloat16])
def test_each_client_is_answered_with_its_own_weights(model_and_processor, rows, autocast_dtype):
    """Autocast keeps bf16 copies of trainable weights while it is open: a client would get the last one's answers."""
    model, processor = model_and_processor
    clients = [("a", "b", "c")[row % 3] for row in range(len(rows))]
    rows = rows.add_column("client_id", clients)
    weight = model.model.language_model.layers[0].mlp.up_proj.weight
    original = weight.detach().clone()

    @torch.no_grad()
    def load(client_id: str) -> None:
        weight.copy_(original * {"a": 1.0, "b": -2.0, "c": 5.0}[client_id])

    evaluation = PreparedEvaluation(rows, processor, batch_size=4, by_client=True)
    together = answers(evaluation.run(model, autocast_dtype=autocast_dtype, load_client=load))
    for client_id in "abc":
        load(client_id)
        alone = answers(evaluation.run(model, autocast_dtype=autocast_dtype))
        mine = [row for row, name in enumerate(clients) if name == client_id]
        assert [together[row] for row in mine] == [alone[row] for row in mine]
    load("a")
    first = answers(evaluation.run(model, autocast_dtype=autocast_dtype))
    assert together != first  # the weights of the clients make a difference
