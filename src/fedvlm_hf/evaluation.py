"""Evaluation by generation: greedy answers to every row, scored per task, per client and per subset."""

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

from .data.frames import frame_rule
from .data.framing import BOX_TASKS, in_model_frame, in_stored_frame, row_frames
from .metrics import TASK_METRICS, check_references, score_examples
from .types import EvalResult, Generation


REQUIRED_COLUMNS = ("images", "prompt", "task", "references")


@dataclass(frozen=True)
class _Batch:
    """Rows of one task and of like length, generated together."""

    rows: list[int]
    max_new_tokens: int
    client_id: str | None = None


class PreparedEvaluation:
    """An evaluation set made ready once, to be scored after any number of rounds.

    Rows are generated together with rows of the same task and of like prompt length, since what costs is the padding
    and the wait for the longest answer. Prompts are rendered and tokenized as TRL's vision collator does in training,
    padded on the left. Which rows share a batch does not depend on the model, so the same weights give the same
    answers (on the same machine, to the bit).

    Boxes in rows are those of the stored image. Where the processor shows the model another frame, boxes in prompts
    are mapped to it, and boxes in the answers of grounding and detection back, so that scores and samples are of the
    stored image. A box that the processor crops away stays a row: it counts 0 unless the model finds it all the same.

    Args:
        dataset ([`~datasets.Dataset`]):
            Rows with `images`, `prompt`, `task` and `references`. Rows of a column `client_id` or `subset` are also
            scored apart; a `completion` serves only to render the prompt as training does.
        processor ([`~transformers.ProcessorMixin`]):
            The model's processor, with a chat template and a padding token.
        batch_size (`int`, *optional*, defaults to `32`):
            Rows generated together. On a CPU more is slower for small models, too: their activations leave the cache.
        max_new_tokens (`int`, *optional*):
            Longest answer in tokens. By default it follows from the longest reference of the task, half as much again
            and 8 tokens more, so that a model that never stops costs little and no right answer is cut.
        cache_size (`int`, *optional*, defaults to `268435456`):
            Prepared batches are kept in memory up to this many bytes in all; what does not fit is prepared again on
            each pass. A row takes about the bytes of its pixel values: 27 KB at 48 x 48 pixels, 1.3 MB at 336 x 336.
        by_client (`bool`, *optional*, defaults to `False`):
            Keep the rows of each `client_id` together, for models that differ by client.

    Raises:
        `ValueError`: if a column is missing, a task is unknown, its references cannot be scored against, or a size is
            not positive.

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
        """Generate and score. The model, its configuration and all random state are left as they were.

        Args:
            model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
                The model on its device, with or without injected adapters (the LoRA family).
            autocast_dtype (`torch.dtype`, *optional*):
                Compute type, such as `torch.bfloat16` for a run in bf16. By default that of the weights.
            on_batch (`Callable[[int], None]`, *optional*):
                Called after each batch with the number of its rows.
            load_client (`Callable[[str], None]`, *optional*):
                Puts a client's own tensors into the model, called before the first of its batches. Needs `by_client`.

        Returns:
            [`EvalResult`]: scores by `"{task}_{metric}"`. CIDEr of a client or subset weighs n-grams by the references
            of the whole set, so that the score of the set is the mean of its rows wherever they are counted.
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
            generations=[
                Generation(row, self.tasks[row], text, self.references[row]) for row, text in enumerate(predictions)
            ],
            seconds=time.perf_counter() - start,
        )

    def _answer(
        self,
        model: PreTrainedModel | PeftModel,
        autocast_dtype: torch.dtype | None,
        on_batch: Callable[[int], None] | None,
        load_client: Callable[[str], None] | None,
    ) -> list[str]:
        """One answer a row, in the order of the rows."""
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        tokenizer = self.processor.tokenizer
        stop_ids = _stop_ids(base.generation_config, tokenizer)
        autocast = torch.autocast(base.device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None)
        answers = [""] * len(self)
        # Not inference_mode: a tensor that a module keeps from its forward could never take part in training again.
        with _greedy(base, stop_ids, tokenizer.pad_token_id), torch.no_grad(), autocast:
            loaded = None
            for index, batch in enumerate(self._batches):
                if load_client is not None and batch.client_id != loaded:
                    load_client(batch.client_id)
                    torch.clear_autocast_cache()  # it holds low-precision copies of the last client's weights
                    loaded = batch.client_id
                # Not BatchFeature.to, which moves the cached tensors themselves.
                inputs = {name: value.to(base.device) for name, value in self._inputs(index).items()}
                config = GenerationConfig(max_new_tokens=batch.max_new_tokens)
                tokens = base.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :]
                for row, text in zip(batch.rows, _decode(tokenizer, tokens, stop_ids), strict=True):
                    answers[row] = text
                if on_batch is not None:
                    on_batch(len(batch.rows))
        return answers

    def _inputs(self, index: int) -> BatchFeature:
        """Tensors of a batch, from the cache where they are in it."""
        if index in self._cache:
            return self._cache[index]
        inputs = prompt_inputs(self.processor, self.dataset.select(self._batches[index].rows))
        size = sum(value.nbytes for value in inputs.values())
        if size <= self._cache_left:
            self._cache_left -= size
            self._cache[index] = inputs
        return inputs

    def _group(self, batch_size: int, max_new_tokens: int | None, by_client: bool) -> Iterator[_Batch]:
        # Length of what the user says: the template adds the same to each row, and so does an image of fixed size.
        contents = ["".join(str(message["content"]) for message in prompt) for prompt in self.dataset["prompt"]]
        lengths = _num_tokens(self.processor.tokenizer, contents)
        clients = self.dataset["client_id"][:] if by_client else [None] * len(self)
        limits = {task: max_new_tokens or self._longest_answer(rows) for task, rows in _rows_by(self.tasks).items()}
        for (client_id, task), rows in sorted(_rows_by(zip(clients, self.tasks, strict=True)).items(), key=str):
            rows = sorted(rows, key=lambda row: (lengths[row], row))
            for start in range(0, len(rows), batch_size):
                yield _Batch(rows[start : start + batch_size], limits[task], client_id)

    def _longest_answer(self, rows: list[int]) -> int:
        """Tokens that an answer to these rows, of one task, may have."""
        texts = {text for row in rows for text in self.references[row]}
        return ceil(1.5 * max(_num_tokens(self.processor.tokenizer, sorted(texts)))) + 8

    def _score(self, predictions: list[str]) -> dict[str, dict[int, float]]:
        """`"{task}_{metric}"` to the value of each row of that task."""
        values = {}
        rows_by_task = _rows_by(self.tasks)
        for task in (task for task in TASK_METRICS if task in rows_by_task):
            rows = rows_by_task[task]
            columns = score_examples(task, [predictions[row] for row in rows], [self.references[row] for row in rows])
            for metric, column in columns.items():
                values[f"{task}_{metric}"] = dict(zip(rows, column, strict=True))
        return values

    def _means_by(self, column: str, values: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float]]:
        if column not in self.dataset.column_names:
            return {}
        groups = _rows_by(self.dataset[column])
        groups.pop(None, None)
        return {name: _means(values, groups[name]) for name in sorted(groups)}


