-- Adds a piece of an answer to the session's feed, unless it was there or its turn has ended, and wakes its readers.
-- KEYS: the feed, its state, its channel. ARGV: offset, time (ms), the turn's number, the delta, lifetime (ms), length of
-- the feed.
--
-- A call that is made again repeats the numbers of its deltas with another text, so they are told apart by their offset.
local offset, turn = tonumber(ARGV[1]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[2], 'offset', 'turn', 'seq', 'deltas_from', 'at', 'running')
if state[1] and offset <= tonumber(state[1]) then
    return 0
end
if turn <= tonumber(state[2] or 0) and turn ~= tonumber(state[6] or 0) then
    return 0
end
local id = string.format('%d-%d', tonumber(state[3] or 0), offset + 1)
redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[6], id, 'delta', ARGV[4], 'turn', ARGV[3])
redis.call('HSET', KEYS[2], 'offset', ARGV[1])
if not state[4] then
    redis.call('HSET', KEYS[2], 'deltas_from', id)
end
local expires = string.format('%d', math.max(tonumber(ARGV[2]), tonumber(state[5] or 0)) + tonumber(ARGV[5]))
redis.call('PEXPIREAT', KEYS[1], expires)
redis.call('PEXPIREAT', KEYS[2], expires)
redis.call('PUBLISH', KEYS[3], id)
return 1
