-- Events whose time has come go into the queue, each into a mailbox of its own.
--
-- KEYS  1 delayed, as in delay.lua   2 ready   3 how many events wait in all   4 bytes, as in bytes.lua
--       5 how many bytes are delayed
-- ARGV  1 what the name of a mailbox begins with   2 how many at once   3 how many may wait in all, 4 of how many bytes
--
-- Returns {how many went, ms until the time of the next one comes}; -1 for the latter when there is none.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local waiting = tonumber(redis.call('GET', KEYS[3]) or '0')
local room = math.min(tonumber(ARGV[2]), tonumber(ARGV[3]) - waiting)
if waiting > 0 and bytes_of(KEYS[4], ' all') >= tonumber(ARGV[4]) then room = 0 end
local due = {}
if room > 0 then due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, room) end
local gone = 0
for _, member in ipairs(due) do
  local name, event = string.match(member, '^(%S+) (.*)$')
  -- The first that is written: refused, it ends the script, and nothing is changed.
  local length = redis.call('RPUSH', ARGV[1] .. name, event)
  redis.call('INCR', KEYS[3])
  if length == 1 then redis.call('XADD', KEYS[2], '*', 'm', name) end
  redis.call('ZREM', KEYS[1], member)
  count_bytes(KEYS[4], name, (length > 1 and bytes_of(KEYS[4], name) or 0) + #event)
  gone = gone + #member
end
if gone > 0 then
  local left = tonumber(redis.call('GET', KEYS[5]) or '0') - gone
  if left > 0 and redis.call('ZCARD', KEYS[1]) > 0 then
    redis.call('SET', KEYS[5], left)
  else
    redis.call('DEL', KEYS[5])
  end
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {#due, next[2] and math.max(0, math.ceil(tonumber(next[2]) - now)) or -1}
