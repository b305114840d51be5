"""Sections of MIMIC-CXR's reports: every heading of the official parser, and reports in its examples' form."""

import pytest

from fedvlm_hf.building.readers.mimic_cxr_sections import IMPRESSION_BETWEEN, IMPRESSION_IN, section_of, sections


HEADINGS = {
    # the table of the official parser, 58 headings
    "PREAMBLE": "preamble",
    "IMPRESSION": "impression",
    "COMPARISON": "comparison",
    "INDICATION": "indication",
    "FINDINGS": "findings",
    "EXAMINATION": "examination",
    "TECHNIQUE": "technique",
    "HISTORY": "history",
    "COMPARISONS": "comparison",
    "CLINICAL HISTORY": "history",
    "REASON FOR EXAMINATION": "indication",
    "NOTIFICATION": "notification",
    "REASON FOR EXAM": "indication",
    "CLINICAL INFORMATION": "history",
    "EXAM": "examination",
    "CLINICAL INDICATION": "indication",
    "CONCLUSION": "impression",
    "CHEST, TWO VIEWS": "findings",
    "RECOMMENDATION(S)": "recommendations",
    "TYPE OF EXAMINATION": "examination",
    "REFERENCE EXAM": "comparison",
    "PATIENT HISTORY": "history",
    "ADDENDUM": "addendum",
    "COMPARISON EXAM": "comparison",
    "DATE": "date",
    "COMMENT": "comment",
    "FINDINGS AND IMPRESSION": "impression",
    "WET READ": "wet read",
    "COMPARISON FILM": "comparison",
    "RECOMMENDATIONS": "recommendations",
    "FINDINGS/IMPRESSION": "impression",
    "PFI": "history",
    "RECOMMENDATION": "recommendations",
    "WETREAD": "wet read",
    "NDICATION": "impression",
    "IMPRESSON": "impression",
    "IMPRRESSION": "impression",
    "IMORESSION": "impression",
    "IMPRESSOIN": "impression",
    "IMPRSSION": "impression",
    "IMPRESION": "impression",
    "IMPERSSION": "impression",
    "MPRESSION": "impression",
    "IMPESSION": "impression",
    "FINDINGS/ IMPRESSION": "impression",
    "FINDING": "findings",
    "FINDINS": "findings",
    "FINDINDGS": "findings",
    "FINDGINGS": "findings",
    "FINDNGS": "findings",
    "FINDNINGS": "findings",
    "FINIDNGS": "findings",
    "IDICATION": "indication",
    "REFERENCE FINDINGS": "findings",
    "COMPARISION": "comparison",
    "COMPARSION": "comparison",
    "COMPARRISON": "comparison",
    "COMPARISIONS": "comparison",
    # a word of a heading that is not in the table
    "IMPRESSION AND RECOMMENDATION": "impression",
    "FINDINGS (CHEST)": "findings",
    "PRELIMINARY FINDINGS": "findings",
    "PAST MEDICAL HISTORY": "history",
    "COMPARISON STUDY": "comparison",
    "ADDENDUM TO FINDINGS": "findings",
    "ADDENDUM BY DR": "addendum",
    # the title of an examination
    "CHEST": "findings",
    "CHEST, PA AND LATERAL": "findings",
    "FRONTAL AND LATERAL VIEWS OF THE CHEST": "findings",
    "PORTABLE AP CHEST RADIOGRAPH": "findings",
    "SINGLE PORTABLE VIEW": "findings",
    "PA AND LATERAL FILMS": "findings",
    "LATERAL AND PA FILMS": "findings",
    "AP AND LATERAL FILMS": "findings",
    "LATERAL AND AP FILMS": "findings",
    "FRONTAL AND OBLIQUE FILMS": "findings",
    "TWO VIEWS": "findings",
    "FRONTAL VIEW": "findings",
    "PA VIEW": "findings",
    "AP VIEW": "findings",
    "ONE VIEW": "findings",
    "LATERAL VIEW": "findings",
    "BONE WINDOWS": "findings",
    "FRONTAL UPRIGHT FILM": "findings",
    "FRONTAL SEMI-UPRIGHT FILM": "findings",
    "LEFT RIBS": "findings",
    "PA AND LAT": "findings",
    # any other heading is its own section
    "NOTE": "note",
    "ABDOMEN": "abdomen",
    "FINDING(S)": "finding(s)",
    "CONCLUSIONS": "conclusions",
    "  WET READ ": "wet read",
}


@pytest.mark.parametrize(("heading", "section"), HEADINGS.items())
def test_the_section_of_a_heading(heading, section):
    assert section_of(heading) == section
    text = {"findings": "One.", "impression": "One."}
    expected = {section: text[section]} if section in text else {}
    assert sections(f"FINAL REPORT\n \n {heading}:  One.\n \n PREPARED BY:  ___\n") == expected


