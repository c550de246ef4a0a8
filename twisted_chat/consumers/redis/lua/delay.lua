-- An event that is to come into the queue later, once for each key.
--
-- KEYS  1 whether it was posted before   2 delayed: sorted set of name .. " " .. event -> ms when its time has come
-- ARGV  1 name   2 the event   3 in how many ms   4 how many may wait for their time   5 ms the key lives
--
-- Returns 1, or 0 when there is no room.

if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return 0 end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1] .. ' ' .. ARGV[2])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[5])
return 1
