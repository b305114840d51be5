"""A run's rounds on the Hub: listed, scored again, and loaded by the stock clients."""

import json

import pytest


DATA = """
import fedvlm_hf.commands.eval, fedvlm_hf.commands.rounds
from fedvlm_hf.hub.rounds import saved_rounds
from fedvlm_hf.hub.scoring import RoundScorer
rows = tiny_federation({"client_b": 4, "client_a": 3, "client_c": 2}, test_rows=1)
test = rows["test"].map(lambda row: {"client_id": row["client_id"].replace("client", "hospital")})
"""


def test_rounds_are_listed_with_their_scores(hub, run, whole):
    code = 'import fedvlm_hf.commands.rounds\nfedvlm_hf.commands.rounds.run(["alice/fedadam"])'
    seen = run(code, token="hf_bob")
    lines = seen.output.splitlines()
    assert lines[0] == "alice/fedadam: 4 rounds that can be loaded"
    header = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert header == ["round", "revision", "saved (UTC)", "vqa accuracy", "MB down", "MB up"]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:8]]
    assert [row[:2] for row in table] == [[str(r), f"round-000{r}"] for r in range(4)]
    assert all(len(row[2]) == len("2026-01-01 00:00") for row in table)
    assert [float(row[3]) for row in table] == [
        round(scores["vqa_accuracy"], 3) for scores, _, _ in whole["fedadam"]["metrics"]
    ]
    assert float(table[0][5]) == 0 < float(table[1][5])


def test_what_is_no_run_is_told(hub, run, home, whole):
    code = """
reasons = []
for name in NAMES:
    try:
        fedvlm_hf.commands.rounds.run([name])
    except (ValueError, OSError) as error:
        reasons.append(str(error))
show(reasons=reasons)
"""
    names = ["alice/fedadam-base", "alice/nothing", str(home)]
    no_round, nothing, folder = run(f"import fedvlm_hf.commands.rounds\n{code}", NAMES=names)["reasons"]
    assert no_round == "alice/fedadam-base has no rounds: none of its tags has a name like 'round-0001'."
    assert "There is no repository alice/nothing" in nothing
    assert "holds no run: it has no metrics.jsonl" in folder


@pytest.mark.parametrize("name", ["fedadam", "local", "ditto", "flora"])
def test_rounds_are_scored_again_as_the_run_scored_them(run, home, whole, name):
    """The same answers to the letter, and so the same scores; where clients have their own models, with those."""
    code = (
        DATA
        + """
scorer = RoundScorer(saved_rounds(NAME), [1, 3])
prepared = scorer.prepare(test)
results = [scorer.score(round_idx, prepared, lambda num_rows: None) for round_idx in (1, 3)]
show(answers=[[row.prediction for row in result.generations] for result in results],
     scores=[[result.scores, result.clients] for result in results], is_personal=scorer.is_personal)
"""
    )
    seen = run(code, NAME=f"alice/{name}")
    assert seen["is_personal"] == (name in ("local", "ditto"))
    assert seen["answers"] == [whole[name]["answers"][round_idx] for round_idx in (1, 3)]
    assert whole[name]["answers"][1] != whole[name]["answers"][3]
    if name != "flora":  # which starts each round with B = 0, so that all rows get one answer
        assert len(set(whole[name]["answers"][3])) > 1
    expected = [whole[name]["metrics"][round_idx] for round_idx in (1, 3)]
    assert seen["scores"] == [[scores, clients] for scores, _, clients in expected]


def test_the_command_prints_a_table_and_writes_json(run, home, whole):
    code = (
        DATA
        + """
from datasets import DatasetDict
DatasetDict({"test": test}).save_to_disk(ROWS)
fedvlm_hf.commands.eval.run(["alice/fedadam", "--rounds", "0,2", "--dataset_name", ROWS, "--out", OUT,
                             "--num_threads", "1", "--base_model", BASE])
"""
    )
    seen = run(code, ROWS=home / "rows", OUT=home / "scores.json", BASE=home / "programs/my-base")
    assert "| task | metric   | round 0 | round 2 |" in seen.output
    written = json.loads((home / "scores.json").read_text())
    assert (written["run"], written["split"], list(written["rounds"])) == ("alice/fedadam", "test", ["0", "2"])
    metrics = whole["fedadam"]["metrics"]
    assert written["rounds"]["2"] == {"scores": metrics[2][0], "clients": metrics[2][2], "subsets": {}}


def test_rounds_that_are_not_there_and_rows_of_nobody(run, whole):
    code = (
        DATA
        + """
reasons = []
for name, rounds, rows in [("alice/fedadam", [1, 9], test), ("alice/local", [1], test.remove_columns("client_id")),
                           ("alice/other", [1], test)]:
    try:
        RoundScorer(saved_rounds(name), rounds).prepare(rows)
    except ValueError as error:
        reasons.append(str(error))
show(reasons=reasons)
"""
    )
    absent, nobody, _ = run(code)["reasons"]
    assert absent == "`rounds` has 9, but the rounds of alice/fedadam are 0, 1, 2, 3."
    assert "`method` 'local' gives each client its own model" in nobody


def test_stock_clients_load_a_round(run, whole):
    """PEFT by its tag; the pipeline of transformers by the repository's name, base model and processor with it."""
    code = (
        DATA
        + """
from safetensors.torch import load_file
from transformers import pipeline
from fedvlm_hf.evaluation import PreparedEvaluation

weights = load_file(hf_hub_download("alice/fedadam", "adapter_model.safetensors"))
pipe = pipeline("image-text-to-text", "alice/fedadam")
own = {name.replace(".default", ""): tensor for name, tensor in pipe.model.named_parameters()}
same = [torch.equal(own[name.removeprefix("base_model.model.").replace("multi_modal_projector.",
        "multi_modal_projector.modules_to_save.")], tensor) for name, tensor in weights.items()]
row = test[0]
content = [{"type": "image", "image": row["images"][0]}, {"type": "text", "text": row["prompt"][0]["content"]}]
answer = pipe(text=[{"role": "user", "content": content}], max_new_tokens=6)[0]["generated_text"][-1]["content"]
base = AutoModelForImageTextToText.from_pretrained("alice/fedadam-base")
model = PeftModel.from_pretrained(base, "alice/fedadam", revision="round-0003")
expected = PreparedEvaluation(test.select([0]), pipe.processor, max_new_tokens=6).run(model).generations[0].prediction
show(same=same, answer=answer.strip(), expected=expected)
"""
    )
    seen = run(code)
    assert all(seen["same"])
    assert len(seen["same"]) == 32
    assert seen["answer"] == seen["expected"]


def test_a_dataset_of_the_hub_keeps_its_owner(run):
    """`load_dataset` leaves it out, and a card could not link to the data."""
    code = """
from datasets import DatasetDict
from fedvlm_hf.launch import load_federation
DatasetDict({"client_00": tiny_federation()["client_00"]}).push_to_hub("alice/fed", "noniid")
loaded = load_federation("alice/fed", "noniid")
show(names=sorted({(rows.info.dataset_name, rows.info.config_name) for rows in loaded.values()}))
"""
    assert run(code)["names"] == [["alice/fed", "noniid"]]
