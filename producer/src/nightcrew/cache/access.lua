-- Append one entry of a process to the access log: once, or not at all; and tell it the salt and the hot keys.
--
-- KEYS  1 meta, 2 totals, 3 log, 4 the producer's last sequence number, then for each family its ranking
-- ARGV  1 sequence number (0: only ask), 2 lifetime of the producer's key (s), 3 a fresh epoch, 4 the salt in use,
--       5 producer id, 6 body, 7 signature (empty: none), 8 how long entries are kept (ms), 9 how many bytes of them;
--       both hold until the crew has set others, 10 how many hot keys of each family are wanted,
--       then for each family: its name, operations told of, number of hot keys, and for each of these: count, hash
-- Gives {"salt", salt}: the hashes of this log are made with another salt; nothing was written.
--       {"duplicate", salt, hot keys…} or {"ok", salt, hot keys…}: for each family a list of hashes, hottest first.
--
-- What is trimmed here cannot be read any more by anyone, but it stays in `logged:<family>`: the crew sees what is
-- missing by the difference to what it has taken in.

local meta, totals, log, producer = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local seq, wanted = tonumber(ARGV[1]), tonumber(ARGV[10])
local MINUTE_MS, OVERHEAD_BYTES, RANKED, HALF_LIFE_MINUTES = 60000, 256, 1024, 30

redis.call('HSETNX', meta, 'epoch', ARGV[3])
redis.call('HSETNX', meta, 'salt', ARGV[4])
local salt = redis.call('HGET', meta, 'salt')
if seq > 0 and salt ~= ARGV[4] then
    return {'salt', salt}
end

-- Of the set of a family: the hashes in it that all processes ask for most.
local function hottest(reply)
    if wanted > 0 then
        for key = 5, #KEYS do
            reply[#reply + 1] = redis.call('ZRANGE', KEYS[key], '0', tostring(wanted - 1), 'REV')
        end
    end
    return reply
end

if seq == 0 then
    return hottest({'ok', salt})
end
if tonumber(redis.call('GET', producer) or '0') >= seq then
    return hottest({'duplicate', salt})
end

-- A script is not rolled back, so what could fail in the middle is looked at before the first write.
local kind = redis.call('TYPE', log).ok
if kind ~= 'none' and kind ~= 'stream' then
    return redis.error_reply('WRONGTYPE ' .. log .. ' holds a ' .. kind .. ' instead of the access log')
end

local id
if ARGV[7] == '' then
    id = redis.call('XADD', log, '*', 'v', '1', 'p', ARGV[5], 's', ARGV[1], 'd', ARGV[6])
else
    id = redis.call('XADD', log, '*', 'v', '1', 'p', ARGV[5], 's', ARGV[1], 'd', ARGV[6], 'sig', ARGV[7])
end
redis.call('SET', producer, ARGV[1], 'EX', ARGV[2])
local minute = math.floor(tonumber(string.match(id, '^%d+')) / MINUTE_MS)

-- Rankings fade by half every half hour, so that they follow what is asked for now.
local at = 11
for key = 5, #KEYS do
    local ranking, family, operations, pairs_told = KEYS[key], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
    redis.call('HINCRBY', totals, 'logged:' .. family, operations)
    at = at + 3
    if pairs_told > 0 then
        local faded = tonumber(redis.call('HGET', totals, 'faded:' .. family) or '0')
        if minute - faded >= HALF_LIFE_MINUTES then
            if faded > 0 then
                local weight = string.format('%.6f', 0.5 ^ math.min((minute - faded) / HALF_LIFE_MINUTES, 16))
                redis.call('ZUNIONSTORE', ranking, '1', ranking, 'WEIGHTS', weight)
            end
            redis.call('HSET', totals, 'faded:' .. family, tostring(minute))
        end
        for _ = 1, pairs_told do
            redis.call('ZINCRBY', ranking, ARGV[at], ARGV[at + 1])
            at = at + 2
        end
        redis.call('ZREMRANGEBYRANK', ranking, '0', tostring(-RANKED - 1))
    end
end

-- Whole minutes go, oldest first, once they are too old or the log is too large; then all but this entry.
local keep_ms = tonumber(redis.call('HGET', meta, 'keep_ms') or ARGV[8])
local cap_bytes = tonumber(redis.call('HGET', meta, 'cap_bytes') or ARGV[9])
local own_bytes = #ARGV[6] + OVERHEAD_BYTES
local in_minute = redis.call('HINCRBY', totals, tostring(minute), tostring(own_bytes))
local total = redis.call('HINCRBY', totals, 'bytes', tostring(own_bytes))
if total > cap_bytes or in_minute == own_bytes then
    local told, minutes = redis.call('HGETALL', totals), {}
    total = 0
    for place = 1, #told, 2 do
        local number = tonumber(told[place])
        if number then
            minutes[#minutes + 1] = {number, tonumber(told[place + 1])}
            total = total + tonumber(told[place + 1])
        end
    end
    table.sort(minutes, function(one, other) return one[1] < other[1] end)
    local oldest = minute - math.floor(keep_ms / MINUTE_MS)
    local upto
    for _, one in ipairs(minutes) do
        if one[1] >= minute or (one[1] >= oldest and total <= cap_bytes) then
            break
        end
        redis.call('HDEL', totals, tostring(one[1]))
        total, upto = total - one[2], string.format('%.0f-0', (one[1] + 1) * MINUTE_MS)
    end
    if total > cap_bytes then
        redis.call('HSET', totals, tostring(minute), tostring(own_bytes))
        total, upto = own_bytes, id
    end
    if upto then
        redis.call('HSET', totals, 'bytes', tostring(total))
        redis.call('XTRIM', log, 'MINID', '=', upto)
    end
end
return hottest({'ok', salt})
