from datasets import Dataset

from fedvlm_hf.metrics.blind import commonest_answers


def test_commonest_answers_by_hand():
    """(PRES, closed): no 2, yes 1 -> no. (PLANE, open): a tie -> axial. A kind not trained on: no, 2 of all 5."""
    train = Dataset.from_list(
        [
            {"question_type": "PRES", "subset": "closed", "references": ["No"]},
            {"question_type": "PRES", "subset": "closed", "references": ["no"]},
            {"question_type": "PRES", "subset": "closed", "references": ["yes"]},
            {"question_type": "PLANE", "subset": "open", "references": ["coronal"]},
            {"question_type": "PLANE", "subset": "open", "references": ["axial"]},
        ]
    )
    kinds = [("PRES", "closed"), ("PLANE", "open"), ("PLANE", "closed")]
    test = Dataset.from_list([{"question_type": kind, "subset": subset} for kind, subset in kinds])
    assert commonest_answers([train], test) == ["no", "axial", "no"]
