"""Which of the offered tools the demo asks for, from what the user said."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from headrace.simulated_model.directives import ToolOrder
from headrace.simulated_model.example_inputs import EXAMPLE_INPUTS
from headrace.simulated_model.requests import Tool
from headrace.simulated_model.schema_input import URL, input_from_schema

PARALLEL_CALLS_MAX = 8

DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}/\d{1,2}/\d{4}\b|\b\d{1,2}:\d{2}\b")
OPERAND = r"\(*\s*-?\d+(?:[.,]\d+)*\s*\)*"
TYPESET_SIGNS = {"\N{MULTIPLICATION SIGN}": "*", "\N{DIVISION SIGN}": "/", "\N{MINUS SIGN}": "-"}
OPERATOR = rf"(?:\*\*|//|[-+*/%^{''.join(TYPESET_SIGNS)}]|(?<=[\d\s])x(?=[\s\d]))"
ARITHMETIC = re.compile(rf"{OPERAND}(?:\s*{OPERATOR}\s*{OPERAND})+")
PERCENT_OF = re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|percent)\s+of\s+(\d+(?:\.\d+)?)", re.IGNORECASE)
SPOKEN = [
    (re.compile(r"(?<=\d)\s+plus\s+(?=[\d(-])", re.IGNORECASE), " + "),
    (re.compile(r"(?<=\d)\s+minus\s+(?=[\d(-])", re.IGNORECASE), " - "),
    (re.compile(r"(?<=\d)\s+(?:times|multiplied by)\s+(?=[\d(-])", re.IGNORECASE), " * "),
    (re.compile(r"(?<=\d)\s+(?:divided by|over)\s+(?=[\d(-])", re.IGNORECASE), " / "),
    (re.compile(r"(?<=\d)\s+to the power of\s+(?=[\d(-])", re.IGNORECASE), " ** "),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
]
SIGNS = str.maketrans({**TYPESET_SIGNS, "x": "*"})

TIME_WORD = re.compile(
    r"\b(?:time is it|the time|local time|current time|time in|clock|what day|today's date|what date)\b", re.IGNORECASE
)
ZONE = re.compile(
    r"\b(?:Africa|America|Asia|Atlantic|Australia|Europe|Indian|Pacific)/[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z_]+)?\b"
)
ZONES_BY_CITY = {
    "amsterdam": "Europe/Amsterdam",
    "athens": "Europe/Athens",
    "auckland": "Pacific/Auckland",
    "bangkok": "Asia/Bangkok",
    "beijing": "Asia/Shanghai",
    "berlin": "Europe/Berlin",
    "bogota": "America/Bogota",
    "brussels": "Europe/Brussels",
    "buenos aires": "America/Argentina/Buenos_Aires",
    "cairo": "Africa/Cairo",
    "chicago": "America/Chicago",
    "copenhagen": "Europe/Copenhagen",
    "delhi": "Asia/Kolkata",
    "denver": "America/Denver",
    "dubai": "Asia/Dubai",
    "dublin": "Europe/Dublin",
    "geneva": "Europe/Zurich",
    "helsinki": "Europe/Helsinki",
    "hong kong": "Asia/Hong_Kong",
    "honolulu": "Pacific/Honolulu",
    "istanbul": "Europe/Istanbul",
    "jakarta": "Asia/Jakarta",
    "johannesburg": "Africa/Johannesburg",
    "kyiv": "Europe/Kyiv",
    "lagos": "Africa/Lagos",
    "lima": "America/Lima",
    "lisbon": "Europe/Lisbon",
    "london": "Europe/London",
    "los angeles": "America/Los_Angeles",
    "madrid": "Europe/Madrid",
    "melbourne": "Australia/Melbourne",
    "mexico city": "America/Mexico_City",
    "moscow": "Europe/Moscow",
    "mumbai": "Asia/Kolkata",
    "nairobi": "Africa/Nairobi",
    "new york": "America/New_York",
    "oslo": "Europe/Oslo",
    "paris": "Europe/Paris",
    "prague": "Europe/Prague",
    "rome": "Europe/Rome",
    "san francisco": "America/Los_Angeles",
    "santiago": "America/Santiago",
    "sao paulo": "America/Sao_Paulo",
    "seattle": "America/Los_Angeles",
    "seoul": "Asia/Seoul",
    "shanghai": "Asia/Shanghai",
    "singapore": "Asia/Singapore",
    "stockholm": "Europe/Stockholm",
    "sydney": "Australia/Sydney",
    "tokyo": "Asia/Tokyo",
    "toronto": "America/Toronto",
    "utc": "UTC",
    "vienna": "Europe/Vienna",
    "warsaw": "Europe/Warsaw",
    "zurich": "Europe/Zurich",
}
PLACE_PROPERTIES = frozenset({"location", "city", "place"})
REMEMBER = re.compile(r"(?<!you )\bremember(?: that|:)? ([^.!?\n]+)", re.IGNORECASE)
RECALL = re.compile(r"\b(?:do you (?:know|remember)|recall)\b", re.IGNORECASE)
LETTERS = re.compile(r"[a-z]+")


def choose_tools(tools: tuple[Tool, ...], text: str) -> list[ToolOrder]:
    """Choose the calls that the text asks for; a tool that the demo does not know is tried when no other fits."""
    offered = {tool.name: tool for tool in tools}
    orders = [
        ToolOrder(name, _shaped(offered[name], values, text))
        for name, inputs in KNOWN_TOOLS.items()
        if name in offered
        for values in inputs(text)
    ]
    if not orders:
        unknown = [tool for tool in tools if tool.name not in KNOWN_TOOLS]
        if unknown:
            best = max(unknown, key=lambda tool: _overlap(tool.name, text)) if len(unknown) > 1 else unknown[0]
            orders = [ToolOrder(best.name, input_for(best, text))]
    return orders[:PARALLEL_CALLS_MAX]


def input_for(tool: Tool | None, text: str) -> dict[str, Any]:
    """Return a plausible input for a call of this tool that the text did not spell out."""
    if tool is None:
        return {}
    known = next(iter(KNOWN_TOOLS[tool.name](text)), None) if tool.name in KNOWN_TOOLS else None
    if known is None:
        known = EXAMPLE_INPUTS.get(tool.name, {})
    properties = (tool.input_schema or {}).get("properties") or {}
    places = PLACE_PROPERTIES.intersection(properties)
    if places and (cities := _cities(text)):
        known = {**dict.fromkeys(sorted(places), cities[0].title()), **known}
    return input_from_schema(tool.input_schema, text, known)


def _shaped(tool: Tool, values: dict[str, Any], text: str) -> dict[str, Any]:
    """Fit the value found to the tool's own schema, whose first text property takes it if the name is another one."""
    properties = (tool.input_schema or {}).get("properties") or {}
    (name, value), *_ = values.items()
    if properties and name not in properties:
        name = next((one for one, schema in properties.items() if schema.get("type", "string") == "string"), name)
    return input_from_schema(tool.input_schema, text, {name: value})


