"""`headrace demo`."""

import asyncio
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.commands import GlobalContext
from headrace.commands.dev import page_line, stack_options
from headrace.output import console

if TYPE_CHECKING:
    from headrace.development.stack import DevelopmentStack

SESSION = "demo"
LATENCY_S = 1.5
QUESTIONS = ("What is 17 * 23, and what time is it in Tokyo?", "Thank you! What can you do besides?")
LAST_QUESTION = "Tell me why a mill needs a headrace."
# In the middle of the last answer.
KILL_AFTER_S = 2.0
PAGE_DEADLINE_S = 10.0


async def demo(*, context: GlobalContext) -> int:
    """Watch a conversation with tool calls, and a worker that is killed while it answers; then talk yourself.

    It runs a stack of its own, as `headrace dev` does, in a temporary folder, and removes it at the end. While it runs,
    its page can be opened. Where there is no terminal, it ends after the conversation, when the page has answered.

    Example: `headrace demo`
    """
    from headrace.development.progress import UntilSettled, reporter_for
    from headrace.development.run import run_stack

    with tempfile.TemporaryDirectory(prefix="headrace-demo-") as folder:
        own = replace(context, options={**context.options, "data_dir": Path(folder)})
        options = stack_options(own, workers=1, model_latency_s=LATENCY_S)
        await run_stack(options, UntilSettled(reporter_for(console(), json=False)), _show)
    return 0


async def _show(stack: "DevelopmentStack") -> None:
    model = "a simulated model" if stack.simulates_model else "the model that your key is for"
    console().print(f"\n[bold]A conversation[/] with {model}, over Kafka at {stack.endpoints.kafka}:\n")
    await _chat(stack, QUESTIONS)
    console().print("\n[bold]Now the worker is killed (kill -9) while it answers:[/]\n")
    await asyncio.gather(_chat(stack, [LAST_QUESTION]), _kill_worker(stack))
    console().print("\nIt was answered all the same, once.\n")
    await _require_page(f"{stack.endpoints.gateway}/")
    console().print(f"{page_line(stack)}\n")
    if sys.stdin.isatty() and sys.stdout.isatty():
        await _chat(stack)


async def _require_page(url: str) -> None:
    """Return when the page answers; raises `StackError`."""
    import aiohttp

    from headrace.stack.errors import StackError

    timeout = aiohttp.ClientTimeout(total=PAGE_DEADLINE_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as http, http.get(url) as answer:
            found = answer.content_type
    except (aiohttp.ClientError, TimeoutError) as error:
        raise StackError(f"the page at {url} does not answer: {error!r}") from error
    if found != "text/html":
        raise StackError(f"the page at {url}: expected text/html, got {found}")


async def _kill_worker(stack: "DevelopmentStack") -> None:
    await asyncio.sleep(KILL_AFTER_S)
    stack.kill_workers()
    console().print("\n[yellow]kill -9: the worker is dead; another one takes its place …[/]")


async def _chat(stack: "DevelopmentStack", questions: list[str] | tuple[str, ...] = ()) -> None:
    """Run `headrace chat` on the stack: with these questions, or with the person at the terminal."""
    settings = stack.settings
    if not questions:
        # From here on Ctrl-C is the chat's: it cancels a turn, or ends the chat and with it the demo.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    command = [sys.executable, "-m", "headrace", "chat", SESSION, "--brokers", settings.brokers]
    chat = await asyncio.create_subprocess_exec(
        *command,
        *(["--topic-prefix", settings.topic_prefix] if settings.topic_prefix else []),
        stdin=asyncio.subprocess.PIPE if questions else None,
        start_new_session=bool(questions),
    )
    try:
        if questions:
            await chat.communicate("".join(f"{question}\n" for question in questions).encode())
        await chat.wait()
    finally:
        if chat.returncode is None:
            chat.kill()
            await chat.wait()
