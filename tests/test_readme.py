"""The Python example of README.md runs as it stands, but for the names of the model and the data."""

import json
import re
from pathlib import Path

from federated_folder import clean_configs, clean_files, write_folder
from tiny import save_tiny


README = Path(__file__).parents[1] / "README.md"


def example() -> str:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    [code] = [block for block in blocks if "FederatedTrainer(" in block]
    return code


def test_the_example_trains_and_evaluates_on_any_machine(tmp_path, monkeypatch):
    model = save_tiny(tmp_path / "model")
    (tmp_path / "data").mkdir()
    files = clean_files()
    files["noniid/test"] = files["noniid/test"][:1]  # answered 22 times
    data = str(write_folder(tmp_path / "data", files, clean_configs()))
    code = example()
    for name, own in (("llava-hf/llava-1.5-7b-hf", model), ("your-org/your-federated-dataset", data)):
        assert code.count(name) == 1
        code = code.replace(name, own)
    monkeypatch.chdir(tmp_path)
    variables: dict = {}
    exec(code, variables)
    trainer = variables["trainer"]
    assert "test/vqa_accuracy" in trainer.evaluate()
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["config"]["num_rounds"] == 20 == len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) - 1
    assert run["config"]["bf16"] is trainer.args.bf16 is trainer.run_args.bf16
