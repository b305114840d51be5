"""`fedvlm rounds` and `fedvlm eval` on a run's folder. tests/hub/test_rounds.py has them on the Hub."""

import json

import pytest

from federation import federated
from fedvlm_hf.commands import eval as eval_command
from fedvlm_hf.commands import rounds
from fedvlm_hf.hub.scoring import RoundScorer
from tiny import save_tiny, tiny_federation


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three rounds of `local`, the first two deleted since, over a base model in a folder; and the rows."""
    folder = tmp_path_factory.mktemp("trained")
    data = tiny_federation({"client_00": 4, "client_01": 3}, test_rows=2)
    data["test"].save_to_disk(folder / "rows" / "test")
    (folder / "rows" / "dataset_dict.json").write_text('{"splits": ["test"]}')
    kwargs = {"method": "local", "save_total_limit": 2, "trainer_kwargs": {"eval_dataset": None}}
    federated(folder / "run", data, model=save_tiny(folder / "base"), num_rounds=3, **kwargs).train()
    return folder


def test_rounds_that_were_deleted_have_no_place(trained, capsys):
    rounds.run([str(trained / "run")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{trained / 'run'}: 2 rounds that can be loaded"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:8]]
    assert [row[1] for row in cells] == ["-", "-", "rounds/round-0002", "rounds/round-0003"]
    assert [row[0] for row in cells] == ["0", "1", "2", "3"]


def test_clients_are_scored_with_their_own_models(trained, capsys, monkeypatch):
    """The same answers as in the run, to the letter. A round holds none of a client's own tensors: with it alone the
    answers of all rounds would be those of round 0.
    """
    answered = []
    score = RoundScorer.score

    def kept(*args):
        answered.append(score(*args))  # the command itself leaves the answers out
        return answered[-1]

    monkeypatch.setattr(RoundScorer, "score", kept)
    eval_command.run([str(trained / "run"), "--rounds", "all", "--dataset_name", str(trained / "rows"),
                      "--out", str(trained / "scores.json"), "--num_threads", "1"])  # fmt: skip
    written = json.loads((trained / "scores.json").read_text())["rounds"]
    metrics = [json.loads(line) for line in (trained / "run" / "metrics.jsonl").read_text().splitlines()]
    for round_idx, result in zip((2, 3), answered, strict=True):
        saved = trained / "run" / "rounds" / f"round-000{round_idx}" / "federated_state" / "generations.json"
        expected = [row["prediction"] for row in json.loads(saved.read_text())["test"]]
        assert [row.prediction for row in result.generations] == expected
        evaluation = metrics[round_idx]["evaluations"]["test"]
        assert written[str(round_idx)] == {key: evaluation[key] for key in ("scores", "clients", "subsets")}
    assert answered[0].generations != answered[1].generations
    assert "| task | metric   | round 2 | round 3 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--rounds", "1"], "`rounds` has 1, but the rounds of .* are 2, 3"),
        (["--rounds", "1-3"], "numbers separated by commas, such as 1,5,10, got '1-3'"),
        (["--split", "dev"], "`split` 'dev' is not a split of the dataset, which has test"),
        (["--base_model", "/nowhere/base"], "was in '/nowhere/base', which no longer exists"),
        (["--base_model", "./nowhere/base"], "Run the command in the directory in which the run was started"),
    ],
    ids=["a round that is deleted", "no list", "no split", "no base", "no base here"],
)
def test_what_is_not_there_is_told(trained, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        eval_command.run([str(trained / "run"), "--dataset_name", str(trained / "rows"), *arguments])


def test_the_last_round_is_chosen_where_none_is_named():
    assert eval_command.chosen_rounds(None, [0, 2, 5]) == [5]
    assert eval_command.chosen_rounds("all", [0, 2, 5]) == [0, 2, 5]
    assert eval_command.chosen_rounds("2,0", [0, 2, 5]) == [2, 0]
    with pytest.raises(ValueError, match="no round"):
        eval_command.chosen_rounds(None, [])
