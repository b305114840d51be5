"""Fed-Nature mini: four clients with one task each, made from scenes of handwritten digits.

The layout is that of Fed-Nature in FedVLMBench (https://huggingface.co/papers/2506.09638). `scenes.py` says where the
digits come from, and their licence.
"""

import io

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image, List, Value

from .scenes import Scene, make_scene
from .tasks import TASKS


_MESSAGES = List({"role": Value("string"), "content": Value("string")})
_FEATURES = {
    "images": List(Image()),
    "prompt": _MESSAGES,
    "completion": _MESSAGES,
    "task": Value("string"),
    "references": List(Value("string")),
    "id": Value("string"),
    # In every split, though only evaluation reads it: the splits of a Hub configuration have the same columns.
    "client_id": Value("string"),
}
CLIENT_TASKS = {f"client_{number:02d}": task for number, task in enumerate(TASKS)}


def fed_nature(
    seed: int = 0, num_train_rows: int = 1600, num_validation_rows: int = 100, num_test_rows: int = 500
) -> DatasetDict:
    """Make the dataset, in memory, in a few seconds.

    Each client's scenes show digits that no other split shows, and none of them was seen in pretraining; validation
    and test are disjoint in digits too.

    Args:
        seed (`int`, *optional*, defaults to `0`): Seed of the data; the same seed gives the same bytes.
        num_train_rows (`int`, *optional*, defaults to `1600`): Rows of each client.
        num_validation_rows (`int`, *optional*, defaults to `100`): Validation rows of each task.
        num_test_rows (`int`, *optional*, defaults to `500`): Test rows of each task.

    Returns:
        `DatasetDict`: splits `client_00` (VQA), `client_01` (grounding), `client_02` (captions), `client_03`
        (classification), `validation` and `test`. Rows are TRL's prompt-completion format with `images`, `task`,
        `references`, `id` and `client_id`, which says whose task a row of `validation` or `test` belongs to.

    Example:

    ```python
    >>> from fedvlm_hf.mini import fed_nature

    >>> fed_nature()["client_00"][0]["prompt"]
    [{'role': 'user', 'content': 'What digit is at the bottom left?'}]
    ```
    """
    splits = {
        client_id: _to_dataset([_row(client_id, client_id, seed, index) for index in range(num_train_rows)])
        for client_id in CLIENT_TASKS
    }
    for split, num_rows in (("validation", num_validation_rows), ("test", num_test_rows)):
        rows = [
            _row(split, client_id, seed, number * num_rows + index)
            for number, client_id in enumerate(CLIENT_TASKS)
            for index in range(num_rows)
        ]
        splits[split] = _to_dataset(rows)
    return DatasetDict(splits)


def _row(block: str, client_id: str, seed: int, index: int) -> dict:
    task = CLIENT_TASKS[client_id]
    scene = make_scene(block, seed, index)
    # A stream of its own, apart from the scene's: a change in the questions leaves the images alone.
    rng = np.random.default_rng([seed, index, *block.encode()])
    question, answers = TASKS[task](scene, rng)
    return {
        "images": [{"bytes": _png(scene), "path": None}],
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answers[0]}],
        "task": task,
        "references": answers,
        "id": f"{block}-{task}-{index:05d}",
        "client_id": client_id,
    }


def _png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    # Pixel noise hardly compresses: level 0 costs a fifth more bytes and saves half of the build time.
    scene.image().save(buffer, format="png", compress_level=0)
    return buffer.getvalue()


def _to_dataset(rows: list[dict]) -> Dataset:
    return Dataset.from_dict({name: [row[name] for row in rows] for name in _FEATURES}, features=Features(_FEATURES))
