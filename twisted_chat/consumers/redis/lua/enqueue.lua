-- Take events of a connection into its mailbox: in order, each once.
--
-- KEYS  1 connections of the node: hash of connection -> "number of its next event" .. " " .. path
--       2 mailbox of the connection: list   3 ready: stream of mailboxes   4 how many events wait in all
-- ARGV  1 connection   2 its path   3 number of the first event   4 how many may wait in all
--       5 '1': the last of these is its disconnect   then the events
--
-- Returns {how many of them were taken, now or before, how many wait of this connection, and in all}; the first is -1
-- when the connection is not known (any more).

local known = redis.call('HGET', KEYS[1], ARGV[1])
local first = tonumber(ARGV[3])
if not known and first > 0 then return {-1, 0, 0} end

local expected = known and tonumber(string.match(known, '^%d+')) or 0
local waiting = tonumber(redis.call('GET', KEYS[4]) or '0')
local count, most = #ARGV - 5, tonumber(ARGV[4])
local taken, new, over = 0, {}, false
for i = 1, count do
  local number = first + i - 1
  local last = ARGV[5] == '1' and i == count
  if number > expected or (number == expected and waiting + #new >= most and not last) then break end
  if number == expected then
    new[#new + 1] = ARGV[5 + i]
    expected = expected + 1
  end
  taken, over = i, last
end

if #new == 0 then return {taken, redis.call('LLEN', KEYS[2]), waiting} end
-- The first that is written: refused (OOM, READONLY, MISCONF), it ends the script, and nothing is changed.
local length = redis.call('RPUSH', KEYS[2], unpack(new))
redis.call('INCRBY', KEYS[4], #new)
if over then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], expected .. ' ' .. ARGV[2])
end
-- An empty mailbox has no token. From here on it has one.
if length == #new then redis.call('XADD', KEYS[3], '*', 'm', ARGV[1]) end
return {taken, length, waiting + #new}
