"""What the README shows, over the loopback Hub: the embedded run from its rounds, and a dataset from its name."""

import shutil
from pathlib import Path

from raw_vqa_rad import write_raw
from tiny import save_tiny


RECIPE = Path(__file__).parents[2] / "recipes" / "fed_vqa_rad.py"

MINI = """
from fedvlm_hf.mini import base_model, fed_nature
data = fed_nature(num_train_rows=8, num_validation_rows=2, num_test_rows=2)
kwargs = dict(push_to_hub=True, hub_model_id="alice/mini") if PUSHES else {}
it = trainer(OUT, data, model=MODEL or base_model("llava"), num_rounds=3, max_steps=1, eval_every=1, **kwargs)
it.train(resume_from_checkpoint=RESUME)
show(end=it.local.adapter.read(it.local.adapter.parameters).digest(), base=it.local.base_name)
"""


def test_the_mini_goes_on_from_the_second_of_its_three_rounds(hub, run, home):
    """Everything local is deleted; the fresh process has names of repositories, the base model's too."""
    whole = run(MINI, OUT=home / "mini", MODEL=None, RESUME=None, PUSHES=True)
    shutil.rmtree(home / "mini")
    assert sorted(hub.store.repo("models/alice/mini")["tags"]) == [f"round-000{k}" for k in range(4)]
    names = {"MODEL": "alice/mini-base", "RESUME": "alice/mini@round-0002"}
    again = run(MINI, OUT=home / "mini again", **names, PUSHES=False)
    assert again["base"] == "alice/mini-base"
    assert again["end"] == whole["end"]


BUILD = """
from fedvlm_hf.commands.build import run as build
build(["fed-vqa-rad", "--raw", RAW, "--out", OUT, "--num_workers", "1", "--push", "fedvlmbench/fed-vqa-rad"])
"""

TRAIN = """
import importlib.util, tempfile
from datasets import load_dataset
pairs = [load_dataset(name, "noniid", cache_dir=tempfile.mkdtemp()) for name in ("fedvlmbench/fed-vqa-rad", BUILT)]
def seen(part):
    return [(row["id"], row["prompt"], row["images"][0].tobytes()) for row in part]
rows = [{split: seen(part) for split, part in data.items()} for data in pairs]
assert rows[0] == rows[1]
spec = importlib.util.spec_from_file_location("recipe", RECIPE)
recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)
recipe.main(["--dataset_name", "fedvlmbench/fed-vqa-rad", "--model_name_or_path", MODEL, "--output_dir", OUT,
             *"--num_rounds 1 --max_steps 1 --per_device_train_batch_size 2 --eval_max_new_tokens 2".split(),
             *"--use_cpu true --bf16 false --report_to none --num_threads 1".split()])
show(splits=sorted(rows[0]))
"""


def test_a_pushed_dataset_has_the_rows_that_were_built_and_a_recipe_trains_on_its_name(run, home):
    write_raw(home / "raw")
    run(BUILD, RAW=home / "raw", OUT=home / "built")
    base = save_tiny(home / "base")
    seen = run(TRAIN, BUILT=home / "built", RECIPE=RECIPE, MODEL=base, OUT=home / "trained")
    assert seen["splits"] == ["client_00", "client_01", "client_02", "test"]
    assert (home / "trained" / "rounds" / "round-0001" / "adapter_model.safetensors").exists()
