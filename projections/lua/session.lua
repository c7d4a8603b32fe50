-- Keeps what a session does now. KEYS: the session (a hash), then sorted sets of sessions by their last activity: all, and
-- its tenant's, where it has one. ARGV: the session's id, seq, time (ms), lifetime (ms), the turn's id, 1 where the event ends the turn, then names and
-- values of the hash.
--
-- An event that is not newer than the last one was applied before. Seq counts from 1 again in a session that was
-- forgotten, and then the time is later.
local session, seq, at = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[1], 'seq', 'at', 'turn_id', 'status')
local last_at = tonumber(state[2] or 0)
if seq <= tonumber(state[1] or 0) and at <= last_at then
    return 0
end
local newest = string.format('%d', math.max(at, last_at))
local another_runs = state[3] and state[3] ~= ARGV[5] and (state[4] == 'running' or state[4] == 'waiting_for_approval')
if not (ARGV[6] == '1' and another_runs) then
    -- Otherwise a message was turned away, or cancelled in the queue, while another one is answered.
    for index = 7, #ARGV, 2 do
        redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
    end
    redis.call('HSET', KEYS[1], 'turn_id', ARGV[5])
end
redis.call('HSET', KEYS[1], 'session_id', session, 'seq', seq, 'at', newest)
redis.call('PEXPIREAT', KEYS[1], string.format('%d', tonumber(newest) + tonumber(ARGV[4])))
for index = 2, #KEYS do
    local sessions = KEYS[index]
    redis.call('ZADD', sessions, newest, session)
    -- Those whose hash has expired go. Measured by the newest one, so that the order of two partitions does not matter.
    local last = tonumber(redis.call('ZRANGE', sessions, -1, -1, 'WITHSCORES')[2])
    redis.call('ZREMRANGEBYSCORE', sessions, '-inf', string.format('%d', last - tonumber(ARGV[4])))
    redis.call('PEXPIREAT', sessions, string.format('%d', last + tonumber(ARGV[4])))
end
return 1
