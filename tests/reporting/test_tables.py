from fedvlm_hf.reporting.runs import Run
from fedvlm_hf.reporting.tables import (
    client_scores_table,
    clients_table,
    flat_scores,
    results_table,
    rounds_table,
)
from records import HISTORY, record


def test_primary_metrics_come_first_and_subsets_last():
    assert flat_scores(HISTORY[2].evaluations["test"]) == {
        ("vqa", "accuracy"): 0.75,
        ("grounding", "mean_iou"): 0.5,
        ("grounding", "accuracy_at_50"): 0.5,
        ("vqa (open)", "accuracy"): 0.375,
    }
    assert list(flat_scores(HISTORY[2].evaluations["test"]))[1] == ("grounding", "mean_iou")


def test_results_stand_between_local_and_central():
    """Share of central: 0.75 / 0.9 = 83 %, 0.5 / 0.625 = 80 %, 0.5 / 0.5 = 100 %, 0.375 / 0.45 = 83 %."""
    others = {
        "central": Run("central", [record(0, 0.5), record(2, 0.9, 0.625)]),
        "local": Run("local", [record(0, 0.5), record(1, 0.6, 0.375)]),
        "fedprox": Run("fedprox", [record(0, 0.5)]),
    }
    assert results_table(Run("fedavg", HISTORY), others, "test") == (
        "| task       | metric         | round 0 | local | fedprox | **fedavg** | central | fedavg / central |\n"
        "| ---------- | -------------- | ------: | ----: | ------: | ---------: | ------: | ---------------: |\n"
        "| vqa        | accuracy       |   0.500 | 0.600 |   0.500 |      0.750 |   0.900 |              83% |\n"
        "| grounding  | mean_iou       |   0.250 | 0.375 |   0.250 |      0.500 |   0.625 |              80% |\n"
        "| grounding  | accuracy_at_50 |   0.500 | 0.500 |   0.500 |      0.500 |   0.500 |             100% |\n"
        "| vqa (open) | accuracy       |   0.250 | 0.300 |   0.250 |      0.375 |   0.450 |              83% |\n"
        "\nEach run at its last evaluated round: local 1, fedprox 0, **fedavg** 2, central 2.\n"
    )


def test_without_central_there_is_no_share():
    table = results_table(Run("fedavg", HISTORY), {}, "test")
    assert "| task       | metric         | round 0 | **fedavg** |\n" in table


def test_central_is_not_compared_with_itself():
    assert "/ central" not in results_table(Run("central", HISTORY), {}, "test")


def test_a_central_score_of_zero_gives_no_share():
    table = results_table(Run("fedavg", HISTORY), {"central": Run("central", [record(1, 0.0, 0.0)])}, "test")
    assert "|   0.500 |      0.750 |   0.000 |                - |" in table


def test_rounds():
    header = (
        "| round | vqa accuracy | grounding mean_iou | mean client loss | learning rate | MB down | MB up | seconds |"
    )
    assert rounds_table(HISTORY).splitlines() == [
        header,
        "| ----- | -----------: | -----------------: | ---------------: | ------------: | ------: | ----: | ------: |",
        "| 0     |        0.500 |              0.250 |                - |             - |    0.00 |  0.00 |     4.5 |",
        "| 1     |            - |                  - |            1.500 |         0.001 |    2.00 |  4.00 |     4.5 |",
        "| 2     |        0.750 |              0.500 |            1.000 |         0.001 |    2.00 |  4.00 |     4.5 |",
    ]


def test_clients():
    """Two clients in two rounds: 4 MB down and 8 MB up over four client runs, 12 MB in total."""
    assert clients_table(HISTORY).splitlines() == [
        "| client | weight | rounds | first loss | last loss | seconds per round |",
        "| ------ | -----: | -----: | ---------: | --------: | ----------------: |",
        "| a      |     10 |      2 |      2.000 |     1.500 |               2.0 |",
        "| b      |     10 |      2 |      1.000 |     0.500 |               2.0 |",
        "",
        "On average a client receives 1.00 MB and sends 2.00 MB per round; the total traffic is 12.00 MB.",
    ]


def test_a_client_that_sat_out_a_round():
    history = [record(1, None, losses=(2.0,)), record(2, None, losses=(1.5, 0.5))]
    assert "| b      |     10 |      1 |      0.500 |     0.500 |               2.0 |" in clients_table(history)


def test_scores_by_client_name_the_lowest():
    scores = {"a": {"vqa_accuracy": 0.9}, "b": {"vqa_accuracy": 0.4}}
    history = [record(0, 0.5), record(2, 0.65)]
    history[1].evaluations["test"].clients.update(scores)
    assert client_scores_table(Run("fedavg", history), "test").splitlines() == [
        "| client | task | metric   | round 0 | round 2 |",
        "| ------ | ---- | -------- | ------: | ------: |",
        "| a      | vqa  | accuracy |   0.500 |   0.900 |",
        "| b      | vqa  | accuracy |       - |   0.400 |",
        "",
        "Lowest vqa accuracy: b, 0.400.",
    ]


def test_no_table_where_rows_do_not_name_their_client():
    history = [record(0, 0.5)]
    history[0].evaluations["test"].clients.clear()
    assert client_scores_table(Run("fedavg", history), "test") == ""
