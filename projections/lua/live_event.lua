-- Adds an agent event to the session's feed, unless it was there, and wakes its readers. KEYS: the feed (a stream), its
-- state (a hash), its channel. ARGV: seq, time (ms), the turn's number, 1 where the event ends the turn, the event,
-- lifetime (ms), length of the feed.
--
-- An event's id in the stream is `seq-0`, and that of a delta `seq-n`: the seq of the event before it, and 1 + its
-- offset. With the end of a turn its deltas go: the text is in the end. So a feed at rest depends on nothing but its
-- events.
local seq, at, turn = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[2], 'seq', 'at', 'deltas_from', 'running', 'turn')
local last_seq, last_at = tonumber(state[1] or 0), tonumber(state[2] or 0)
local news = string.format('%d-0', seq)
if seq <= last_seq then
    if at <= last_at then
        return 0
    end
    -- A session that was forgotten begins anew. Readers are behind the end of the new feed: they begin anew as well.
    redis.call('DEL', KEYS[1], KEYS[2])
    state = {}
    last_at = 0
    news = 'anew'
end
local newest = math.max(at, last_at)
redis.call(
    'XADD', KEYS[1], 'MAXLEN', '=', ARGV[7], string.format('%d-0', seq),
    'event', ARGV[5], 'turn', ARGV[3], 'end', ARGV[4], 'at', ARGV[2]
)
redis.call('HSET', KEYS[2], 'seq', seq, 'at', string.format('%d', newest))
local running = tonumber(state[4] or 0)
-- A message that is turned away, or cancelled while it waits, has a turn of its own, which ends while another one runs.
local of_another = running ~= 0 and running ~= turn
if ARGV[4] == '1' and state[3] then
    local later = nil
    for _, entry in ipairs(redis.call('XRANGE', KEYS[1], state[3], '+')) do
        if entry[2][1] == 'delta' then
            local of = tonumber(entry[2][4])
            if of == turn or of < turn and not of_another then
                redis.call('XDEL', KEYS[1], entry[1])
            else
                later = later or entry[1]
            end
        end
    end
    -- Where Redis is filled again, deltas of several turns can be there before the events of the first.
    if later then
        redis.call('HSET', KEYS[2], 'deltas_from', later)
    else
        redis.call('HDEL', KEYS[2], 'deltas_from', 'offset')
    end
end
if ARGV[4] ~= '1' then
    redis.call('HSET', KEYS[2], 'running', turn, 'turn', turn)
elseif not of_another then
    redis.call('HSET', KEYS[2], 'running', 0, 'turn', math.max(turn, tonumber(state[5] or 0)))
end
local expires = string.format('%d', newest + tonumber(ARGV[6]))
redis.call('PEXPIREAT', KEYS[1], expires)
redis.call('PEXPIREAT', KEYS[2], expires)
redis.call('PUBLISH', KEYS[3], news)
return 1
