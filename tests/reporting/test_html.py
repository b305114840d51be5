"""The HTML page of a comparison."""

from fedvlm_hf.markdown import markdown_table
from fedvlm_hf.reporting.html import html_page


def body(text: str, **images: bytes) -> str:
    return html_page("t", text, images).split("<body>\n")[1].split("\n</body>")[0]


def test_headings_paragraphs_bold_and_code():
    assert body("# A `b`\n\nOne\nline **of** two.\n") == (
        "<h1>A <code>b</code></h1>\n<p>One line <strong>of</strong> two.</p>"
    )


def test_a_table_keeps_its_cells_and_the_side_of_its_numbers():
    html = body(markdown_table(["a|b", "n"], [["<i>|</i>", "1"]]))
    assert '<th>a|b</th><th class="number">n</th>' in html
    assert '<td>&lt;i&gt;|&lt;/i&gt;</td><td class="number">1</td>' in html


def test_an_image_becomes_part_of_the_page_and_an_unknown_one_stays_text():
    assert '<img alt="x&quot;" src="data:image/png;base64,UE5H">' in body('![x"](a)', a=b"PNG")
    assert body("![x](http://host/b.png)") == "<p>![x](http://host/b.png)</p>"


def test_the_title_is_escaped():
    assert "<title>&lt;b&gt;</title>" in html_page("<b>", "", {})
