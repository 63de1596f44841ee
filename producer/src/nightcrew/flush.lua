-- Append one flush of a producer to the usage log: all of it, once, or nothing.
--
-- KEYS  1 meta, 2 the producer's last sequence number, then for each entry: stream, bell
-- ARGV  1 sequence number, 2 partitions the producer believes in, 3 lifetime of the producer's key (s),
--       4 lifetime of a bell (s), 5 a fresh epoch, then for each entry: producer id, op, JSON,
--       signature (empty: none)
-- Gives {"repartition", n}: the log has n partitions; nothing was written.
--       {"duplicate", p, ...}: this flush was written before; nothing was written now. Whoever sends it again
--       has not heard the answer, so nobody has rung: its bells ring now.
--       {"ok", p, ...}: written; the bells of these partitions were silent and ring now.

local meta, producer = KEYS[1], KEYS[2]
local seq, believed = tonumber(ARGV[1]), tonumber(ARGV[2])

redis.call('HSETNX', meta, 'epoch', ARGV[5])
redis.call('HSETNX', meta, 'partitions', '1')
local partitions = tonumber(redis.call('HGET', meta, 'partitions'))
if partitions ~= believed then
    return {'repartition', partitions}
end
if tonumber(redis.call('GET', producer) or '0') >= seq then
    local again = {'duplicate'}
    for key = 3, #KEYS, 2 do
        redis.call('SET', KEYS[key + 1], '1', 'EX', ARGV[4])
        again[#again + 1] = tonumber(string.match(KEYS[key], '(%d+)$'))
    end
    return again
end

-- A script is not rolled back, so what could fail in the middle is looked at before the first write.
for key = 3, #KEYS, 2 do
    local kind = redis.call('TYPE', KEYS[key]).ok
    if kind ~= 'none' and kind ~= 'stream' then
        return redis.error_reply('WRONGTYPE ' .. KEYS[key] .. ' holds a ' .. kind .. ' instead of the usage log')
    end
end

local reply = {'ok'}
for entry = 0, (#KEYS - 2) / 2 - 1 do
    local stream, bell = KEYS[3 + 2 * entry], KEYS[4 + 2 * entry]
    local id, op, json, sig = unpack(ARGV, 6 + 4 * entry, 9 + 4 * entry)
    if sig == '' then
        redis.call('XADD', stream, '*', 'v', '1', 'op', op, 'p', id, 's', ARGV[1], 'd', json)
    else
        redis.call('XADD', stream, '*', 'v', '1', 'op', op, 'p', id, 's', ARGV[1], 'd', json, 'sig', sig)
    end
    if redis.call('SET', bell, '1', 'NX', 'EX', ARGV[4]) then
        reply[#reply + 1] = tonumber(string.match(stream, '(%d+)$'))
    end
end
redis.call('SET', producer, ARGV[1], 'EX', ARGV[3])
return reply
