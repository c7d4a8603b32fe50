"""`sql_query`, `remember` and `recall` against a real PostgreSQL: what they do, and what they let nobody do."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from postgres_fixture import PostgresServer, postgres, postgres_server

from agents.tools import Toolbox, ToolContext, ToolFault, ToolOutcome, ToolReturn
from agents.tools.notes import note_tools
from agents.tools.postgres_notes import PostgresNotes
from agents.tools.secret import Secret
from agents.tools.sql_limits import SqlLimits
from agents.tools.sql_query import sql_query_tool
from projections.migrations import migrate
from schemas.failure import FailureCode

__all__ = ["postgres", "postgres_server"]

pytestmark = pytest.mark.asyncio(loop_scope="session")
PASSWORD = "pw-that-nobody-sees"
LIMITS = SqlLimits(statement_s=1.0, total_s=10.0, max_rows=60, max_row_chars=100)


@pytest_asyncio.fixture(loop_scope="session")
async def shop(postgres: str) -> str:
    """The URL of a role that may read a shop, and even write, which the tool must not let it."""
    role = "reader_of_" + postgres.rsplit("/", 1)[1]
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(
            f"""
            CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}';
            CREATE TABLE orders (id int PRIMARY KEY, customer text, total numeric);
            INSERT INTO orders VALUES (1, 'Ann', 9.5), (2, 'Zoë', 20);
            GRANT ALL ON orders TO {role};
            GRANT ALL ON SCHEMA public TO {role};
            """
        )
        place = postgres.split("://", 1)[1].rsplit("@", 1)[1]
    finally:
        await connection.close()
    return f"postgresql://{role}:{PASSWORD}@{place}"


async def query(url: str, sql: str, database: str = "", limits: SqlLimits = LIMITS) -> ToolOutcome:
    toolbox = Toolbox([sql_query_tool({"shop": Secret(url)}, limits)])
    context = ToolContext(call_id="c", session_id="s", agent="a")
    return await toolbox.run("sql_query", {"sql": sql, "database": database}, context=context, timeout_s=30)


async def rows(url: str, sql: str) -> str:
    outcome = await query(url, sql)
    assert isinstance(outcome, ToolReturn), outcome
    return outcome.content


async def refusal(url: str, sql: str, database: str = "", limits: SqlLimits = LIMITS) -> str:
    outcome = await query(url, sql, database, limits)
    assert isinstance(outcome, ToolFault), outcome
    assert outcome.failure.code is FailureCode.TOOL_ERROR, outcome
    assert PASSWORD not in outcome.failure.message
    assert PASSWORD not in repr(outcome.cause)
    return outcome.failure.message


async def test_rows_are_json(shop: str) -> None:
    """In the query's order; a semicolon and a comment at the end do no harm."""
    assert await rows(shop, "SELECT * FROM orders ORDER BY id DESC;") == (
        '{"id":2,"customer":"Zoë","total":20}\n{"id":1,"customer":"Ann","total":9.5}'
    )
    assert await rows(shop, "WITH t AS (SELECT 1 AS a) SELECT a FROM t -- only one") == '{"a":1}'
    assert await rows(shop, "VALUES (1, 'x')") == '{"column1":1,"column2":"x"}'
    assert await rows(shop, "SELECT 1 WHERE false") == "[no rows]"


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM orders",
        "INSERT INTO orders VALUES (3) RETURNING id",
        "WITH gone AS (DELETE FROM orders RETURNING id) SELECT * FROM gone",
        "SELECT 1; DELETE FROM orders",
        "COMMIT; DELETE FROM orders",
        "COMMIT",
        "ROLLBACK",
        "SET TRANSACTION READ WRITE",
        "SET default_transaction_read_only = off",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SELECT * INTO copy FROM orders",
        "CREATE TABLE other (a int)",
        "COPY orders TO '/tmp/x'",
        "COPY orders TO PROGRAM 'id'",
        "DO $$ BEGIN DELETE FROM orders; END $$",
        "CALL no_such()",
        "SELECT * FROM orders FOR UPDATE",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_create(0)",
        "LOCK TABLE orders",
        "SELECT 1) q) r UNION ALL SELECT repeat('x', 100000), 1 FROM (SELECT 1 FROM (SELECT 1",
        "SELECT 1) AS q) AS r; DELETE FROM orders; SELECT 1 FROM (SELECT 1 FROM (SELECT 1",
        "SELECT 1 /*",
        "SELECT '",
        "SELECT $1",
        "SELECT no_such FROM orders",
        "",
        " ; ",
    ],
)
async def test_nothing_but_one_query_is_run(shop: str, sql: str) -> None:
    """Though this role may write: the rows are there afterwards, and no others."""
    outcome = await query(shop, sql)

    assert isinstance(outcome, ToolFault), outcome
    assert await rows(shop, "SELECT count(*) FROM orders") == '{"count":2}'
    assert await rows(shop, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == '{"count":1}'


async def test_a_query_that_takes_too_long_is_ended(shop: str, postgres: str) -> None:
    """In the database too."""
    assert "took more than 1 s" in await refusal(shop, "SELECT pg_sleep(60)")
    assert "took more than 1 s" in await refusal(
        shop, "SELECT set_config('statement_timeout', '0', false), pg_sleep(600)"
    )

    connection = await asyncpg.connect(postgres)
    try:
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'reader%' AND state = 'active'"
        while await connection.fetchval(sleeping):
            await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def test_long_answers_and_long_rows_are_cut(shop: str) -> None:
    """A row already in the database."""
    many = await rows(shop, "SELECT n FROM generate_series(1, 1000000) AS n")
    long = await rows(shop, "SELECT repeat('x', 1000000) AS x")

    assert many.endswith('{"n":60}\n[cut after 60 rows: aggregate, or add LIMIT and OFFSET]')
    assert long == '{"x":"' + "x" * 94 + "… [1,000,008 characters]"


async def test_what_a_query_leaves_behind_is_gone(shop: str, postgres: str) -> None:
    """Each call has a connection of its own."""
    await rows(shop, "SELECT pg_advisory_lock(7), set_config('search_path', 'nowhere', false)")
    connection = await asyncpg.connect(postgres)
    try:
        while await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'reader%'"):
            await asyncio.sleep(0.02)
    finally:
        await connection.close()

    assert await rows(shop, "SELECT pg_try_advisory_lock(7) AS free FROM orders LIMIT 1") == '{"free":true}'


async def test_a_role_that_may_do_everything_is_refused(postgres: str) -> None:
    """A superuser can read the files of the server."""
    assert "may do everything" in await refusal(postgres, "SELECT 1")


async def test_databases_have_names(shop: str) -> None:
    """Which are told where another one was meant."""
    assert "expected a database among shop, got `other`" in await refusal(shop, "SELECT 1", "other")
    outcome = await query(shop, "SELECT 1 AS a", "shop")
    assert outcome == ToolReturn(content='{"a":1}', attempts=1)


async def test_a_database_that_is_away_is_said_without_its_address(shop: str) -> None:
    """Nor does the cause, which is logged, have the password."""
    for url in (shop.rsplit(":", 1)[0] + ":1/gone", shop.replace(PASSWORD, "wrong"), f"postgresql://x:{PASSWORD}@[/x"):
        assert "database `shop` cannot be reached" in await refusal(url, "SELECT 1")


class Notes:
    """The two tools, called for somebody."""

    def __init__(self, url: str) -> None:
        self.toolbox = Toolbox(note_tools(PostgresNotes(Secret(url))))
        self._calls = 0

    async def say(self, name: str, user_id: str | None, tenant: str | None = None, **input: object) -> str:
        self._calls += 1
        call_id = str(input.pop("call_id", f"s/{self._calls}"))
        context = ToolContext(call_id=call_id, session_id="s", agent="a", user_id=user_id, tenant=tenant)
        outcome = await self.toolbox.run(name, input, context=context, timeout_s=30)
        return outcome.content if isinstance(outcome, ToolReturn) else outcome.failure.message


@pytest_asyncio.fixture(loop_scope="session")
async def notes(postgres: str) -> AsyncIterator[Notes]:
    await migrate(postgres)
    notes = Notes(postgres)
    yield notes
    await notes.toolbox.close()


async def test_notes_are_kept_found_and_corrected(notes: Notes) -> None:
    """By words and beginnings of words, in any case; without words the newest come first."""
    assert await notes.say("recall", "ann") == "There are no notes about this user."
    assert await notes.say("remember", "ann", note="Has two cats.") == "kept as note 1"
    assert await notes.say("remember", "ann", note="Lives in Zürich; vegetarian.") == "kept as note 2"

    assert "note 1 (" in await notes.say("recall", "ann", query="what about CAT?")
    assert "Zürich" in await notes.say("recall", "ann", query="zürich!")
    assert (await notes.say("recall", "ann")).splitlines()[0].startswith("note 2 (")
    assert "None of the 2 notes" in await notes.say("recall", "ann", query="dog")

    assert await notes.say("remember", "ann", note="Has three cats.", replaces=1) == "kept as note 1"
    assert "three" in await notes.say("recall", "ann", query="cats", limit=1)
    assert "there is no note 9" in await notes.say("remember", "ann", note="x", replaces=9)


async def test_nobody_sees_the_notes_of_another(notes: Notes) -> None:
    """Another user, another tenant, or none; however the names are put together."""
    await notes.say("remember", "ann", "acme", note="secret")

    others = [
        ("ann", None),
        ("ann", "acm"),
        ("Ann", "acme"),
        ("bob", "acme"),
        ("ann", ""),
        ('ann"', "acme"),
        ("eann", "acm"),
    ]
    for user_id, tenant in others:
        assert await notes.say("recall", user_id, tenant) == "There are no notes about this user.", (user_id, tenant)
        assert "there is no note 1" in await notes.say("remember", user_id, tenant, note="mine", replaces=1)
    assert "secret" in await notes.say("recall", "ann", "acme")


@pytest.mark.parametrize("user_id", [None, ""])
async def test_without_a_user_there_are_no_notes(notes: Notes, user_id: str | None) -> None:
    """The model is told why."""
    for said in (
        await notes.say("remember", user_id, "acme", note="x"),
        await notes.say("recall", user_id, "acme"),
    ):
        assert "no user_id" in said


async def test_a_call_that_is_made_again_keeps_one_note(notes: Notes) -> None:
    """After a crash, or both at once."""
    said = await asyncio.gather(*(notes.say("remember", "ann", note="x", call_id="s/1/2") for _ in range(5)))

    assert set(said) == {"kept as note 1"}
    assert len((await notes.say("recall", "ann")).splitlines()) == 1


async def test_there_are_so_many_notes_and_no_more(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of calls at the same time; one can still be replaced."""
    monkeypatch.setattr("agents.tools.postgres_notes.MAX_NOTES", 3)
    said = await asyncio.gather(*(notes.say("remember", "ann", note=f"n{n}") for n in range(6)))

    assert sorted(text for text in said if text.startswith("kept")) == [f"kept as note {n}" for n in (1, 2, 3)]
    assert sum("no more are kept" in text for text in said) == 3
    assert await notes.say("remember", "bob", note="x") == "kept as note 1"
    assert await notes.say("remember", "ann", note="new", replaces=2) == "kept as note 2"


async def test_names_and_texts_may_be_anything(notes: Notes) -> None:
    """NUL, quotes, and names that are longer than an index takes."""
    user_id, tenant = "ä" * 1_000, "'; DROP TABLE notes; --\0"

    assert await notes.say("remember", user_id, tenant, note="a\0b ' \" \\") == "kept as note 1"
    assert "ab ' \" \\" in await notes.say("recall", user_id, tenant, query="' | !x:* & (ab")
    assert "expected a note" in await notes.say("remember", user_id, tenant, note=" \0")


async def test_notes_that_cannot_be_reached_are_said(postgres_server: PostgresServer, postgres: str) -> None:
    """A database without the table, and one that is not there."""
    for url, says in ((postgres, "headrace migrate"), (postgres_server.of("no_such"), "cannot be reached now")):
        notes = Notes(url)
        try:
            assert says in await notes.say("recall", "ann")
        finally:
            await notes.toolbox.close()


async def test_notes_survive_a_restart_of_the_database(postgres_server: PostgresServer, notes: Notes) -> None:
    """The first call afterwards makes a new connection."""
    await notes.say("remember", "ann", note="kept")
    await postgres_server.kill()
    assert "cannot be reached now" in await notes.say("recall", "ann")
    await postgres_server.start()

    assert "kept" in await notes.say("recall", "ann")
