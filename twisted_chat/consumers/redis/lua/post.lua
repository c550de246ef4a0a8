-- An event that a consumer made, once for each key: behind those of a connection, but before its disconnect; or in a
-- mailbox of its own, where there is no connection, or nothing of it but the disconnect, which may be running.
--
-- KEYS  1 whether it was posted before   2 connections of the node, as in enqueue.lua   3 mailbox of the connection
--       4 mailbox of its own   5 ready   6 how many events wait in all   7 bytes, as in bytes.lua
-- ARGV  1 connection, '' for none   2 name of its own   3 the event   4 how many may wait in all, 5 of how many bytes
--       6 ms the key lives
--
-- Returns 1, or 0 when there is no room.

if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
local waiting = tonumber(redis.call('GET', KEYS[6]) or '0')
if waiting >= tonumber(ARGV[4]) or (waiting > 0 and bytes_of(KEYS[7], ' all') >= tonumber(ARGV[5])) then return 0 end
local mailbox, name, last = KEYS[4], ARGV[2], nil
if ARGV[1] ~= '' then
  if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
    mailbox, name = KEYS[3], ARGV[1]
  elseif redis.call('LLEN', KEYS[3]) > 1 then
    last = redis.call('LINDEX', KEYS[3], -1)
    -- As `Event.encode` and bury.lua write it.
    if string.find(last, '^%["[^"]*","websocket%.disconnect",') then mailbox, name = KEYS[3], ARGV[1] else last = nil end
  end
end
local length = redis.call('RPUSH', mailbox, ARGV[3])
if last then
  redis.call('LSET', mailbox, -2, ARGV[3])
  redis.call('LSET', mailbox, -1, last)
end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[6])
redis.call('INCR', KEYS[6])
count_bytes(KEYS[7], name, (length > 1 and bytes_of(KEYS[7], name) or 0) + #ARGV[3])
if length == 1 then redis.call('XADD', KEYS[5], '*', 'm', name) end
return 1