def _overlap(name: str, text: str) -> int:
    said = text.lower()
    return sum(word in said for word in re.findall(r"[a-z]{3,}", name.lower()))


def _calculations(text: str) -> Iterator[dict[str, Any]]:
    text = DATE.sub(" ; ", URL.sub(" ; ", text))
    text = PERCENT_OF.sub(r"\2 * \1 / 100", text)
    for pattern, sign in SPOKEN:
        text = pattern.sub(sign, text)
    for found in ARITHMETIC.finditer(text):
        expression = _balanced(found[0].strip()).translate(SIGNS).replace("^", "**")
        yield {"expression": expression}


def _balanced(expression: str) -> str:
    """Drop the brackets that belong to the sentence around an expression."""
    while expression.count("(") > expression.count(")") and expression.startswith("("):
        expression = expression[1:].lstrip()
    while expression.count(")") > expression.count("(") and expression.endswith(")"):
        expression = expression[:-1].rstrip()
    return expression


def _times(text: str) -> Iterator[dict[str, Any]]:
    zones = dict.fromkeys(ZONE.findall(text))
    if TIME_WORD.search(text):
        zones.update(dict.fromkeys(ZONES_BY_CITY[city] for city in _cities(text)))
        if not zones:
            zones["UTC"] = None
    for zone in zones:
        yield {"timezone": zone}


def _cities(text: str) -> list[str]:
    """Return the cities of the table that are named in a text, in lower case and in their order."""
    words = LETTERS.findall(text.lower())
    pairs = zip(words, [*words[1:], ""], strict=True)
    named = (f"{word} {after}" if f"{word} {after}" in ZONES_BY_CITY else word for word, after in pairs)
    return [name for name in named if name in ZONES_BY_CITY]


def _pages(text: str) -> Iterator[dict[str, Any]]:
    for url in dict.fromkeys(URL.findall(text)):
        yield {"url": url.rstrip(".,;:!?")}


def _notes(text: str) -> Iterator[dict[str, Any]]:
    for found in REMEMBER.finditer(text):
        yield {"note": found[1].strip()}


def _recollections(text: str) -> Iterator[dict[str, Any]]:
    if RECALL.search(text):
        yield {"query": ""}


KNOWN_TOOLS: dict[str, Callable[[str], Iterator[dict[str, Any]]]] = {
    "calculator": _calculations,
    "current_time": _times,
    "http_get": _pages,
    "web_page_text": _pages,
    "remember": _notes,
    "recall": _recollections,
}
