"""What computes on texts of models and strangers, called directly: the answers and the refusals."""

import json
from pathlib import Path

import pytest

from agents.apart import csv_query, json_query, page_text, text_diff
from agents.apart.refused import RefusedError

SALES = "city,amount,code\nParis,10,007\nRome,2.5,010\nParis,,7\n"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("orders[?total > `100`].id", [2]),
        ("orders[*].{n: id, t: total} | [0]", {"n": 1, "t": 50}),
        ("sum(orders[].total)", 250),
        ("nothing.here", None),
        ("name", "Zoë"),
    ],
)
def test_json_is_queried(expression: str, value: object) -> None:
    """The answer is JSON again, and what is not there is null."""
    data = json.dumps({"orders": [{"id": 1, "total": 50}, {"id": 2, "total": 200}], "name": "Zoë"})

    assert json.loads(json_query.compute(data, expression)) == value


@pytest.mark.parametrize(
    ("data", "expression", "says"),
    [
        ("{", "a", "expected `data` to be JSON"),
        ("{}", "a[", "expected a JMESPath expression"),
        ("{}", "no_such(@)", "expected a JMESPath expression"),
        ("[1]", "join(',', @)", "expected a JMESPath expression"),
        ("[1]", "&a", "bare `&expression`"),
        ("[1]", "|".join(["[@,@]"] * 60), "more than 150,000 characters"),
    ],
)
def test_what_is_no_json_or_no_expression_is_said(data: str, expression: str, says: str) -> None:
    """A value that a short expression makes endless is given up while it is written."""
    with pytest.raises(RefusedError, match=says):
        json_query.compute(data, expression)


def test_csv_is_queried() -> None:
    """Numbers are numbers, empty ones are NULL, and codes with leading zeros stay text."""
    totals = csv_query.compute(SALES, "SELECT city, sum(amount) AS s FROM data GROUP BY 1 ORDER BY 2")
    codes = csv_query.compute(SALES, "SELECT group_concat(code), count(amount) FROM data")

    assert totals == "city,s\nRome,2.5\nParis,10\n"
    assert codes == 'group_concat(code),count(amount)\n"007,010,7",2\n'


def test_other_delimiters_quotes_and_doubled_names() -> None:
    """As spreadsheets write them."""
    text = '\ufeffName;name;\n"a;b";2;\n"line\nbreak";3;x\n'

    assert csv_query.compute(text, 'SELECT "Name", name_2, column_3 FROM data ORDER BY 2 DESC') == (
        'Name,name_2,column_3\n"line\nbreak",3,x\na;b,2,\n'
    )


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM data",
        "DROP TABLE data",
        "CREATE TABLE other (a)",
        "UPDATE data SET city = 1 RETURNING city",
        "ATTACH DATABASE '/etc/passwd' AS other",
        "ATTACH DATABASE '{file}' AS other",
        "VACUUM INTO '{file}'",
        "PRAGMA table_info(data)",
        "PRAGMA hard_heap_limit = 0",
        "SELECT * FROM pragma_database_list",
        "SELECT load_extension('/tmp/evil.so')",
        "SELECT writefile('{file}', 'x')",
        "SELECT readfile('/etc/passwd')",
        "SELECT 1; DROP TABLE data",
        "EXPLAIN SELECT 1; SELECT 2",
        "BEGIN",
        "SELECT ?",
        "SELECT no_such_column FROM data",
        "SELECT hex(zeroblob(2000000000))",
        "",
        "-- nothing",
    ],
)
def test_only_reading_is_possible(sql: str, tmp_path: Path) -> None:
    """Neither the table nor the disk can be changed or looked at."""
    with pytest.raises(RefusedError, match=r"expected (one )?SELECT|expected a SELECT"):
        csv_query.compute(SALES, sql.format(file=tmp_path / "here"))
    assert list(tmp_path.iterdir()) == []


def test_the_columns_are_told_for_another_try() -> None:
    """A model that did not see the first line can correct itself."""
    with pytest.raises(RefusedError, match=r'no such column: town\. The columns are "city", "amount", "code"'):
        csv_query.compute(SALES, "SELECT town FROM data")


def test_many_rows_are_cut() -> None:
    """With a word on how to get the others."""
    answer = csv_query.compute("a\n" + "1\n" * 2_000, "SELECT a FROM data")

    assert answer.endswith("[cut after 1,000 rows: aggregate, or add LIMIT and OFFSET]")


@pytest.mark.parametrize(
    ("text", "says"),
    [("\n", "empty"), ("a,b\n1,2,3\n", "expected 2 values in row 2"), ('a\n"open\n', "expected CSV")],
)
def test_what_is_no_csv_is_said(text: str, says: str) -> None:
    """With the row."""
    with pytest.raises(RefusedError, match=says):
        csv_query.compute(text, "SELECT 1")


def test_texts_are_compared() -> None:
    """A unified diff; sentences where it would be empty."""
    assert text_diff.compute("a\nb\nc\n", "a\nB\nc\n", 0) == "--- before\n+++ after\n@@ -2 +2 @@\n-b\n+B"
    assert text_diff.compute("a\n", "a\n", 3) == "The texts are equal."
    assert text_diff.compute("a\n", "a\r\n", 3) == "The texts differ in line ends only."


PARAGRAPHS = "".join(
    f"<p>The {n}. paragraph of this article says something that a reader wants to know.</p>" for n in range(9)
)
PAGE = f"""<html><head><title>The news</title><meta name="author" content="Ada Lovelace"></head><body>
<nav><a href=/>Home</a> <a href=/shop>Shop</a></nav><script>evil()</script>
<article><h1>The news</h1>{PARAGRAPHS}<p>More at <a href="/more">the other page</a>, where it goes on.</p></article>
<footer>Cookies and imprint</footer></body></html>"""


def test_a_page_is_read() -> None:
    """Title, author, text and links; no menu, no script, no footer."""
    text = page_text.compute(PAGE, "https://example.com/news")

    assert text.startswith("Title: The news\nAuthor: Ada Lovelace\n")
    assert "The 3. paragraph of this article" in text
    assert "[the other page](" in text
    assert not any(word in text for word in ("Shop", "evil", "Cookies"))


@pytest.mark.parametrize("html", ["", "<html>", "<p></p>", "\x01", "<<<<", "plain words"])
def test_a_page_without_an_article_is_no_error(html: str) -> None:
    """Its words, if it has any."""
    assert page_text.compute(html, "https://example.com/").strip() in ("", "plain words", "<<<<", "<<<")


def test_a_short_page_is_read_as_a_whole() -> None:
    """A list or a form is no article, and still says something."""
    assert "Two items" in page_text.compute("<html><body><ul><li>Two items</ul></body></html>", "https://example.com/")
