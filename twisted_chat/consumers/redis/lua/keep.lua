-- A worker says that it is still busy with these tokens.
--
-- KEYS  1 ready
-- ARGV  1 worker   then the tokens
--
-- Returns those that are not its any more.

local lost = {}
for i = 2, #ARGV do
  local held = redis.call('XPENDING', KEYS[1], 'workers', ARGV[i], ARGV[i], 1)
  if #held == 1 and held[1][2] == ARGV[1] then
    redis.call('XCLAIM', KEYS[1], 'workers', ARGV[1], 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
