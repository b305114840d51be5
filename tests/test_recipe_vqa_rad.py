import importlib.util
import json
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import AutoProcessor
from trl import TrlParser

from fedvlm_hf import FederatedConfig
from fedvlm_hf.data.builders import vqa_rad
from fedvlm_hf.mini import base_model
from fedvlm_hf.reporting.runs import Run
from fedvlm_hf.types import EvalResult, RoundRecord
from tiny import save_tiny
from vqa_rad_raw import write_raw


RECIPE = Path(__file__).parents[1] / "recipes" / "fed_vqa_rad.py"


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("fed_vqa_rad", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(recipe, tmp_path, *arguments):
    """One round of one step a client on the miniature files, with a random model of a few thousand parameters."""
    out = tmp_path / "out"
    raw = write_raw(tmp_path / "raw")
    options = "--num_rounds 1 --max_steps 1 --per_device_train_batch_size 2 --eval_max_new_tokens 4 --image_size 16"
    switches = "--use_cpu true --bf16 false --report_to none --num_threads 1"
    model = ["--model_name_or_path", save_tiny(tmp_path / "base")]
    recipe.main(["--raw", str(raw), "--output_dir", str(out), *model, *options.split(), *switches.split(), *arguments])
    return out


def test_runs_and_prints_both_yardsticks_and_the_leak(recipe, tmp_path, capsys):
    out = run(recipe, tmp_path)
    printed = capsys.readouterr().out
    header, *rows = (line.split("|")[1:-1] for line in printed.splitlines() if line.startswith("| "))
    assert [cell.strip() for cell in header[2:]] == ["rows", "commonest answer", "round 0", "round 1"]
    assert [tuple(cell.strip() for cell in row[:3]) for row in rows[1:]] == [
        (organ, subset, count)
        for organ, count in (("head", "1"), ("chest", "1"), ("abdomen", "1"), ("all", "3"))
        for subset in ("closed", "open")
    ]
    assert vqa_rad.NOTES["given"] in printed
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(last["evaluations"]) == {"head", "chest", "abdomen"}
    assert last["clients"].keys() == {"client_00", "client_01", "client_02"}


def test_clean_split_says_so(recipe, tmp_path, capsys):
    run(recipe, tmp_path, "--split", "clean")
    assert vqa_rad.NOTES["clean"] in capsys.readouterr().out


def test_raw_is_needed(recipe):
    with pytest.raises(ValueError, match=r"`--raw` is missing.*github\.com/longle0702/med-v2qa"):
        recipe.main(["--num_threads", "1"])


def test_default_stores_images_as_large_as_the_embedded_model_sees_them(recipe):
    args, _ = TrlParser((recipe.VqaRadArguments, FederatedConfig)).parse_args_and_config(
        ["--config", str(recipe.DEFAULTS)]
    )
    size = AutoProcessor.from_pretrained(base_model("llava")).image_processor.size
    assert args.image_size == size["height"] == size["width"]


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
        ["organ", "questions", "rows", "commonest answer", "round 0", "round 2"],
        ["head", "closed", "2", "0.500", "0.500", "1.000"],
        ["chest", "closed", "1", "0.000", "1.000", "0.000"],
        ["all", "closed", "3", "0.333", "0.667", "0.667"],
    ]
