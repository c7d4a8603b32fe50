"""Who is too slow to follow a session: not who had no time to take what came at once."""

import pytest

from gateway.feeds.follower import MAX_WAITING, MAX_WAITING_BYTES, Follower, TooSlow
from gateway.feeds.items import Item
from gateway.feeds.position import BEGINNING


def events(first: int, count: int, body: bytes = b"{}") -> list[Item]:
    return [Item(seq, 0, seq, True, 1_000 * seq, body) for seq in range(first, first + count)]


@pytest.mark.parametrize(
    ("count", "body"), [(MAX_WAITING + 1, b"{}"), (9, b'"%s"' % (b"x" * (MAX_WAITING_BYTES // 8)))]
)
async def test_much_at_once_is_no_slowness(count: int, body: bytes) -> None:
    """After an outage, all that was missed comes in one read: a reader who takes it stays, one who leaves it ends."""
    follower = Follower("s1", BEGINNING, None)
    follower.begin([])
    follower.offer(events(1, count, body))
    assert [entry.item.seq for entry in await follower.take()] == list(range(1, count + 1))
    follower.offer(events(count + 1, count, body))
    assert follower.why is None
    follower.offer(events(2 * count + 1, 1))
    with pytest.raises(TooSlow):
        await follower.take()
