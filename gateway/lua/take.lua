-- Takes one from the token bucket KEYS[1], which holds at most ARGV[2] and gets ARGV[1] a second.
-- Gives what is left as text; below 0, nothing was taken, and so much is missing.
local rate, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'held', 'at')
local held = tonumber(bucket[1] or size)
local at = tonumber(bucket[2] or now)
held = math.min(size, held + math.max(0, now - at) * rate)
local left = held - 1
if left >= 0 then held = left end
redis.call('HSET', KEYS[1], 'held', string.format('%.6f', held), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(size / rate * 1000) + 1000)
return string.format('%.6f', left)
