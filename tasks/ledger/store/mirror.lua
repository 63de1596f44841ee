-- Mirror of a run: write its state for apps, unless a later one is there already.
-- Two workers may commit one after the other and arrive here the other way round.
-- KEYS[1] hash of the job, KEYS[2] sorted set of the jobs of its kind that wait.
-- ARGV[1] revision of the run, ARGV[2] time to live in seconds, ARGV[3] its id, ARGV[4] Unix time since when it waits,
-- empty when it does not, then field, value, …
local known = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0')
if tonumber(ARGV[1]) < known then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'revision', ARGV[1], unpack(ARGV, 5))
redis.call('EXPIRE', KEYS[1], ARGV[2])
if ARGV[4] == '' then
  redis.call('ZREM', KEYS[2], ARGV[3])
else
  redis.call('ZADD', KEYS[2], 'NX', ARGV[4], ARGV[3])
end
return 1