def evaluate_rows(
    model: PreTrainedModel | PeftModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    batch_size: int = 32,
    max_new_tokens: int | None = None,
    autocast_dtype: torch.dtype | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> EvalResult:
    """Generate answers to the rows of a dataset and score them, once.

    The arguments are those of [`PreparedEvaluation`] and its `run`. Nothing is kept in memory between batches.
    """
    evaluation = PreparedEvaluation(
        dataset, processor, batch_size=batch_size, max_new_tokens=max_new_tokens, cache_size=0
    )
    return evaluation.run(model, autocast_dtype=autocast_dtype, on_batch=on_batch)


def prompt_inputs(processor: ProcessorMixin, rows: Iterable[Mapping]) -> BatchFeature:
    """Render, tokenize and left-pad the prompts of some rows as TRL's `DataCollatorForVisionLanguageModeling` does.

    Boxes are mapped to what the processor shows of the image first, as in a [`FederatedTrainer`].

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            The model's processor.
        rows (`Iterable[Mapping]`):
            Rows with `images`, `prompt` and, where training has it, `completion`: TRL ends the prompt where its
            rendering and that of the whole conversation part.

    Returns:
        [`~transformers.BatchFeature`]: what the processor gives, such as `input_ids` and `attention_mask` of shape
        (rows, longest prompt), and `pixel_values`.
    """
    images, prompts = [], []
    rule = frame_rule(processor)
    for row in rows if rule is None else (in_model_frame(row, rule) for row in rows):
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
    """Put a model in evaluation mode with plain greedy decoding and a KV cache; put back what it had."""
    # By module: a frozen part may stay in evaluation mode while the rest trains.
    modes = [(module, module.training) for module in model.modules()]
    generation_config = model.generation_config
    model.eval()
    # Replaced and not updated: `generate` takes whatever is unset from the model's own, repetition penalties too.
    model.generation_config = GenerationConfig(
        do_sample=False, use_cache=True, eos_token_id=sorted(stop_ids) or None, pad_token_id=pad_token_id
    )
    try:
        yield
    finally:
        model.generation_config = generation_config
        for module, mode in modes:
            module.training = mode


def _stop_ids(generation_config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """End tokens of the model and of its tokenizer: Trainer gives the first the second's when it first trains."""
    eos = generation_config.eos_token_id
    ids = {tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])}
    return {token for token in ids if token is not None}


def _decode(tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor, stop_ids: set[int]) -> list[str]:
    """Text of each row up to its first end token."""
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
    """Mean of each value over those of the rows that have it."""
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
        raise ValueError(f"`max_new_tokens` must be 1 or more, got {max_new_tokens}: no answer has fewer tokens.")
