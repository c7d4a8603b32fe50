"""The gateway's audit log goes on, whatever a request says."""

import asyncio

import pytest
from gateway_fixture import Door
from yarl import URL

from headrace.records import read_topic
from schemas.codec import decode_audit_event
from schemas.topics import AUDIT_EVENTS

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_header_that_is_no_text(gateway: Door) -> None:
    """Whoever sends one is audited like everybody else, and so is who comes next."""
    url = URL(gateway.url)
    assert url.host is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(
        b"GET /v1/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Authorization: Bearer wrong\r\nUser-Agent: a\xffb\r\n\r\n"
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 401")
    writer.close()
    assert (await gateway.ask("GET", "/v1/me", "wrong")).status == 401
    async with asyncio.timeout(20):
        while True:
            records = [record.value or b"" async for record in read_topic(gateway.settings, AUDIT_EVENTS)]
            if len(records) >= 2:
                break
            await asyncio.sleep(0.05)
    agents = {decode_audit_event(value).details["user_agent"] for value in records}
    assert "a\\udcffb" in agents
    assert len(agents) == 2
