-- Counts a call as spent in one of its accounts, and ends its reservation. KEYS: what was spent (a hash), what is
-- reserved or has ended (a hash). ARGV: partition, offset, the call, what it took in micro-dollars and in tokens, when
-- the account is forgotten (ms).
--
-- A record that comes again is known by its offset. A call that the log has twice was paid for twice.
local at = 'at ' .. ARGV[1]
local done = redis.call('HGET', KEYS[1], at)
if done and tonumber(ARGV[2]) <= tonumber(done) then
    return 0
end
redis.call('HSET', KEYS[1], at, ARGV[2])
redis.call('HINCRBY', KEYS[1], 'micros', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'tokens', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'calls', 1)
redis.call('PEXPIREAT', KEYS[1], ARGV[6])
local micros, tokens, has_ended = string.match(redis.call('HGET', KEYS[2], ARGV[3]) or '', '^(%d+) (%d+)(.*)$')
if micros then
    local prefix = has_ended == '' and '' or 'ended '
    redis.call('HDEL', KEYS[2], ARGV[3])
    redis.call('HINCRBY', KEYS[2], prefix .. 'micros', string.format('%d', -tonumber(micros)))
    redis.call('HINCRBY', KEYS[2], prefix .. 'tokens', string.format('%d', -tonumber(tokens)))
    redis.call('HINCRBY', KEYS[2], prefix .. 'calls', -1)
end
return 1
