-- An event that was set aside goes back into the queue, or is dropped.
--
-- Behind the events of its connection, if that is still there; else into a mailbox of its own, with the session as it
-- was when it was set aside.
--
-- KEYS  1 aside, 2 how many these are, as in aside.lua   3 connections of the node, as in enqueue.lua
--       4 mailbox of the connection   5 mailbox of its own   6 session of that   7 ready   8 how many events wait in all
--       9 bytes, as in bytes.lua
-- ARGV  1 its name in the stream   2 name of its own mailbox   3 '1': back, else it is dropped
--       4 '1': it may go behind those of its connection
--
-- Returns 1, or 0 when it is not there.

local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry then return 0 end
local name, event, session = entry[2][2], entry[2][4], entry[2][6]

if ARGV[3] == '1' then
  local mailbox = KEYS[4]
  if ARGV[4] ~= '1' or redis.call('HEXISTS', KEYS[3], name) == 0 then
    mailbox, name = KEYS[5], ARGV[2]
    if session ~= '' then redis.call('SET', KEYS[6], session) end
  end
  local length = redis.call('RPUSH', mailbox, event)
  redis.call('INCR', KEYS[8])
  count_bytes(KEYS[9], name, (length > 1 and bytes_of(KEYS[9], name) or 0) + #event)
  if length == 1 then redis.call('XADD', KEYS[7], '*', 'm', name) end
end
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[2], 'bytes', -#event - #session)
if redis.call('HINCRBY', KEYS[2], 'count', -1) <= 0 then redis.call('DEL', KEYS[2]) end
return 1
