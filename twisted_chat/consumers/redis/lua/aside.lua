-- Set the first event of a mailbox aside, because workers died of it. It is also still in the mailbox: a commit takes it
-- away there. To say it again does no harm.
--
-- KEYS  1 ready   2 attempts, as in attempts.lua   3 mailbox   4 session of the connection
--       5 aside: stream of events, each with its mailbox (m), session (s) and how many workers died (n)
--       6 how many these are (count), of how many bytes (bytes)
-- ARGV  1 token   2 worker   3 mailbox's name   4 how many may be aside, 5 of how many bytes
--
-- Returns how many older ones had to go, or -1 when the token is not the worker's, or there is no event.

local held = redis.call('XPENDING', KEYS[1], 'workers', ARGV[1], ARGV[1], 1)
local first = redis.call('LINDEX', KEYS[3], 0)
if #held == 0 or held[1][2] ~= ARGV[2] or not first then return -1 end
local times, begun = attempts_of(KEYS[2], ARGV[3], first)
if begun == 2 then return 0 end

local session = redis.call('GET', KEYS[4]) or ''
redis.call('XADD', KEYS[5], '*', 'm', ARGV[3], 'e', first, 's', session, 'n', times)
local bytes = redis.call('HINCRBY', KEYS[6], 'bytes', #first + #session)
local count = redis.call('HINCRBY', KEYS[6], 'count', 1)
set_attempts(KEYS[2], ARGV[3], first, math.max(1, times), 2)

local gone = 0
while count > 1 and (count > tonumber(ARGV[4]) or bytes > tonumber(ARGV[5])) do
  local oldest = redis.call('XRANGE', KEYS[5], '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', KEYS[5], oldest[1])
  bytes = redis.call('HINCRBY', KEYS[6], 'bytes', -#oldest[2][4] - #oldest[2][6])
  count = redis.call('HINCRBY', KEYS[6], 'count', -1)
  gone = gone + 1
end
return gone
