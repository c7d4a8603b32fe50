-- Goes before a script of a projection, whose keys are then those of a shadow: time is the record's, not the clock's. The
-- last argument is the record's time (ms), and the one before it SHIFT (ms).
--
-- By the clock, keys made of old records would go at once, before the session's next record, which came in time. So what
-- expires does so SHIFT later, but is forgotten when a record comes after its time. Nobody is told what was added.
local server, now, shift = redis, tonumber(table.remove(ARGV)), tonumber(table.remove(ARGV))
for _, key in ipairs(KEYS) do
    local expires = server.call('PEXPIRETIME', key)
    if expires >= 0 and expires - shift <= now then
        server.call('DEL', key)
    end
end
local redis = {}
function redis.call(command, ...)
    if command == 'PUBLISH' then
        return 0
    end
    if command == 'PEXPIREAT' then
        local key, expires = ...
        return server.call(command, key, string.format('%d', tonumber(expires) + shift))
    end
    return server.call(command, ...)
end
