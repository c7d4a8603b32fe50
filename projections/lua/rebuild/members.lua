-- Brings members of a sorted set by time to what its shadow says, and counts them: same, new, changed, gone, kept. KEYS:
-- the pause of the live projection, the live set, its shadow. ARGV: who paused it, how long the pause lasts from now (ms),
-- `gone` or `put`, the time up to which topics lost records (ms; 0: they have all), then members of the live set (`gone`)
-- or of the shadow (`put`).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return redis.error_reply('NOTPAUSED expected the projection to be paused by this rebuild')
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local OLDEST = tonumber(ARGV[4])
local counts = {0, 0, 0, 0, 0}
for index = 5, #ARGV do
    local member = ARGV[index]
    local live, shadow = redis.call('ZSCORE', KEYS[2], member), redis.call('ZSCORE', KEYS[3], member)
    local outcome
    if ARGV[3] == 'gone' and live and not shadow then
        outcome = OLDEST > 0 and tonumber(live) <= OLDEST and 5 or 4
        if outcome == 4 then
            redis.call('ZREM', KEYS[2], member)
        end
    elseif ARGV[3] == 'put' and shadow then
        outcome = not live and 2 or live ~= shadow and 3 or 1
        redis.call('ZADD', KEYS[2], shadow, member)
    end
    if outcome then
        counts[outcome] = counts[outcome] + 1
    end
end
return counts
