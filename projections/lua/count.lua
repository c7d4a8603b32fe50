-- Adds to counters, unless the event was counted. KEYS: progress in the topic (a hash by partition), the session's last
-- event (a hash), then hashes of counters. ARGV: partition, offset, seq, time (ms), lifetime of the session's last event
-- (ms), the number of the hashes of counters, when each of them expires (ms; 0: never), then names and increments.
--
-- A record that comes again is known by its offset, and an event that was published again by its seq and time.
local offset, seq, at = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local done = redis.call('HGET', KEYS[1], ARGV[1])
if done and offset <= tonumber(done) then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local last = redis.call('HMGET', KEYS[2], 'seq', 'at')
local last_at = tonumber(last[2] or 0)
if seq <= tonumber(last[1] or 0) and at <= last_at then
    return 0
end
local newest = math.max(at, last_at)
redis.call('HSET', KEYS[2], 'seq', seq, 'at', string.format('%d', newest))
redis.call('PEXPIREAT', KEYS[2], string.format('%d', newest + tonumber(ARGV[5])))
local hashes = tonumber(ARGV[6])
for number = 1, hashes do
    local key, expires = KEYS[2 + number], ARGV[6 + number]
    for index = 7 + hashes, #ARGV, 2 do
        redis.call('HINCRBY', key, ARGV[index], ARGV[index + 1])
    end
    if expires ~= '0' then
        redis.call('PEXPIREAT', key, expires)
    end
end
return 1
