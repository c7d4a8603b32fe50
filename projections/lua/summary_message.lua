-- Notes a user's message in the summary of its conversation. KEYS: the summary (a hash), the ids of its messages (a set),
-- the user's conversations by their last message (a sorted set). ARGV: session, offset, time (ms), lifetime (ms), message
-- id, text, user, tenant.
--
-- The first message is the title, and the last one is shown. Whatever comes again changes nothing.
local offset, at = tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[1], 'first_offset', 'last_offset', 'at')
if not state[1] or offset < tonumber(state[1]) then
    redis.call('HSET', KEYS[1], 'first_offset', ARGV[2], 'title', ARGV[6])
end
if not state[2] or offset > tonumber(state[2]) then
    redis.call('HSET', KEYS[1], 'last_offset', ARGV[2], 'last_message', ARGV[6])
end
local newest = string.format('%d', math.max(at, tonumber(state[3] or 0)))
redis.call('SADD', KEYS[2], ARGV[5])
redis.call('HSET', KEYS[1], 'session_id', ARGV[1], 'user_id', ARGV[7], 'tenant', ARGV[8], 'at', newest,
    'messages', redis.call('SCARD', KEYS[2]))
local expires = string.format('%d', tonumber(newest) + tonumber(ARGV[4]))
redis.call('ZADD', KEYS[3], newest, ARGV[1])
redis.call('PEXPIREAT', KEYS[1], expires)
redis.call('PEXPIREAT', KEYS[2], expires)
-- Another conversation of the user can be newer than this one: messages of two partitions come in any order.
local last = redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')[2]
redis.call('PEXPIREAT', KEYS[3], string.format('%d', tonumber(last) + tonumber(ARGV[4])))
return 1
