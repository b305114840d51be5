r"""
Fine-tune one vision-language model on VQA-RAD: 3,515 questions on 314 radiographs, CT and MR images, by organ.

First download the data: the folder data_RAD/ of github.com/longle0702/med-v2qa at commit
4ae21bc19dd20cb5e76fa89f3e77c07230b526c3 (trainset.json, testset.json, images/; 17 MB), or the official download. Then
train the tiny embedded LLaVA, which sees 48 x 48 pixels and about a hundred tokens, with 2 CPU cores and 3 GiB of
memory:

    fedvlm build fed-vqa-rad --raw data_RAD --out data/fed-vqa-rad --max_side 48 --pad_to_square --wording plain
    accelerate launch recipes/fed_vqa_rad.py --dataset_name data/fed-vqa-rad

All 203 images of the original test split are also training images. To use test images that are not:

    accelerate launch recipes/fed_vqa_rad.py --dataset_name data/fed-vqa-rad --dataset_config noniid-clean \
        --run_name fed_vqa_rad_clean --output_dir out/fed_vqa_rad_clean

Use any VLM, with the original images:

    fedvlm build fed-vqa-rad --raw data_RAD --out data/fed-vqa-rad-full
    accelerate launch recipes/fed_vqa_rad.py --dataset_name data/fed-vqa-rad-full \
        --model_name_or_path HuggingFaceTB/SmolVLM-Instruct --dtype bfloat16 \
        --num_rounds 10 --learning_rate 1e-4 --per_device_train_batch_size 4
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from pathlib import Path


if __name__ == "__main__":
    from fedvlm_hf.launch import start_recipe

    start_recipe("fed_vqa_rad")

from datasets import Dataset, DatasetDict
from trl import get_peft_config, get_quantization_config

from fedvlm_hf import FederatedTrainer
from fedvlm_hf.data.clients import client_datasets
from fedvlm_hf.launch import DataArguments, check_arguments, load_federation, parse_recipe, resumable, run_recipe
from fedvlm_hf.markdown import markdown_table
from fedvlm_hf.metrics import score_examples
from fedvlm_hf.metrics.blind import commonest_answers
from fedvlm_hf.mini import base_model
from fedvlm_hf.progress import print_loading
from fedvlm_hf.reporting.runs import Run, read_history
from fedvlm_hf.reporting.tables import number


ORGANS = ("head", "chest", "abdomen")
DEFAULTS = Path(__file__).parent / "configs" / "fed_vqa_rad_mini.yaml"
BUILD = "fedvlm build fed-vqa-rad --raw data_RAD --out data/fed-vqa-rad --max_side 48 --pad_to_square --wording plain"


@dataclass
class VqaRadArguments(DataArguments):
    """
    [`DataArguments`] with one client per organ by default.

    Parameters:
        dataset_config (`str`, *optional*):
            `"noniid"` or `"iid"` for the original split, in which test images are also training images, or
            `"noniid-clean"` or `"iid-clean"` for test images that are not. By default that of the dataset, which is
            `"noniid"` as built.
    """

    dataset_config: str | None = field(
        default=None,
        metadata={
            "help": "'noniid' or 'iid': the original split. 'noniid-clean' or 'iid-clean': unseen test images. By "
            "default that of the dataset, 'noniid' as built."
        },
    )


def organ_table(run: Run, clients: Sequence[Dataset], tests: Mapping[str, Dataset]) -> str:
    """Show accuracy by organ and kind of question, with round 0 and the most frequent answers as baselines."""
    cells: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for organ, test in tests.items():
        guesses = score_examples("vqa", commonest_answers(clients, test), test["references"])["accuracy"]
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
    return markdown_table(["organ", "questions", "rows", "most frequent answer", "round 0", f"round {last}"], rows, 2)


def load_data(args: VqaRadArguments) -> tuple[DatasetDict, dict[str, Dataset]]:
    if args.dataset_name is None:
        raise ValueError(
            "`--dataset_name` is missing: the folder of a dataset that `fedvlm build` made, or its name on the Hub. "
            f"Run `{BUILD}`, then `accelerate launch recipes/fed_vqa_rad.py --dataset_name data/fed-vqa-rad`."
        )
    dataset = load_federation(args.dataset_name, args.dataset_config)
    if "test" not in dataset or "organ" not in dataset["test"].column_names:
        raise ValueError(
            f"`--dataset_name` {args.dataset_name!r} needs a split `test` with a column `organ`, because this recipe "
            "scores by organ. Make it with `fedvlm build fed-vqa-rad`, or train with recipes/fed_nature.py."
        )
    organs = dataset["test"]["organ"]
    if None in organs:
        raise ValueError(
            f"{args.dataset_name} was built from the Hub copy of VQA-RAD, which does not name the organs. This "
            "recipe scores by organ. Build it from another download, or train with recipes/fed_nature.py."
        )
    return dataset, {
        organ: dataset["test"].select([row for row, own in enumerate(organs) if own == organ]) for organ in ORGANS
    }


def leak_note(clients: Sequence[Dataset], test: Dataset) -> str:
    """Say how many test images are also training images, which readers of the scores must know."""
    trained = {digest for client in clients for digest in client["image_digest"]}
    tested = set(test["image_digest"])
    if not tested & trained:
        return "No test image belongs to a client. Whether patients are in both cannot be seen from the files."
    return (
        f"{len(tested & trained)} of the {len(tested)} test images are also clients' images, as in the original split "
        "of VQA-RAD. The scores are comparable with the literature, but overestimate those on unseen images."
    )


def main(argv: list[str]) -> None:
    data_args, args, model_args = parse_recipe(argv, VqaRadArguments, __doc__, DEFAULTS)
    check_arguments(args, model_args, data_args.vlm_parts)

    # Data
    print_loading("loading data")
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
    with resumable(args.output_dir, args.num_rounds):
        trainer.train()

    # All rounds have been saved during training
    run = Run(args.method, read_history(Path(args.output_dir) / "metrics.jsonl"))
    clients = list(client_datasets(dataset).values())
    print(f"\n{organ_table(run, clients, tests)}\n{leak_note(clients, dataset['test'])}")
    print(f"Rounds, card, curves and samples are in {args.output_dir}/. Start with README.md and report/.")


if __name__ == "__main__":
    sys.exit(run_recipe(main, sys.argv[1:], "fed_vqa_rad"))