def report_of(*paragraphs: str) -> str:
    """Join paragraphs as the reports do: lines begin with a space, and paragraphs are separated by such a line."""
    return "FINAL REPORT\n " + "\n \n ".join(paragraphs) + "\n"


REPORT = report_of(
    "EXAMINATION:  CHEST (PA AND LAT)",
    "INDICATION:  ___M with a cough  // pneumonia?",
    "TECHNIQUE:  Chest PA and lateral",
    "COMPARISON:  None.",
    "FINDINGS: ",
    "Both lungs are well expanded.  The heart is\n of normal size.",
    "IMPRESSION: ",
    "Normal chest.",
)

TITLED = report_of(
    "CHEST, TWO VIEWS:  ___",
    "HISTORY:  ___-year-old with cough.",
    "FRONTAL AND LATERAL VIEWS OF THE CHEST:  The lungs are clear.  The heart is\n not enlarged.",
    "CONCLUSION:  Normal.",
)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (
            REPORT,
            {
                "findings": "Both lungs are well expanded. The heart is of normal size.",
                "impression": "Normal chest.",
            },
        ),
        # the date below the first title is not empty, but the last findings count
        (TITLED, {"findings": "The lungs are clear. The heart is not enlarged.", "impression": "Normal."}),
        ("FINDINGS: Clear.", {"findings": "Clear."}),
        (" IMPRESSION:\n 1. No acute process.\n 2. Stable.", {"impression": "1. No acute process. 2. Stable."}),
        (" CONCLUSION:  Normal.", {"impression": "Normal."}),
        (" FINDINGS AND IMPRESSION: Clear.", {"impression": "Clear."}),
        (" FINDING:  A.\n NOTIFICATION: Dr. ___ at 3:15 PM.", {"findings": "A."}),
        # the last section of a name that is not empty
        (
            " FINDINGS: A.\n FINDINGS:  B.\n FINDINGS:\n \n IMPRESSION: C.\n \n IMPRESSION: \n",
            {"findings": "B.", "impression": "C."},
        ),
        # the line below a heading is text, even if it looks like a heading
        (" IMPRESSION:\n PA VIEW: Clear.\n HISTORY: Cough.", {"impression": "PA VIEW: Clear."}),
        (" CHEST, PA LATERAL:\n \n INDICATION: Cough.\n \n IMPRESSION: Clear.", {"impression": "Clear."}),
        # a colon or capitals inside a line start no section
        (" FINDINGS:  TUBE: 4 cm above.\n The tip: see X.", {"findings": "TUBE: 4 cm above. The tip: see X."}),
        (" IMPRESSION:  PA view.\n\n FINDINGS:  Later.", {"findings": "Later.", "impression": "PA view."}),
        ("  WET READ: ___ 9:07 PM\n   No change.\n", {}),
        (" FINDINGS: \n \n IMPRESSION: \n", {}),
        # text before the first heading, and text without a heading
        ("FINAL REPORT\n The lungs are clear.\n \n HISTORY: Cough.\n", {}),
        ("Nothing to see.\n \n Really nothing.", {}),
        ("", {}),
        (" IMPRESSION:", {}),
    ],
)  # fmt: skip
def test_sections(report, expected):
    found = sections(report)
    assert found == expected
    assert list(found) == sorted(found)  # findings first


def test_windows_line_ends_give_the_same_sections(tmp_path):
    path = tmp_path / "report.txt"
    path.write_bytes(REPORT.replace("\n", "\r\n").encode())
    assert sections(path.read_text(encoding="utf-8")) == sections(REPORT)


@pytest.mark.parametrize(("section", "studies"), IMPRESSION_IN.items())
def test_studies_with_their_impression_below_another_heading(section, studies):
    report = f" {section.upper()}: Old.\n \n {section.upper()}:  The lungs\n are clear.\n \n Signed.\n"
    for study in studies:
        assert sections(report, study) == {"impression": "The lungs are clear."}
        assert sections(report + "\n \n FINDINGS: B.\n", study) == {"impression": "The lungs are clear. Signed."}
        assert sections(" FINDINGS: Without that heading.\n", study) == {"findings": "Without that heading."}
    assert sections(report, "10000000") == {}


def test_studies_with_their_impression_at_a_known_place():
    report = "".join(f"{number:05d}" for number in range(300))
    assert sections(report, "51410602") == {"impression": report[47:320]}
    assert sections(report, "58235663") == {}  # it does not describe the image
    assert len(IMPRESSION_BETWEEN) == 31 and sum(end == 0 for _, end in IMPRESSION_BETWEEN.values()) == 8
    assert sum(map(len, IMPRESSION_IN.values())) == 23
