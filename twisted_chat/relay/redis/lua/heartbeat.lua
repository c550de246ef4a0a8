-- A node says that it lives, and is told which ones do not.
--
-- KEYS  1 nodes: sorted set of node -> ms when it counts as dead
-- ARGV  1 node   2 ms until then   3 '1' if this is its first
--
-- Returns {1 or 0: others may have counted it as dead already, and it has to begin anew under another name; dead ones;
-- the time, as TIME has it}.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local dies = redis.call('ZSCORE', KEYS[1], ARGV[1])
local alive = ARGV[3] == '1' or (dies and tonumber(dies) > now)
if alive then redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1]) end
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 10)
return {alive and 1 or 0, dead, time}
