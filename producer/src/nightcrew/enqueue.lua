-- Hand jobs over: all of them, or none.
--
-- KEYS  1 stream of the intents, 2 caps, then for each kind the sorted set of its jobs that wait
-- ARGV  1 "1" if caps are heeded, then the kinds in the order of their keys, then for each job:
--       number of its kind (from 1), its id, number of the texts that follow, and these: field, value, …
-- Gives {"full", kind, waiting, cap}: that many wait already, and with the new ones they would be more than the cap.
--       {"ok"}: written.
--
-- A kind without a cap is not counted: the crew that would take its jobs out again has not been there yet.
-- Neither is a job that waits already: whoever sends it again has not heard the answer.

local intents, caps = KEYS[1], KEYS[2]
local kinds, texts = #KEYS - 2, #ARGV
local first_job = 2 + kinds

local default = redis.call('HGET', caps, '*')
local cap, new, counted = {}, {}, {}
for kind = 1, kinds do
    cap[kind] = tonumber(redis.call('HGET', caps, ARGV[1 + kind]) or default or '')
    new[kind] = 0
end

local job = first_job
while job <= texts do
    local kind, id = tonumber(ARGV[job]), ARGV[job + 1]
    if cap[kind] and not counted[id] and not redis.call('ZSCORE', KEYS[2 + kind], id) then
        counted[id] = true
        new[kind] = new[kind] + 1
    end
    job = job + 3 + tonumber(ARGV[job + 2])
end

if ARGV[1] == '1' then
    for kind = 1, kinds do
        if new[kind] > 0 then
            local waiting = redis.call('ZCARD', KEYS[2 + kind])
            if waiting + new[kind] > cap[kind] then
                return {'full', kind, waiting, cap[kind]}
            end
        end
    end
end

-- A script is not rolled back. What could fail has failed by now: the sets were read, and only the first write of a
-- script is refused when memory is full.
job = first_job
while job <= texts do
    local kind, last = tonumber(ARGV[job]), job + 2 + tonumber(ARGV[job + 2])
    local entry = redis.call('XADD', intents, '*', unpack(ARGV, job + 3, last))
    if cap[kind] then
        local written_at = tonumber(string.match(entry, '^%d+')) / 1000
        redis.call('ZADD', KEYS[2 + kind], 'NX', string.format('%.3f', written_at), ARGV[job + 1])
    end
    job = last + 1
end
return {'ok'}
