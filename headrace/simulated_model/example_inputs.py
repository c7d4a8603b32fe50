"""An input for each shipped tool, for a text that does not spell one out."""

from typing import Any

EXAMPLE_INPUTS: dict[str, dict[str, Any]] = {
    "calculator": {"expression": "6 * 7"},
    "current_time": {"timezone": "UTC"},
    "http_get": {"url": "https://example.com/"},
    "web_page_text": {"url": "https://example.com/"},
    "http_request": {"method": "GET", "url": "https://example.com/"},
    "json_query": {
        "data": '{"orders": [{"id": 1, "total": 50}, {"id": 2, "total": 200}]}',
        "expression": "orders[?total > `100`].id",
    },
    "csv_query": {
        "csv": "city,amount\nParis,10\nRome,2.5\nParis,4\n",
        "sql": "SELECT city, sum(amount) AS amount FROM data GROUP BY city ORDER BY amount DESC",
    },
    "text_diff": {"before": "one\ntwo\n", "after": "one\nthree\n"},
    "regex_extract": {"text": "from 2025-12-31 to 2026-01-15", "pattern": r"(\d{4})-(\d\d)-(\d\d)"},
    "write_file": {"path": "notes.txt", "content": "Written by a simulated model.\n"},
    "read_file": {"path": "notes.txt"},
    "list_files": {},
    "sql_query": {"sql": "SELECT table_name FROM information_schema.tables ORDER BY table_name LIMIT 5"},
    "remember": {"note": "Prefers short answers."},
    "recall": {},
}
