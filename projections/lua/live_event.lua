-- Adds an agent event to the session's feed, unless it was there. KEYS: the feed (a stream), its state (a hash).
-- ARGV: seq, time (ms), the turn's number, 1 where the event ends the turn, the event, lifetime (ms), length of the feed.
--
-- An event's id in the stream is `seq-0`, and that of a delta `seq-n` with the seq of the event before it. With the end
-- of a turn its deltas go: the text is in the end. So a feed at rest depends on nothing but its events.
local seq, at, turn = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[2], 'seq', 'at', 'deltas_from')
local last_seq, last_at = tonumber(state[1] or 0), tonumber(state[2] or 0)
if seq <= last_seq then
    if at <= last_at then
        return 0
    end
    -- A session that was forgotten begins anew.
    redis.call('DEL', KEYS[1], KEYS[2])
    state[3] = false
    last_at = 0
end
local newest = math.max(at, last_at)
redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[7], string.format('%d-0', seq), 'event', ARGV[5])
redis.call('HSET', KEYS[2], 'seq', seq, 'at', string.format('%d', newest), 'deltas', 0)
if ARGV[4] == '1' then
    if state[3] then
        for _, entry in ipairs(redis.call('XRANGE', KEYS[1], state[3], '+')) do
            if entry[2][1] == 'delta' and tonumber(entry[2][4]) <= turn then
                redis.call('XDEL', KEYS[1], entry[1])
            end
        end
        redis.call('HDEL', KEYS[2], 'deltas_from')
    end
    redis.call('HSET', KEYS[2], 'ended', turn)
end
local expires = string.format('%d', newest + tonumber(ARGV[6]))
redis.call('PEXPIREAT', KEYS[1], expires)
redis.call('PEXPIREAT', KEYS[2], expires)
return 1
