"""Evaluation by generation: answer every row greedily, and score the answers by task, client and subset."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, fsum

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import BatchFeature, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from trl.data_utils import apply_chat_template, prepare_multimodal_messages

from .client.modules import eval_mode
from .data.boxes import BOX_TASKS
from .data.frames import frame_rule
from .data.framing import in_stored_frame, prepare_row, row_frames
from .metrics import PRIMARY, TASK_METRICS, check_references, score_examples
from .types import EvalResult, Generation


REQUIRED_COLUMNS = ("images", "prompt", "task", "references")


@dataclass(frozen=True)
class _Batch:
    """Rows of one task and of similar length, which are generated together."""

    rows: list[int]
    max_new_tokens: int
    client_id: str | None = None


class PreparedEvaluation:
    """An evaluation set that is prepared once and can then be scored any number of times.

    The rows of a batch have the same task and similar prompt lengths, to save padding and waiting for the longest
    answer. Prompts are rendered and tokenized as TRL's vision collator does in training, with padding on the left. The
    batches do not depend on the model, so the same weights give bit-identical answers on the same machine.

    Boxes in rows refer to the stored image. If the processor shows the model another frame, boxes in prompts are
    mapped to that frame, and boxes in the answers of grounding and detection are mapped back, so that scores and
    samples refer to the stored image. A row whose box the processor crops away is kept, and scores 0 unless the model
    finds the box anyway.

    Args:
        dataset ([`~datasets.Dataset`]):
            Rows with `images`, `prompt`, `task` and `references`. If there is a column `client_id` or `subset`, scores
            are also computed for each of its values. A `completion` is used only to render the prompt as in training.
        processor ([`~transformers.ProcessorMixin`]):
            The processor of the model, with a chat template and a padding token.
        batch_size (`int`, *optional*, defaults to `32`):
            Number of rows per batch. On a CPU, larger batches are slower even for small models, because activations no
            longer fit in the cache.
        max_new_tokens (`int`, *optional*):
            Longest answer in tokens. The default is 1.5 times the longest reference of the task plus 8 tokens, which
            cuts no correct answer and limits the cost of a model that never stops.
        cache_size (`int`, *optional*, defaults to `268435456`):
            Bytes of prepared batches to keep in memory. Batches beyond this limit are prepared again each time. A row
            needs about the size of its pixel values: 27 KB at 48 x 48 pixels, 1.3 MB at 336 x 336.
        by_client (`bool`, *optional*, defaults to `False`):
            Whether all rows of a batch have the same `client_id`, for models that differ by client.

    Raises:
        `ValueError`: If a column is missing, a task is unknown, its references cannot be used for scoring, or a size
            is not positive.

    Example:

    ```python
    >>> evaluation = PreparedEvaluation(dataset["test"], processor)  # doctest: +SKIP
    >>> evaluation.run(model).scores  # doctest: +SKIP
    {'vqa_accuracy': 0.61, 'grounding_mean_iou': 0.42, 'grounding_accuracy_at_50': 0.38}
    ```
    """

    def __init__(
        self,
        dataset: Dataset,
        processor: ProcessorMixin,
        *,
        batch_size: int = 32,
        max_new_tokens: int | None = None,
        cache_size: int = 256 * 2**20,
        by_client: bool = False,
    ):
        _check_arguments(dataset, batch_size, max_new_tokens)
        self.dataset = dataset
        self.processor = processor
        self.tasks: list[str] = dataset["task"][:]
        self.references: list[list[str]] = dataset["references"][:]
        for task, rows in _rows_by(self.tasks).items():
            check_references(task, [self.references[row] for row in rows])
        rule = frame_rule(processor)
        box_rows = [row for row, task in enumerate(self.tasks) if task in BOX_TASKS]
        self._frames = row_frames(dataset, rule, box_rows) if rule else {}
        self._batches = list(self._group(batch_size, max_new_tokens, by_client))
        self._cache: dict[int, BatchFeature] = {}
        self._cache_left = cache_size

    def __len__(self) -> int:
        return len(self.tasks)

    def run(
        self,
        model: PreTrainedModel | PeftModel,
        *,
        autocast_dtype: torch.dtype | None = None,
        on_batch: Callable[[int], None] | None = None,
        load_client: Callable[[str], None] | None = None,
    ) -> EvalResult:
        """Generate and score, without changing the model, its configuration or any random state.

        Args:
            model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
                The model on its device, with or without injected adapters (the LoRA family).
            autocast_dtype (`torch.dtype`, *optional*):
                Data type of autocast, such as `torch.bfloat16` for a run in bf16. By default there is no autocast.
            on_batch (`Callable[[int], None]`, *optional*):
                Function that is called after each batch with its number of rows.
            load_client (`Callable[[str], None]`, *optional*):
                Function that loads the private tensors of a client into the model. It is called before the first batch
                of each client and needs `by_client`.

        Returns:
            [`EvalResult`]: Scores by `"{task}_{metric}"`. CIDEr weighs n-grams by the references of the whole set even
            for a client or subset, so that the score of the set is the mean over its rows.
        """
        start = time.perf_counter()
        predictions = self._answer(model, autocast_dtype, on_batch, load_client)
        for row, frame in self._frames.items():
            predictions[row] = in_stored_frame(predictions[row], frame)
        values = self._score(predictions)
        return EvalResult(
            scores=_means(values, range(len(self))),
            clients=self._means_by("client_id", values),
            subsets=self._means_by("subset", values),
            generations=self._generations(predictions, values),
            seconds=time.perf_counter() - start,
        )

    def _answer(
        self,
        model: PreTrainedModel | PeftModel,
        autocast_dtype: torch.dtype | None,
        on_batch: Callable[[int], None] | None,
        load_client: Callable[[str], None] | None,
    ) -> list[str]:
        """Generate one answer per row, in the order of the rows."""
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        tokenizer = self.processor.tokenizer
        stop_ids = _stop_ids(base.generation_config, tokenizer)
        autocast = torch.autocast(base.device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None)
        answers = [""] * len(self)
        # Not inference_mode: a tensor that a module keeps from this forward could never be used in training.
        with _greedy(base, stop_ids, tokenizer.pad_token_id), torch.no_grad(), autocast:
            loaded = None
            for index, batch in enumerate(self._batches):
                if load_client is not None and batch.client_id != loaded:
                    load_client(batch.client_id)
                    torch.clear_autocast_cache()  # it contains low-precision copies of the last client's weights
                    loaded = batch.client_id
                # Not BatchFeature.to, which would move the cached tensors themselves
                inputs = {name: value.to(base.device) for name, value in self._inputs(index).items()}
                config = GenerationConfig(max_new_tokens=batch.max_new_tokens)
                tokens = base.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :]
                for row, text in zip(batch.rows, _decode(tokenizer, tokens, stop_ids), strict=True):
                    answers[row] = text
                if on_batch is not None:
                    on_batch(len(batch.rows))
        return answers

    def _inputs(self, index: int) -> BatchFeature:
        """Return the tensors of a batch, from the cache if they are there."""
        if index in self._cache:
            return self._cache[index]
        inputs = prompt_inputs(self.processor, self.dataset.select(self._batches[index].rows))
        size = sum(value.nbytes for value in inputs.values())
        if size <= self._cache_left:
            self._cache_left -= size
            self._cache[index] = inputs
        return inputs

    def _group(self, batch_size: int, max_new_tokens: int | None, by_client: bool) -> Iterator[_Batch]:
        # Only the content counts: the template adds the same length to each row, and so does an image of fixed size
        contents = ["".join(str(message["content"]) for message in prompt) for prompt in self.dataset["prompt"]]
        lengths = _num_tokens(self.processor.tokenizer, contents)
        clients = self.dataset["client_id"][:] if by_client else [None] * len(self)
        limits = {task: max_new_tokens or self._longest_answer(rows) for task, rows in _rows_by(self.tasks).items()}
        for (client_id, task), rows in sorted(_rows_by(zip(clients, self.tasks, strict=True)).items(), key=str):
            rows = sorted(rows, key=lambda row: (lengths[row], row))
            for start in range(0, len(rows), batch_size):
                yield _Batch(rows[start : start + batch_size], limits[task], client_id)

    def _longest_answer(self, rows: list[int]) -> int:
        """Return the largest number of tokens for an answer to these rows, which all have the same task."""
        texts = {text for row in rows for text in self.references[row]}
        return ceil(1.5 * max(_num_tokens(self.processor.tokenizer, sorted(texts)))) + 8

    def _score(self, predictions: list[str]) -> dict[str, dict[int, float]]:
        """Return the value of each row of a task, by `"{task}_{metric}"` and row."""
        values = {}
        rows_by_task = _rows_by(self.tasks)
        for task in (task for task in TASK_METRICS if task in rows_by_task):
            rows = rows_by_task[task]
            columns = score_examples(task, [predictions[row] for row in rows], [self.references[row] for row in rows])
            for metric, column in columns.items():
                values[f"{task}_{metric}"] = dict(zip(rows, column, strict=True))
        return values

    def _generations(self, predictions: list[str], values: Mapping[str, Mapping[int, float]]) -> list[Generation]:
        """Return each answer with its row: id, question, references and value of the primary metric."""
        ids = self.dataset["id"] if "id" in self.dataset.column_names else [None] * len(self)
        return [
            Generation(
                row=row,
                task=task,
                prediction=predictions[row],
                references=self.references[row],
                id=None if row_id is None else str(row_id),
                question=str(prompt[-1]["content"]),
                score=values[f"{task}_{PRIMARY[task]}"].get(row),
            )
            for row, (task, row_id, prompt) in enumerate(zip(self.tasks, ids, self.dataset["prompt"], strict=True))
        ]

    def _means_by(self, column: str, values: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float]]:
        if column not in self.dataset.column_names:
            return {}
        groups = _rows_by(self.dataset[column])
        groups.pop(None, None)
        return {name: _means(values, groups[name]) for name in sorted(groups)}


def flat_scores(evaluations: Mapping[str, EvalResult]) -> dict[str, float]:
    """Scores by name, one slash each: `test/vqa_accuracy`, `test_client_00/vqa_accuracy`."""
    flat: dict[str, float] = {}
    for name, result in evaluations.items():
        flat.update({f"{name}/{key}": value for key, value in result.scores.items()})
        for part, scores in {**result.clients, **result.subsets}.items():
            flat.update({f"{name}_{part}/{key}": value for key, value in scores.items()})
    return flat


def prompt_inputs(processor: ProcessorMixin, rows: Iterable[Mapping]) -> BatchFeature:
    """Render, tokenize and left-pad the prompts of some rows as TRL's `DataCollatorForVisionLanguageModeling` does.

    As in a [`FederatedTrainer`], images with more than 8 bits are first converted, and boxes are mapped to the part of
    the image that the processor shows.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            The processor of the model.
        rows (`Iterable[Mapping]`):
            Rows with `images`, `prompt` and, as in training, `completion`: TRL ends the prompt at the first difference
            between the rendered prompt and the rendered conversation.

    Returns:
        [`~transformers.BatchFeature`]: The output of the processor, such as `input_ids` and `attention_mask` of shape
        (rows, longest prompt), and `pixel_values`.
    """
    images, prompts = [], []
    rule = frame_rule(processor)
    for row in (prepare_row(row, rule) for row in rows):
        example = {"prompt": prepare_multimodal_messages(row["prompt"], images=row["images"])}
        if row.get("completion") is not None:
            example["completion"] = prepare_multimodal_messages(row["completion"])
        images.append(row["images"])
        prompts.append(apply_chat_template(example, processor)["prompt"])
    return processor(
        images=images if any(images) else None,
        text=prompts,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        add_special_tokens=False,  # the template writes them
    )


@contextmanager
def _greedy(model: PreTrainedModel, stop_ids: set[int], pad_token_id: int) -> Iterator[None]:
    """Set a model to evaluation mode with plain greedy decoding and a KV cache, and restore it afterwards."""
    generation_config = model.generation_config
    # TRL turns it on to train mixtures of experts; their loss cannot be computed for one token after a cache
    text_config = model.config.get_text_config()
    router_logits = getattr(text_config, "output_router_logits", None)
    if router_logits:
        text_config.output_router_logits = False
    # Replaced, not updated: `generate` takes unset values, such as a repetition penalty, from the model's own
    # configuration
    model.generation_config = GenerationConfig(
        do_sample=False, use_cache=True, eos_token_id=sorted(stop_ids) or None, pad_token_id=pad_token_id
    )
    try:
        with eval_mode(model):
            yield
    finally:
        model.generation_config = generation_config
        if router_logits:
            text_config.output_router_logits = router_logits


def _stop_ids(generation_config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the end tokens of model and tokenizer, since Trainer replaces the former by the latter when it trains."""
    eos = generation_config.eos_token_id
    ids = {tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])}
    return {token for token in ids if token is not None}


