-- Is no longer at work. KEYS: who is at work. ARGV: who asks.
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
