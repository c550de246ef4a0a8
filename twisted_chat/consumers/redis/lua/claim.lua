-- Take over tokens of workers that have not been heard of, and count that against the events that those had begun.
--
-- KEYS  1 ready   2 attempts, as in attempts.lua
-- ARGV  1 worker   2 ms of silence   3 how many   4 what the name of a mailbox begins with   5 after how many times a
--       worker says that it is about to run an event
--
-- Returns entries of the stream, as XAUTOCLAIM does.
--
-- A worker that dies takes with it what it held, and not all of that had a part in it. So an event is run alone after
-- some times, and from then on only what was begun is counted.

local claimed = redis.call('XAUTOCLAIM', KEYS[1], 'workers', ARGV[1], ARGV[2], '0', 'COUNT', ARGV[3])
local entries = {}
for _, entry in ipairs(claimed[2]) do
  if entry then
    entries[#entries + 1] = entry
    local mailbox = entry[2][2]
    local first = redis.call('LINDEX', ARGV[4] .. mailbox, 0)
    if first then
      local times, begun = attempts_of(KEYS[2], mailbox, first)
      if begun == 1 or times < tonumber(ARGV[5]) then set_attempts(KEYS[2], mailbox, first, times + 1, 0) end
    end
  end
end
return entries
