-- Reserves a call in all its accounts, or in none where one has not enough left. KEYS: for each account what was spent
-- (a hash), what is reserved and what has ended that is not counted yet (a hash), and that of the day before. ARGV: the
-- call, agent and model, then for each account: the limits in micro-dollars, tokens and calls (-1: none), the least
-- reserve in micro-dollars, what at least was spent as the caller knows (three numbers), and when the account is
-- forgotten (ms).
--
-- A call that is reserved already stays so, and is let through: it is made again by a worker that came after a crash.
--
-- Gives the number of the account that refuses (0: none), the number of the unit, what was spent there and what would
-- be reserved; then for each account what was spent and what is reserved (without this call), and this call's reserve,
-- in micro-dollars, tokens and calls.
local UNITS, PER_ACCOUNT = {'micros', 'tokens', 'calls'}, 8
local call, dearest = ARGV[1], 'dearest ' .. ARGV[2]
local answer = {0, 0, 0, 0}
local reserves = {}

local function numbers(key, prefix)
    local found = redis.call('HMGET', key, prefix .. 'micros', prefix .. 'tokens', prefix .. 'calls')
    return {tonumber(found[1] or 0), tonumber(found[2] or 0), tonumber(found[3] or 0)}
end

local function dearest_call(key)
    local found = redis.call('HGET', key, dearest)
    if not found then
        return nil
    end
    local micros, tokens = string.match(found, '^(%d+) (%d+)$')
    return {tonumber(micros), tonumber(tokens), 1}
end

for account = 1, #KEYS / 3 do
    local spent_key, open_key, before_key = KEYS[3 * account - 2], KEYS[3 * account - 1], KEYS[3 * account]
    local first = 2 + (account - 1) * PER_ACCOUNT
    local spent, ended, open = numbers(spent_key, ''), numbers(open_key, 'ended '), numbers(open_key, '')
    local reserve = dearest_call(open_key) or dearest_call(before_key) or {0, 0, 1}
    reserve[1] = math.max(reserve[1], tonumber(ARGV[first + 4]))
    local known = redis.call('HGET', open_key, call)
    if known then
        local micros, tokens, has_ended = string.match(known, '^(%d+) (%d+)(.*)$')
        local sums = has_ended == '' and open or ended
        for unit, amount in ipairs({tonumber(micros), tonumber(tokens), 1}) do
            sums[unit] = sums[unit] - amount
        end
        reserve = {tonumber(micros), tonumber(tokens), 1}
    else
        reserves[account] = reserve
    end
    for unit = 1, 3 do
        spent[unit] = math.max(spent[unit] + ended[unit], tonumber(ARGV[first + 4 + unit]))
        local limit = tonumber(ARGV[first + unit])
        local wanted = open[unit] + reserve[unit]
        if answer[1] == 0 and not known and limit >= 0 and (spent[unit] >= limit or spent[unit] + wanted > limit) then
            answer[1], answer[2], answer[3], answer[4] = account, unit, spent[unit], wanted
        end
    end
    for _, amounts in ipairs({spent, open, reserve}) do
        for unit = 1, 3 do
            answer[#answer + 1] = amounts[unit]
        end
    end
end

if answer[1] == 0 then
    for account, reserve in pairs(reserves) do
        local open_key = KEYS[3 * account - 1]
        redis.call('HSET', open_key, call, string.format('%d %d', reserve[1], reserve[2]))
        for unit = 1, 3 do
            redis.call('HINCRBY', open_key, UNITS[unit], string.format('%d', reserve[unit]))
        end
        redis.call('PEXPIREAT', open_key, ARGV[2 + account * PER_ACCOUNT])
    end
end
return answer
