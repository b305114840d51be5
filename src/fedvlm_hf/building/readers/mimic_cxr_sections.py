"""Findings and impression of MIMIC-CXR's reports, by the rules of the database's own parser.

The rules, the headings and the special cases are those of github.com/MIT-LCP/mimic-cxr (MIT licence), read at commit
3190146 in txt/section_parser.py and txt/create_section_files.py, and written anew here. We did not have the reports.
Ours differs in two points: a heading may also be in the first line of a report or in a line without indentation, and
its replacements for reports without findings and impression (the last paragraph, or the comparison) are not used.
"""

import re
from collections.abc import Iterator


SECTIONS = {
    "findings": (
        "findings", "finding", "chest, two views", "reference findings", "findins", "findindgs", "findgings",
        "findngs", "findnings", "finidngs",
    ),
    "impression": (
        "impression", "conclusion", "findings and impression", "findings/impression", "findings/ impression",
        "impresson", "imprression", "imoression", "impressoin", "imprssion", "impresion", "imperssion", "mpression",
        "impession", "ndication",
    ),
    "indication": (
        "indication", "reason for examination", "reason for exam", "clinical indication", "idication",
    ),
    "history": ("history", "clinical history", "clinical information", "patient history", "pfi"),
    "comparison": (
        "comparison", "comparisons", "reference exam", "comparison exam", "comparison film", "comparision",
        "comparsion", "comparrison", "comparisions",
    ),
    "examination": ("examination", "exam", "type of examination"),
    "technique": ("technique",),
    "recommendations": ("recommendations", "recommendation", "recommendation(s)"),
    "notification": ("notification",),
    "addendum": ("addendum",),
    "wet read": ("wet read", "wetread"),
    "comment": ("comment",),
    "date": ("date",),
    "preamble": ("preamble",),
}  # fmt: skip
"""Headings in lower case by the section that they start. Misspelt headings are as in the official table, which also
has `"ndication"` as an impression."""

PARTS = ("impression", "findings", "history", "comparison", "addendum")
"""Any other heading that contains one of these words starts this section. The first word in this order counts."""

VIEWS = (
    "chest", "portable", "pa and lateral", "lateral and pa", "ap and lateral", "lateral and ap", "frontal and",
    "two views", "frontal view", "pa view", "ap view", "one view", "lateral view", "bone window", "frontal upright",
    "frontal semi-upright", "ribs", "pa and lat",
)  # fmt: skip
"""Any other heading that contains one of these names of an examination starts the findings."""

_SECTION_OF = {heading: section for section, headings in SECTIONS.items() for heading in headings}

IMPRESSION_IN = {
    "recommendations": (
        "50913680", "59768032", "59067458", "59087630", "58157373", "56482935", "58375018",
    ),
    "examination": ("59363654", "53356173", "50743547", "59215320", "55157853"),
    "technique": ("59279892", "53202765", "50808053"),
    "indication": ("57936451", "50058765", "51966317", "55124749", "54365831", "54654948"),
    "history": ("51491012",),
    "note": ("56451190",),
}  # fmt: skip
"""Studies whose reports have their impression below another heading, by this section."""

IMPRESSION_BETWEEN = {
    "50525523": (201, 349), "57564132": (233, 554), "59982525": (313, 717), "53488209": (149, 475),
    "54875119": (234, 988), "50196495": (59, 399), "56579911": (59, 218), "52648681": (292, 631),
    "59889364": (172, 453), "53514462": (73, 377), "59505494": (59, 450), "53182247": (59, 412),
    "51410602": (47, 320), "56412866": (522, 822), "54986978": (59, 306), "59003148": (262, 505),
    "57150433": (61, 394), "56760320": (219, 457), "59562049": (158, 348), "52674888": (145, 296),
    "55258338": (192, 568), "59330497": (140, 655), "52119491": (179, 454),
    # reports that do not describe the image
    "58235663": (0, 0), "50798377": (0, 0), "54168089": (0, 0), "53071062": (0, 0), "56724958": (0, 0),
    "54231141": (0, 0), "53607029": (0, 0), "52035334": (0, 0),
}  # fmt: skip
"""Studies whose reports have no usable headings, with the positions where their impression starts and ends."""

_USED = ("findings", "impression")
_SPECIAL_SECTION: dict[str | None, str] = {
    study_id: section for section, studies in IMPRESSION_IN.items() for study_id in studies
}

# A line that starts with capitals and a colon. The reports indent all lines by a space.
_HEADING = re.compile(r"(?:\A|\n)(?: |(?=[A-Z]))([A-Z ()/,-]+):\s")


def section_of(heading: str) -> str:
    """Return the section that a heading starts: `"findings"` for `"CHEST, TWO VIEWS"`.

    Args:
        heading (`str`):
            The text before the colon.

    Returns:
        `str`: a key of `SECTIONS`, or the heading itself in lower case if it belongs to none of them.
    """
    name = heading.lower().strip()
    if name in _SECTION_OF:
        return _SECTION_OF[name]
    part = next((part for part in PARTS if part in name), None)
    return part or ("findings" if any(view in name for view in VIEWS) else name)


def sections(report: str, study_id: str | None = None) -> dict[str, str]:
    """Extract the findings and the impression from a report.

    A section extends from its heading (capitals and a colon at the start of a line) to the next heading. The rest of a
    heading's line, or the next line if nothing else is in it, is text even if it looks like a heading. The last
    findings and the last impression that are not empty are used. Text before the first heading is in no section.

    Args:
        report (`str`):
            The text of a report's file.
        study_id (`str`, *optional*):
            The study, such as `"50414267"`. For some studies it is known where the impression is; it is then the only
            section.

    Returns:
        `dict[str, str]`: texts under `"findings"` and `"impression"`, in this order, with single spaces. Missing and
            empty sections are left out. The underscores in place of removed names and dates are kept.

    Example:

    ```python
    >>> from fedvlm_hf.building.readers.mimic_cxr_sections import sections

    >>> sections(" FINDINGS:  The lungs are\\n clear.\\n \\n IMPRESSION: \\n \\n No change since ___.")
    {'findings': 'The lungs are clear.', 'impression': 'No change since ___.'}
    ```
    """
    if study_id in IMPRESSION_BETWEEN:
        start, end = IMPRESSION_BETWEEN[study_id]
        return _without_empty({"impression": report[start:end]})
    found = [(section, text) for section, text in _split(report) if text.strip() or section not in _USED]
    last = dict(found)
    special = _SPECIAL_SECTION.get(study_id)
    if special not in last:
        return _without_empty({section: last.get(section, "") for section in _USED})
    text = last[special]
    if special == found[-1][0] and last.keys().isdisjoint(_USED):
        text = text.split("\n \n")[0]  # what follows is the parser's last paragraph
    return _without_empty({"impression": text})


def _split(report: str) -> Iterator[tuple[str, str]]:
    """Yield each section's name and text."""
    heading = _HEADING.search(report)
    while heading:
        start = heading.end()
        following = _HEADING.search(report, max(report.find("\n", start), start))
        yield section_of(heading[1]), report[start : following.start() if following else len(report)]
        heading = following


def _without_empty(texts: dict[str, str]) -> dict[str, str]:
    joined = {section: " ".join(text.split()) for section, text in texts.items()}
    return {section: text for section, text in joined.items() if text}
