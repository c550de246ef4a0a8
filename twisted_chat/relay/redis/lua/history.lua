-- Where a room stands, and the publications around a place in its stream.
--
-- KEYS  1 position of the room   2 its stream (see publish.lua)
-- ARGV  1 epoch, should there be no history   2 ms that the position of a room without publications lives
--       3 only if this is the epoch; '' any   4 the place: a stream id, or '+' for the end
--       5 how many up to it, itself included   6 how many after it
--
-- Returns {epoch, offset, tag, newest first up to the place, oldest first after it, the time}.

local position = redis.call('HMGET', KEYS[1], 'e', 'o', 't')
if not position[1] then
  redis.call('HSET', KEYS[1], 'e', ARGV[1], 'o', '0', 't', '0')
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('DEL', KEYS[2])
  return {ARGV[1], '0', '0', {}, {}, redis.call('TIME')}
end

-- Someone is there. Nothing else may shorten the life of a position: a publication may have come.
if position[2] == '0' then redis.pcall('PEXPIRE', KEYS[1], ARGV[2]) end

local up_to, after = {}, {}
if ARGV[3] == '' or ARGV[3] == position[1] then
  if ARGV[5] ~= '0' then up_to = redis.call('XREVRANGE', KEYS[2], ARGV[4], '-', 'COUNT', ARGV[5]) end
  if ARGV[6] ~= '0' then after = redis.call('XRANGE', KEYS[2], '(' .. ARGV[4], '+', 'COUNT', ARGV[6]) end
end
return {position[1], position[2], position[3], up_to, after, redis.call('TIME')}
