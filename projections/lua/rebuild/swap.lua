-- Puts keys of a shadow in the place of live ones, all at once, and says how each was: same, new, changed, gone, kept, or
-- nothing where there is none. KEYS: the pause of the live projection, then pairs of a live key and its shadow. ARGV: who
-- paused it, how long the pause lasts from now (ms), SHIFT (ms), `gone` or `put`, the time up to which topics lost records
-- (ms; 0: they have all), the first offset that all partitions have, the length of a full feed; then for each pair how long
-- its live key is kept after its last change (ms), and a rule.
--
-- `gone` looks only at live keys that have no shadow, and `put` only at shadows: so a pair may come twice. The rule says
-- when a live key has more than the topics can give back; it is kept then, and the pairs `with` it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return redis.error_reply('NOTPAUSED expected the projection to be paused by this rebuild')
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local SHIFT, GONE, OLDEST = tonumber(ARGV[3]), ARGV[4] == 'gone', tonumber(ARGV[5])
local FIRST_OFFSET, FULL_FEED, PARAMETERS = tonumber(ARGV[6]), tonumber(ARGV[7]), 7
local time = redis.call('TIME')
local NOW = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Everything that a key holds, the same string for the same content.
local function content(key)
    local kind = redis.call('TYPE', key).ok
    local found = {}
    if kind == 'hash' then
        local all = redis.call('HGETALL', key)
        for index = 1, #all, 2 do
            found[#found + 1] = cmsgpack.pack({all[index], all[index + 1]})
        end
        table.sort(found)
    elseif kind == 'set' then
        found = redis.call('SMEMBERS', key)
        table.sort(found)
    elseif kind == 'zset' then
        found = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    elseif kind == 'stream' then
        found = redis.call('XRANGE', key, '-', '+')
    else
        found = {redis.call('DUMP', key)}
    end
    return kind .. cmsgpack.pack(found)
end

local function first_seq(key)
    local entry = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
    return entry and tonumber(string.match(entry[1], '^%d+')) or math.huge
end

local RULES = {
    rebuilt = function()
        return false
    end,
    total = function()
        return true
    end,
    minute = function(_, _, changed)
        return changed <= OLDEST
    end,
    feed = function(live, shadow)
        return redis.call('XLEN', shadow) < FULL_FEED and first_seq(live) < first_seq(shadow)
    end,
    session = function(live, shadow)
        return redis.call('HEXISTS', live, 'user_id') == 1 and redis.call('HEXISTS', shadow, 'user_id') == 0
    end,
    summary = function(live)
        return tonumber(redis.call('HGET', live, 'first_offset') or 0) < FIRST_OFFSET
    end,
    members = function(live, shadow)
        for _, member in ipairs(redis.call('ZRANGE', live, '-inf', OLDEST, 'BYSCORE')) do
            redis.call('ZADD', shadow, 'NX', redis.call('ZSCORE', live, member), member)
        end
        return false
    end,
}

local function same_kind(live, shadow)
    return redis.call('TYPE', live).ok == redis.call('TYPE', shadow).ok
end

local function put(live, shadow, expires)
    local before = redis.call('EXISTS', live) == 1
    if before and redis.call('PEXPIRETIME', live) == expires and content(live) == content(shadow) then
        redis.call('UNLINK', shadow)
        return 'same'
    end
    redis.call('UNLINK', live)
    redis.call('RENAME', shadow, live)
    if expires >= 0 then
        redis.call('PEXPIREAT', live, string.format('%d', expires))
    end
    return before and 'changed' or 'new'
end

local function swapped(live, shadow, lifetime, rule, with)
    local expires = redis.call('PEXPIRETIME', shadow)
    if expires >= 0 then
        expires = expires - SHIFT
        if expires <= NOW then
            redis.call('UNLINK', shadow)
            expires = -2
        end
    end
    local there, changed = redis.call('EXISTS', live) == 1, redis.call('PEXPIRETIME', live) - lifetime
    if expires == -2 then
        if not (GONE and there) then
            return ''
        end
        if OLDEST > 0 and changed <= OLDEST then
            return 'kept'
        end
        redis.call('UNLINK', live)
        return 'gone'
    end
    if GONE then
        return ''
    end
    local kept = rule == 'with' and with == 'kept'
    if not kept and OLDEST > 0 and rule ~= 'with' and there and same_kind(live, shadow) then
        kept = RULES[rule](live, shadow, changed)
    end
    if kept then
        redis.call('UNLINK', shadow)
        return 'kept'
    end
    return put(live, shadow, expires)
end

local outcomes = {}
for pair = 1, (#KEYS - 1) / 2 do
    local lifetime, rule = tonumber(ARGV[PARAMETERS + 2 * pair - 1]), ARGV[PARAMETERS + 2 * pair]
    outcomes[pair] = swapped(KEYS[2 * pair], KEYS[2 * pair + 1], lifetime, rule, outcomes[pair - 1])
end
return outcomes
