-- Write a filled value, unless the right to fill was lost meanwhile: by a deletion, a write, or by having taken too long.
--
-- KEYS  1 the entry, 2 the filler's lock
-- ARGV  1 token of the filler, 2 content, 3 time to live (ms)
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
