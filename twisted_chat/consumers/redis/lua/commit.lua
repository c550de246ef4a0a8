-- The first event of a mailbox is done. Only the holder of its token may say so; to say it again does no harm.
--
-- KEYS  1 ready   2 mailbox   3 session of the connection   4 how many events wait in all
--       5 connections of the node, as in enqueue.lua   6 bytes, as in bytes.lua
--       7 attempts, as in attempts.lua
-- ARGV  1 token   2 worker   3 mailbox's name   4 what the event begins with, which no other one does; '' for none
--       5 session as it is now; '' as it was   6 '1': this was the last event   7 '1': go on with the next one, if any
--
-- Returns {1, next event, session}, and the token is still the worker's; or {0}: it is not; or {-1}: it was not, and
-- nothing is changed.

local held = redis.call('XPENDING', KEYS[1], 'workers', ARGV[1], ARGV[1], 1)
if #held == 0 or held[1][2] ~= ARGV[2] then return {-1} end

local first = redis.call('LINDEX', KEYS[2], 0)
if first and ARGV[4] ~= '' and string.sub(first, 1, #ARGV[4]) == ARGV[4] then
  -- This may be refused for want of memory: before anything else is changed.
  if ARGV[5] ~= '' and ARGV[6] ~= '1' then redis.call('SET', KEYS[3], ARGV[5]) end
  redis.call('LPOP', KEYS[2])
  redis.call('HDEL', KEYS[7], ARGV[3])
  local done, left = 1, redis.call('LLEN', KEYS[2])
  if ARGV[6] == '1' then
    done, left = done + left, 0
    redis.call('DEL', KEYS[2], KEYS[3])
    redis.call('HDEL', KEYS[5], ARGV[3])
  end
  if redis.call('DECRBY', KEYS[4], done) <= 0 then
    redis.call('DEL', KEYS[6], KEYS[7])
  else
    count_bytes(KEYS[6], ARGV[3], left > 0 and bytes_of(KEYS[6], ARGV[3]) - #first or 0)
  end
end

local next = redis.call('LINDEX', KEYS[2], 0)
local go_on = next and ARGV[7] == '1'
-- Else behind all others that wait; unless memory is wanting, and then the worker keeps what it has.
if next and not go_on then
  local added = redis.pcall('XADD', KEYS[1], '*', 'm', ARGV[3])
  go_on = type(added) == 'table' and added.err ~= nil
end
if go_on then
  redis.call('XCLAIM', KEYS[1], 'workers', ARGV[2], 0, ARGV[1], 'JUSTID')
  return {1, next, redis.call('GET', KEYS[3])}
end
redis.call('XACK', KEYS[1], 'workers', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
return {0}
