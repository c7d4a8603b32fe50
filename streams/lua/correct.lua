-- Says what a call took, as soon as it has ended: it is reserved no longer, and is as good as spent until the projection
-- has counted it. KEYS: what is reserved in each of its accounts (hashes). ARGV: the call, agent and model, what it took
-- in micro-dollars and in tokens, then when each account is forgotten (ms).
--
-- Of a call that was given up nobody knows what it took (-1): it counts as what was reserved for it. Where the call is
-- counted already, or was reserved elsewhere, only the dearest call is remembered.
local call, dearest = ARGV[1], 'dearest ' .. ARGV[2]
local micros, tokens = tonumber(ARGV[3]), tonumber(ARGV[4])
for account, key in ipairs(KEYS) do
    local reserved_micros, reserved_tokens = string.match(redis.call('HGET', key, call) or '', '^(%d+) (%d+)$')
    if reserved_micros then
        local took_micros = micros < 0 and tonumber(reserved_micros) or micros
        local took_tokens = micros < 0 and tonumber(reserved_tokens) or tokens
        redis.call('HSET', key, call, string.format('%d %d ended', took_micros, took_tokens))
        redis.call('HINCRBY', key, 'micros', string.format('%d', -tonumber(reserved_micros)))
        redis.call('HINCRBY', key, 'tokens', string.format('%d', -tonumber(reserved_tokens)))
        redis.call('HINCRBY', key, 'calls', -1)
        redis.call('HINCRBY', key, 'ended micros', string.format('%d', took_micros))
        redis.call('HINCRBY', key, 'ended tokens', string.format('%d', took_tokens))
        redis.call('HINCRBY', key, 'ended calls', 1)
    end
    if micros >= 0 then
        local most_micros, most_tokens = string.match(redis.call('HGET', key, dearest) or '0 0', '^(%d+) (%d+)$')
        most_micros, most_tokens = math.max(micros, tonumber(most_micros)), math.max(tokens, tonumber(most_tokens))
        redis.call('HSET', key, dearest, string.format('%d %d', most_micros, most_tokens))
    end
    redis.call('PEXPIREAT', key, ARGV[4 + account])
end
