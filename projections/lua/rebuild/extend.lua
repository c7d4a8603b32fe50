-- Stays at work. KEYS: who is at work. ARGV: who asks, for how long (ms).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
