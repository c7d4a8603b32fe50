-- Removes keys of a shadow whose time is over. KEYS: some of them. ARGV: SHIFT (ms).
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local removed = 0
for _, key in ipairs(KEYS) do
    local expires = redis.call('PEXPIRETIME', key)
    if expires >= 0 and expires - tonumber(ARGV[1]) <= now then
        removed = removed + redis.call('UNLINK', key)
    end
end
return removed
