"""The shipped tools together: all are there, and what is not configured is said at the start."""

import msgspec
import pytest
from pydantic import SecretStr

from agents.catalog import Catalog, parse_agents
from agents.tools import Toolbox, built_in_tools
from docs.generate import ROOT
from headrace.simulated_model.example_inputs import EXAMPLE_INPUTS
from headrace.simulated_model.requests import Tool as OfferedTool
from headrace.simulated_model.tool_choice import choose_tools, input_for
from runtime.settings import SettingsError, load_settings
from runtime.settings.values import Settings, ToolSettings
from streams.agent_files import read_toolbox
from streams.pipeline import _definitions

NEED_SETTINGS = {"http_request", "read_file", "write_file", "list_files", "sql_query", "remember", "recall"}
SECRET = "secret-of-the-settings"


def test_all_are_there_and_those_without_settings_say_so() -> None:
    """Each of them has a setting that can be looked up."""
    tools = built_in_tools()

    assert {tool.name for tool in tools} == set(EXAMPLE_INPUTS)
    assert {tool.name for tool in tools if tool.missing} == NEED_SETTINGS
    assert all("HEADRACE_" in tool.missing for tool in tools if tool.missing)


def test_an_agent_that_names_one_without_its_setting_is_refused() -> None:
    """By name, with what to set, before anything is served."""
    with pytest.raises(ValueError, match=r"`read_file` needs toolbox\.files_dir \(HEADRACE_TOOLBOX_FILES_DIR\)"):
        Toolbox(built_in_tools()).definitions(["calculator", "read_file"])


def test_the_worker_says_which_agent_it_is() -> None:
    """The operator may have a hundred of them."""
    agents = parse_agents((ROOT / "examples/tools.toml").read_text(), "examples/tools.toml")

    with pytest.raises(ValueError, match=r"agent \[secretary\]: .* `remember` needs postgres \(HEADRACE_POSTGRES\)"):
        _definitions(Catalog(agents, "analyst"), Toolbox(built_in_tools()))


def configured() -> Settings:
    toolbox = {
        "files_dir": "/var/lib/files",
        "http_hosts": ("https://api.example.com",),
        "http_headers": {"https://api.example.com": {"Authorization": SECRET}},
        "sql_databases": {"shop": f"postgresql://reader:{SECRET}@db/shop"},
    }
    return Settings(
        toolbox=ToolSettings.model_validate(toolbox), postgres=SecretStr(f"postgresql://u:{SECRET}@db/notes")
    )


def test_configured_ones_can_be_named() -> None:
    """The settings reach the tools."""
    toolbox = read_toolbox(configured())

    assert [tool.name for tool in toolbox.tools if tool.missing] == []
    assert SECRET not in repr(toolbox.tools)


def test_the_example_can_be_served() -> None:
    """With the settings that it says it needs."""
    toolbox = read_toolbox(configured())
    for spec in parse_agents((ROOT / "examples/tools.toml").read_text(), "examples/tools.toml").values():
        assert len(toolbox.definitions(spec.tools)) == len(spec.tools)


def test_every_tool_is_in_the_documentation() -> None:
    """With its limits."""
    page = (ROOT / "docs/tools.md").read_text()

    assert [tool.name for tool in built_in_tools() if f"`{tool.name}`" not in page] == []


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("HTTP_HOSTS", "api.example.com", "expected scheme and host"),
        ("HTTP_HOSTS", "https://api.example.com/path", "expected scheme and host"),
        ("HTTP_HOSTS", "https://user:pw@api.example.com", "expected scheme and host"),
        ("HTTP_HOSTS", "https://*.example.com", "expected scheme and host"),
        ("SQL_DATABASES", f'{{"shop": "mysql://reader:{SECRET}@db/shop"}}', "expected postgresql://"),
        ("SQL_DATABASES", f'{{"shop": ["{SECRET}"]}}', "toolbox.sql_databases.shop"),
        ("SQL_DATABASES", SECRET, "toolbox"),
        ("HTTP_HEADERS", f'{{"https://other.example.com": {{"Authorization": "{SECRET}"}}}}', "http_headers of hosts"),
        ("HTTP_HEADERS", f'{{"https://other.example.com": "{SECRET}"}}', "HEADRACE_TOOLBOX_HTTP_HEADERS"),
    ],
)
def test_wrong_settings_are_said_without_their_secrets(
    variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every other setting."""
    monkeypatch.setenv(f"HEADRACE_TOOLBOX_{variable}", value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_simulated_model_calls_each_with_what_it_accepts() -> None:
    """An agent with new tools can be tried without a key."""
    for tool in built_in_tools():
        offered = OfferedTool(name=tool.name, input_schema=tool.definition.input_schema)
        msgspec.convert(input_for(offered, "Do something with it."), tool.parameters.model)


def test_a_simulated_model_remembers_what_it_is_told_to() -> None:
    """And looks it up when it is asked."""
    offered = tuple(
        OfferedTool(name=tool.name, input_schema=tool.definition.input_schema)
        for tool in built_in_tools()
        if tool.name in ("remember", "recall")
    )

    (kept,) = choose_tools(offered, "Please remember that I like tea. Thanks!")
    (asked,) = choose_tools(offered, "What do you remember about me?")

    assert (kept.name, kept.input) == ("remember", {"note": "I like tea"})
    assert asked.name == "recall"
