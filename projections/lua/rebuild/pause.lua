-- Pauses the live projection, where the rebuild that asks is the one at work. KEYS: who is at work, the pause. ARGV: who
-- asks, how long the pause lasts (ms).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
