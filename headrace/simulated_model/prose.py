"""The demo's English: an answer to what the user said, and a report of what the tools returned."""

import json
import re
from typing import Any
from zlib import crc32

from headrace.simulated_model.requests import Block, Message, Prompt
from headrace.simulated_model.transcript import said_in

QUOTE_MAX = 240
ANY_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
TOPIC_WORD_MIN_CHARACTERS = 4
COMMON = frozenset(
    ANY_WORD.findall("""
    about after again also always another answer because been before being best between both cannot come could
    does doing done each else even every explain find from give goes have hello help here into just keep know
    less like long look made make many mean more most much must need never nice only other over please question
    same says shall should show some still such take tell than thank thanks that their them then there these
    they thing things think this those time told under until upon very want well were what when where which
    while whom whose will with without work would write years your yours
    """)
)
ONE_OF_WORDS = re.compile(r"one of these words only: ([\w-]+(?:, *[\w-]+)*)")
GREETING = re.compile(
    r"\s*(?:hi|hello|hey|good (?:morning|afternoon|evening))\b[\s!,.]*(?:there|headrace)?[\s!.,]*$", re.IGNORECASE
)
MY_NAME = re.compile(r"\b[Mm]y name is ([A-Z][\w'-]*)|\bI(?:'m| am) called ([A-Z][\w'-]*)")
ASKS_NAME = re.compile(r"\b(?:what(?:'s| is| was)|remember|know) my name\b", re.IGNORECASE)

OPENINGS = (
    "Here is how I would look at {topic}.",
    "Let me take {topic} step by step.",
    "A good starting point for {topic} is what you want to be true at the end.",
    "There are two sides to {topic}, and both matter here.",
)
MIDDLES = (
    (
        "First, write down what must hold whatever goes wrong; most surprises with {topic} come from a case nobody "
        "named. Then take the smallest version that works from end to end, and measure it before you add to it."
    ),
    (
        "The part that is easy to see is rarely the part that costs time: with {topic}, it is usually the hand-over "
        "between two steps. Make each hand-over explicit, and let exactly one side own it."
    ),
    (
        "Start from the facts you can check today and keep the assumptions in a separate list. As {topic} becomes "
        "clearer, the list should get shorter; if it grows, the question is probably too wide."
    ),
    (
        "In practice three things decide about {topic}: how often it happens, what it costs when it goes wrong, and "
        "how soon you notice. Improve the last one first, because it makes the other two visible."
    ),
)
ENDINGS = (
    "If you tell me more about your situation, I can be more specific.",
    "Would you like an example?",
    "I can turn this into a short plan if that helps.",
    "That is the short version; ask me for any part in more detail.",
)


def answer(text: str, messages: list[Message]) -> str:
    """Answer the user's text; the same text and transcript always get the same answer."""
    if GREETING.match(text) or not text.strip():
        return (
            "Hello! I am the simulated model of Headrace: I answer like a language model, but nothing thinks here. "
            "Ask me something, or give me a sum, a city's time or a web address to see me call a tool."
        )
    if ASKS_NAME.search(text):
        return _recall_name(messages)
    seed = crc32(text.encode())
    topic = topic_of(text)
    parts = (OPENINGS[seed % 4], MIDDLES[seed // 4 % 4], ENDINGS[seed // 16 % 4])
    return " ".join(parts).replace("{topic}", topic)


def word_of_instructions(prompt: Prompt, text: str) -> str | None:
    """The word to answer with, where the instructions have "one of these words only: a, b, c"; else None.

    It is the first of them that the text has, or the last one.
    """
    system = prompt.system if isinstance(prompt.system, str) else "".join(b.text or "" for b in prompt.system or ())
    found = ONE_OF_WORDS.search(system)
    if found is None:
        return None
    words = [word.strip() for word in found[1].split(",")]
    said = {word.lower() for word in ANY_WORD.findall(text)}
    return next((word for word in words if word.lower() in said), words[-1])


def topic_of(text: str) -> str:
    """Return the phrase of a text that carries it: its longest run of uncommon words, at most three."""
    best: list[str] = []
    run: list[str] = []
    for word in ANY_WORD.findall(text[:2000]):
        if len(word) < TOPIC_WORD_MIN_CHARACTERS or word.lower() in COMMON:
            run = []
        else:
            run = [*run[-2:], word]
            if sum(map(len, run)) > sum(map(len, best)):
                best = run
    return " ".join(best) or "this"


def _recall_name(messages: list[Message]) -> str:
    for message in reversed(messages):
        told = MY_NAME.search(said_in(message)) if message.role == "user" else None
        if told:
            return f"Your name is {told[1] or told[2]}; you told me earlier in this conversation."
    return "You have not told me your name yet."


def announcement(names: list[str]) -> str:
    """Say which tools are about to be called."""
    unique = list(dict.fromkeys(names))
    if len(unique) == 1:
        return f"Let me use {unique[0]} for that."
    return f"Let me use {', '.join(unique[:-1])} and {unique[-1]} for that."


def report(exchanges: list[tuple[Block, Block]]) -> str:
    """Answer from what the tools returned, failures included."""
    sentences = [_sentence(call, result) for call, result in exchanges]
    if len(sentences) == 1:
        return sentences[0]
    return "Here is what I found:\n" + "\n".join(f"- {sentence}" for sentence in sentences)


def _sentence(call: Block, result: Block) -> str:
    arguments = json.loads(bytes(call.input))
    returned = quoted(_plain(bytes(result.content)))
    if result.is_error:
        return f"I tried {call.name}{_spelled(arguments)}, but it failed: {returned}"
    match call.name, arguments:
        case "calculator", {"expression": expression}:
            return f"{expression} = {returned}."
        case "current_time", {"timezone": zone}:
            return f"In {str(zone).rpartition('/')[2].replace('_', ' ')} it is now {returned}."
        case "http_get", {"url": url}:
            return f"The page at {url} says: \u201c{returned}\u201d"
    return f"{call.name}{_spelled(arguments)} returned {returned}."


def _spelled(arguments: dict[str, Any]) -> str:
    return f" with {quoted(', '.join(f'{name} {value}' for name, value in arguments.items()))}" if arguments else ""


def _plain(raw: bytes) -> str:
    """Return the text of a tool result's content: a string, a list of blocks, or nothing."""
    content = json.loads(raw) if raw else None
    if isinstance(content, list):
        content = "\n".join(block.get("text", f"({block.get('type')})") for block in content)
    if not content:
        return "nothing"
    text = str(content)
    if text.lstrip().startswith(("{", '"')):
        try:
            return _values(json.loads(text))
        except json.JSONDecodeError:
            return text
    return text


def _values(value: Any) -> str:
    """Return the value that a JSON result is about, or all of them by name."""
    if not isinstance(value, dict):
        return str(value)
    for name in ("result", "value", "time", "text", "body", "error"):
        if isinstance(value.get(name), str | int | float):
            return str(value[name])
    return ", ".join(f"{name}: {item}" for name, item in value.items())


def quoted(text: str) -> str:
    """Shorten a text to one line of at most QUOTE_MAX characters."""
    line = " ".join(text.split())
    return line if len(line) <= QUOTE_MAX else line[: QUOTE_MAX - 1].rstrip() + "\u2026"
