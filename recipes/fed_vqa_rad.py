"""
Fine-tune one vision-language model on VQA-RAD: 3,515 questions on 314 radiographs, CT and MR images, by organ.

Get the data first: the folder data_RAD/ of github.com/longle0702/med-v2qa at commit
4ae21bc19dd20cb5e76fa89f3e77c07230b526c3 (trainset.json, testset.json, images/; 17 MB). Then, with the tiny embedded
LLaVA, on 2 CPU cores and 3 GiB:

    accelerate launch recipes/fed_vqa_rad.py --raw data_RAD

All 203 images of the given test split are training images too. To hold test images out:

    accelerate launch recipes/fed_vqa_rad.py --raw data_RAD --split clean

Any VLM:

    accelerate launch recipes/fed_vqa_rad.py --raw data_RAD \
        --model_name_or_path HuggingFaceTB/SmolVLM-Instruct --dtype bfloat16 \
        --num_rounds 10 --learning_rate 1e-4 --per_device_train_batch_size 4
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from pathlib import Path

from datasets import Dataset, DatasetDict
from trl import get_peft_config, get_quantization_config

from fedvlm_hf import FederatedTrainer
from fedvlm_hf.data.builders import vqa_rad
from fedvlm_hf.data.templates import TEMPLATES
from fedvlm_hf.launch import DataArguments, load_federation, parse_recipe
from fedvlm_hf.metrics import score_examples
from fedvlm_hf.mini import base_model
from fedvlm_hf.reporting.runs import Run, read_history
from fedvlm_hf.reporting.tables import markdown_table, number


DEFAULTS = Path(__file__).parent / "configs" / "fed_vqa_rad_mini.yaml"


@dataclass
class VqaRadArguments(DataArguments):
    """
    Arguments of this script.

    Parameters:
        raw (`str`, *optional*):
            Folder with `trainset.json`, `testset.json` and `images/`. Needed unless `dataset_name` is given.
        split (`str`, *optional*, defaults to `"given"`):
            `"given"`: the files' own split, whose test images are training images too. `"clean"`: images held out.
        image_size (`int`, *optional*, defaults to `512`):
            Long side in pixels that images are reduced to.
        wording (`str`, *optional*, defaults to `"short"`):
            How questions are put: `"short"` asks for a word or phrase, `"plain"` is the question alone.
    """

    raw: str | None = field(
        default=None,
        metadata={
            "help": "Folder with trainset.json, testset.json and images/. Needed unless `dataset_name` is given."
        },
    )
    split: str = field(
        default="given",
        metadata={
            "help": "'given': the files' own split, whose test images are training images too. 'clean': held out.",
            "choices": ["given", "clean"],
        },
    )
    image_size: int = field(default=512, metadata={"help": "Long side in pixels that images are reduced to."})
    wording: str = field(
        default="short",
        metadata={
            "help": "How questions are put: 'short' asks for a word or phrase, 'plain' is the question alone.",
            "choices": list(TEMPLATES["vqa"]),
        },
    )


def organ_table(run: Run, clients: Sequence[Dataset], tests: Mapping[str, Dataset]) -> str:
    """Accuracy per organ, closed and open questions apart, beside the commonest answer of each kind and round 0."""
    cells: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for organ, test in tests.items():
        guesses = score_examples("vqa", vqa_rad.commonest_answers(clients, test), test["references"])["accuracy"]
        for subset, scores in run.last(organ).subsets.items():
            blind = [guess for guess, own in zip(guesses, test["subset"], strict=True) if own == subset]
            before = run.first(organ).subsets[subset]["vqa_accuracy"]
            cell = (len(blind), fsum(blind) / len(blind), before, scores["vqa_accuracy"])
            cells[organ, subset] = [cell]
            cells.setdefault(("all", subset), []).append(cell)
    rows = []
    for (organ, subset), parts in sorted(cells.items(), key=lambda item: item[0][0] == "all"):
        num_rows = sum(part[0] for part in parts)
        means = (fsum(part[0] * part[column] for part in parts) / num_rows for column in (1, 2, 3))
        rows.append([organ, subset, str(num_rows), *map(number, means)])
    last = run.last_round(next(iter(tests)))
    return markdown_table(["organ", "questions", "rows", "commonest answer", "round 0", f"round {last}"], rows, 2)


def load_data(args: VqaRadArguments) -> tuple[DatasetDict, dict[str, Dataset]]:
    if args.dataset_name is not None:
        dataset = load_federation(args.dataset_name, args.dataset_config)
    elif args.raw is not None:
        dataset = vqa_rad.build(args.raw, args.split, args.image_size, args.wording)
    else:
        raise ValueError(f"`--raw` is missing: the folder with VQA-RAD. Get it from {vqa_rad.SOURCE}.")
    organs = dataset["test"]["organ"]
    tests = {
        organ: dataset["test"].select([row for row, own in enumerate(organs) if own == organ])
        for organ in vqa_rad.CLIENTS
    }
    return dataset, tests


def main(argv: list[str]) -> None:
    data_args, args, model_args = parse_recipe(argv, VqaRadArguments, __doc__, DEFAULTS)

    # Data
    dataset, tests = load_data(data_args)

    # Model and training
    trainer = FederatedTrainer(
        model=model_args.model_name_or_path or base_model("llava"),
        args=args,
        train_dataset=dataset,
        eval_dataset=tests,
        peft_config=get_peft_config(model_args),
        quantization_config=get_quantization_config(model_args),
    )
    trainer.train()

    # Every round is saved already
    run = Run(args.method, read_history(Path(args.output_dir) / "metrics.jsonl"))
    clients = [dataset[client_id] for client_id in vqa_rad.CLIENTS.values()]
    print(f"\n{organ_table(run, clients, tests)}\n{dataset['test'].info.description}")
    print(f"Rounds, card, curves and samples are in {args.output_dir}/: start with README.md and report/.")


if __name__ == "__main__":
    main(sys.argv[1:])
