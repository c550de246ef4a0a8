-- Where a room stands, and the publications around a place in its stream. Nothing is created for the room.
--
-- KEYS  1 position of the room   2 its stream   3 the store (see publish.lua)
-- ARGV  1 epoch of the store, should it have none   2 only if this is the epoch of the room; '' any
--       3 the place: a stream id, or '+' for the end   4 how many up to it, itself included   5 how many after it
--
-- Returns {epoch, offset, tag, newest first up to the place, oldest first after it, the time, epoch of the store, when
-- it began}; the first three are false where the room has no history.

local position = redis.call('HMGET', KEYS[1], 'e', 'o', 't')
local time = redis.call('TIME')
local store = redis.call('HMGET', KEYS[3], 'e', 't')
if not store[1] then
  store = {ARGV[1], string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))}
  -- A server that takes no writes (OOM, READONLY) can be read all the same.
  redis.pcall('HSET', KEYS[3], 'e', store[1], 't', store[2])
end

local up_to, after = {}, {}
if position[1] and (ARGV[2] == '' or ARGV[2] == position[1]) then
  if ARGV[4] ~= '0' then up_to = redis.call('XREVRANGE', KEYS[2], ARGV[3], '-', 'COUNT', ARGV[4]) end
  if ARGV[5] ~= '0' then after = redis.call('XRANGE', KEYS[2], '(' .. ARGV[3], '+', 'COUNT', ARGV[5]) end
end
return {position[1], position[2], position[3], up_to, after, time, store[1], store[2]}
