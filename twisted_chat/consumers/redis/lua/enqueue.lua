-- Take events of a connection into its mailbox: in order, each once.
--
-- KEYS  1 connections of the node: hash of connection -> "number of its next event" .. " " .. path
--       2 mailbox of the connection: list   3 ready: stream of mailboxes   4 how many events wait in all
--       5 bytes, as in bytes.lua
-- ARGV  1 connection   2 its path   3 number of the first event   4 how many may wait in all, 5 of how many bytes
--       6 how many bytes of this connection   7 '1': the last of these is its disconnect   then the events
--
-- Returns {how many of them were taken, now or before, how many wait of this connection, and in all, how many bytes wait
-- of this connection, and in all}; the first is -1 when the connection is not known (any more).

local known = redis.call('HGET', KEYS[1], ARGV[1])
local first = tonumber(ARGV[3])
if not known and first > 0 then return {-1, 0, 0, 0, 0} end

local expected = known and tonumber(string.match(known, '^%d+')) or 0
local waiting = tonumber(redis.call('GET', KEYS[4]) or '0')
local length = redis.call('LLEN', KEYS[2])
local all, here = bytes_of(KEYS[5], ' all'), bytes_of(KEYS[5], ARGV[1])
if waiting <= 0 then all = 0 end
if length == 0 then
  all, here = math.max(0, all - here), 0
end
local most, most_bytes, most_here = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- Where half of what may wait of a connection is done, an event of any size is taken.
local function fits(size)
  return all < most_bytes and (here + size <= most_here or 2 * here <= most_here)
end

local count = #ARGV - 7
local taken, new, over = 0, {}, false
for i = 1, count do
  local number, event = first + i - 1, ARGV[7 + i]
  local last = ARGV[7] == '1' and i == count
  if number > expected then break end
  if number == expected then
    if not last and (waiting + #new >= most or not fits(#event)) then break end
    new[#new + 1] = event
    expected = expected + 1
    all, here = all + #event, here + #event
  end
  taken, over = i, last
end

if #new == 0 then return {taken, length, waiting, here, all} end
-- The first that is written: refused (OOM, READONLY, MISCONF), it ends the script, and nothing is changed.
length = redis.call('RPUSH', KEYS[2], unpack(new))
redis.call('INCRBY', KEYS[4], #new)
redis.call('HSET', KEYS[5], ARGV[1], here, ' all', all)
if over then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], expected .. ' ' .. ARGV[2])
end
-- An empty mailbox has no token. From here on it has one.
if length == #new then redis.call('XADD', KEYS[3], '*', 'm', ARGV[1]) end
return {taken, length, waiting + #new, here, all}
