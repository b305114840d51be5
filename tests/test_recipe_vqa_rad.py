import importlib.util
import json
import shlex
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import AutoProcessor

from fedvlm_hf.commands.build import run as build_command
from fedvlm_hf.launch import load_federation, parse_recipe
from fedvlm_hf.mini import base_model
from fedvlm_hf.reporting.runs import Run
from fedvlm_hf.types import EvalResult, RoundRecord
from raw_vqa_rad import write_hub, write_raw
from tiny import save_tiny


RECIPE = Path(__file__).parents[1] / "recipes" / "fed_vqa_rad.py"


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("fed_vqa_rad", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(recipe, tmp_path_factory):
    """A miniature dataset, built with the command that the recipe names."""
    folder = tmp_path_factory.mktemp("vqa_rad")
    return build(recipe, write_raw(folder / "raw"), folder / "data")


def build(recipe, raw, out):
    program, command, *arguments = shlex.split(recipe.BUILD)
    assert (program, command) == ("fedvlm", "build")
    for option, path in (("--raw", raw), ("--out", out)):
        arguments[arguments.index(option) + 1] = str(path)
    build_command([*arguments, "--num_workers", "1"])
    return str(out)


def run(recipe, built, tmp_path, *arguments):
    """One round with one step per client, with a random model of a few thousand parameters."""
    out = tmp_path / "out"
    options = "--num_rounds 1 --max_steps 1 --per_device_train_batch_size 2 --eval_max_new_tokens 4"
    switches = "--use_cpu true --bf16 false --report_to none --num_threads 1"
    model = ["--model_name_or_path", save_tiny(tmp_path / "base")]
    data = ["--dataset_name", built, "--output_dir", str(out)]
    recipe.main([*data, *model, *options.split(), *switches.split(), *arguments])
    return out


def test_runs_and_prints_both_yardsticks_and_the_leak(recipe, built, tmp_path, capsys):
    out = run(recipe, built, tmp_path)
    printed = capsys.readouterr().out
    header, *rows = (line.split("|")[1:-1] for line in printed.splitlines() if line.startswith("| "))
    assert [cell.strip() for cell in header[2:]] == ["rows", "most frequent answer", "round 0", "round 1"]
    assert [tuple(cell.strip() for cell in row[:3]) for row in rows[1:]] == [
        (organ, subset, count)
        for organ, count in (("head", "1"), ("chest", "1"), ("abdomen", "1"), ("all", "3"))
        for subset in ("closed", "open")
    ]
    assert "3 of the 3 test images are also clients' images" in printed
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(last["evaluations"]) == {"head", "chest", "abdomen"}
    assert last["clients"].keys() == {"client_00", "client_01", "client_02"}


def test_the_clean_configuration_says_so(recipe, built, tmp_path, capsys):
    run(recipe, built, tmp_path, "--dataset_config", "noniid-clean")
    assert "No test image belongs to a client" in capsys.readouterr().out


def test_the_default_configuration_trains_on_organs(recipe, built):
    data_args, _, _ = parse_recipe(["--num_threads", "1"], recipe.VqaRadArguments, "", recipe.DEFAULTS)
    assert data_args.dataset_config is None  # the dataset says noniid, and a folder of `save_to_disk` has none
    dataset = load_federation(built, data_args.dataset_config)
    assert [set(dataset[f"client_0{k}"]["organ"]) for k in range(3)] == [{"head"}, {"chest"}, {"abdomen"}]


def test_a_dataset_is_needed_and_the_two_commands_are_named(recipe):
    with pytest.raises(
        ValueError, match=r"(?s)`--dataset_name` is missing.*fedvlm build fed-vqa-rad .*accelerate launch"
    ):
        recipe.main(["--num_threads", "1"])


def test_the_hub_copy_cannot_be_scored_by_organ(recipe, tmp_path):
    data = build(recipe, write_hub(tmp_path / "raw"), tmp_path / "data")
    with pytest.raises(ValueError, match="does not name the organs"):
        recipe.main(["--num_threads", "1", "--dataset_name", data, "--dataset_config", "iid"])


def test_the_command_makes_images_as_large_as_the_embedded_model_sees_them(recipe, built):
    size = AutoProcessor.from_pretrained(base_model("llava")).image_processor.size
    assert f"--max_side {size['height']} " in recipe.BUILD
    assert size["height"] == size["width"]
    assert f"    {recipe.BUILD}\n" in recipe.__doc__
    assert f"#   {recipe.BUILD}\n" in recipe.DEFAULTS.read_text()
    image = load_federation(built, "noniid")["test"][0]["images"][0]  # of 24 x 16 pixels, 4 black rows above and below
    assert image.size == (24, 24)
    assert max(image.getpixel((12, 1))) < 20 < min(image.getpixel((12, 12)))


def test_organ_table_by_hand(recipe):
    """Commonest closed answer: yes, 2 of 3 in training. It is right in 1 of 2 head rows, 0 of 1 chest row, 1 of all 3.

    Round 0: head 0.5 over 2 rows, chest 1 over 1: all 2 of 3. Round 2: head 1, chest 0: all 2 of 3.
    """
    train = Dataset.from_list(
        [{"question_type": "PRES", "subset": "closed", "references": [text]} for text in ("yes", "yes", "no")]
    )

    def test_rows(*answers):
        kind = {"question_type": "PRES", "subset": "closed"}
        return Dataset.from_list([{**kind, "references": [answer]} for answer in answers])

    def result(accuracy):
        return EvalResult({"vqa_accuracy": accuracy}, subsets={"closed": {"vqa_accuracy": accuracy}})

    history = [
        RoundRecord(0, {"head": result(0.5), "chest": result(1.0)}),
        RoundRecord(1),
        RoundRecord(2, {"head": result(1.0), "chest": result(0.0)}),
    ]
    tests = {"head": test_rows("yes", "no"), "chest": test_rows("no")}
    lines = recipe.organ_table(Run("fedavg", history), [train], tests).splitlines()
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:1] + lines[2:]] == [
        ["organ", "questions", "rows", "most frequent answer", "round 0", "round 2"],
        ["head", "closed", "2", "0.500", "0.500", "1.000"],
        ["chest", "closed", "1", "0.000", "1.000", "0.000"],
        ["all", "closed", "3", "0.333", "0.667", "0.667"],
    ]
