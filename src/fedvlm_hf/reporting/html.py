"""One HTML page from the report's Markdown and figures: it opens without network and contains no scripts."""

import base64
import re
from collections.abc import Mapping
from html import escape


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }}
h1, h2, h3 {{ line-height: 1.2; margin-top: 2rem; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.3rem 0.8rem; border-bottom: 1px solid #e3e7ec; text-align: left; }}
.number {{ text-align: right; }}
img {{ max-width: 100%; }}
code {{ background: #f3f5f7; padding: 0 0.2rem; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
_CELLS = re.compile(r"(?<!\\)\|")


def html_page(title: str, text: str, images: Mapping[str, bytes]) -> str:
    """Return a complete HTML page.

    Args:
        title (`str`):
            Title of the window.
        text (`str`):
            The Markdown of the reports: headings, paragraphs, tables of `markdown_table`, bold text and code, and
            `![text](name)` on a line of its own. Everything else, such as HTML tags, is shown as it is written.
        images (`Mapping[str, bytes]`):
            PNG files by the names that the text uses. They become part of the page.
    """
    blocks = [_block(block.strip("\n"), images) for block in re.split(r"\n\s*\n", text) if block.strip()]
    return _PAGE.format(title=escape(title), body="\n".join(blocks))


def _block(block: str, images: Mapping[str, bytes]) -> str:
    if heading := re.fullmatch(r"(#{1,3}) (.+)", block):
        level = len(heading[1])
        return f"<h{level}>{_inline(heading[2])}</h{level}>"
    if (image := re.fullmatch(r"!\[(.*)\]\((.+)\)", block)) and image[2] in images:
        data = base64.b64encode(images[image[2]]).decode()
        return f'<p><img alt="{escape(image[1])}" src="data:image/png;base64,{data}"></p>'
    if block.startswith("|"):
        return _table(block.splitlines())
    return f"<p>{_inline(' '.join(block.split()))}</p>"


def _table(lines: list[str]) -> str:
    """Convert a table of `markdown_table`, whose second line says which columns are numbers."""
    header, rule, *rows = [_CELLS.split(line.strip())[1:-1] for line in lines]
    classes = [' class="number"' if cell.strip().endswith(":") else "" for cell in rule]

    def line(cells: list[str], tag: str) -> str:
        texts = [_inline(cell.strip().replace("\\|", "|")) for cell in cells]
        return "".join(f"<{tag}{kind}>{text}</{tag}>" for text, kind in zip(texts, classes, strict=True))

    body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    head = f"<thead><tr>{line(header, 'th')}</tr></thead>"
    return f'<div class="table"><table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
