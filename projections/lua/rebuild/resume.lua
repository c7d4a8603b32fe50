-- Ends the pause, if it is this rebuild's. KEYS: the pause, how far the live projection is (a hash). ARGV: who paused it,
-- then places and offsets that the live keys are at now.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
for index = 2, #ARGV, 2 do
    redis.call('HSET', KEYS[2], ARGV[index], ARGV[index + 1])
end
redis.call('DEL', KEYS[1])
return 1