def _decode(tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor, stop_ids: set[int]) -> list[str]:
    """Return the text of each row up to its first end token."""
    answers = []
    for row in tokens.tolist():
        end = next((position for position, token in enumerate(row) if token in stop_ids), len(row))
        answers.append(row[:end])
    return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def _num_tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _rows_by(keys: Iterable[str | None]) -> dict[str | None, list[int]]:
    rows: dict[str | None, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return rows


def _means(values: Mapping[str, Mapping[int, float]], rows: Iterable[int]) -> dict[str, float]:
    """Return the mean of each metric over those of the rows that have a value."""
    chosen = {name: [column[row] for row in rows if row in column] for name, column in values.items()}
    return {name: fsum(column) / len(column) for name, column in chosen.items() if column}


def _check_arguments(dataset: Dataset, batch_size: int, max_new_tokens: int | None) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in dataset.column_names]
    if missing:
        raise ValueError(
            f"`dataset` must have the columns {', '.join(REQUIRED_COLUMNS)}, got {dataset.column_names}: without "
            f"{', '.join(missing)} its rows cannot be answered and scored."
        )
    if len(dataset) == 0:
        raise ValueError("`dataset` has no rows: there is nothing to evaluate.")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be 1 or more, got {batch_size}.")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise ValueError(f"`max_new_tokens` must be 1 or more, got {max_new_tokens}: shorter answers do not exist.")
