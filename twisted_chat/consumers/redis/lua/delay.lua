-- An event that is to come into the queue later, once for each key.
--
-- KEYS  1 whether it was posted before   2 delayed: sorted set of name .. " " .. event -> ms when its time has come
--       3 how many bytes these are
-- ARGV  1 name   2 the event   3 in how many ms   4 how many may wait for their time, 5 of how many bytes
--       6 ms the key lives
--
-- Returns 1, or 0 when there is no room.

if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
local waiting = redis.call('ZCARD', KEYS[2])
-- Workers of earlier versions take some out without counting the bytes.
local bytes = waiting > 0 and tonumber(redis.call('GET', KEYS[3]) or '0') or 0
if waiting >= tonumber(ARGV[4]) or bytes >= tonumber(ARGV[5]) then return 0 end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local member = ARGV[1] .. ' ' .. ARGV[2]
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), member)
redis.call('SET', KEYS[3], bytes + #member)
redis.call('SET', KEYS[1], '1', 'PX', ARGV[6])
return 1
