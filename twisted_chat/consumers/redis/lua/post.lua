-- An event that a consumer made, once for each key: behind those of a connection that lives, else in a mailbox of its
-- own.
--
-- KEYS  1 whether it was posted before   2 connections of the node, as in enqueue.lua   3 mailbox of the connection
--       4 mailbox of its own   5 ready   6 how many events wait in all
-- ARGV  1 connection, '' for none   2 name of its own   3 the event   4 how many may wait in all   5 ms the key lives
--
-- Returns 1, or 0 when there is no room.

if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
if tonumber(redis.call('GET', KEYS[6]) or '0') >= tonumber(ARGV[4]) then return 0 end
local mailbox, name = KEYS[4], ARGV[2]
if ARGV[1] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then mailbox, name = KEYS[3], ARGV[1] end
local length = redis.call('RPUSH', mailbox, ARGV[3])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[5])
redis.call('INCR', KEYS[6])
if length == 1 then redis.call('XADD', KEYS[5], '*', 'm', name) end
return 1
