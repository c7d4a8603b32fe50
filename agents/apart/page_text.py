"""The readable text of a web page, without what surrounds it."""

import trafilatura

MAX_CHARS = 500_000
SHORT_CHARS = 200
"""Of an article that was found: less is rather a page that has none, such as a list or a form."""


def compute(html: str, url: str) -> str:
    """Title, author and date where the page says them, then its text as Markdown; empty where there is none."""
    text = trafilatura.extract(
        html, url=url, output_format="markdown", with_metadata=False, include_links=True, include_tables=True
    )
    if text is None or len(text) < SHORT_CHARS:
        plain = trafilatura.html2txt(html)
        text = plain if len(plain) > len(text or "") else text
    found = trafilatura.extract_metadata(html, default_url=url)
    head = []
    if found is not None:
        said = (("Title", found.title), ("Author", found.author), ("Date", found.date))
        head = [f"{name}: {value[:300]}" for name, value in said if value]
    return "\n\n".join(part for part in ("\n".join(head), (text or "").strip()) if part)[:MAX_CHARS]
