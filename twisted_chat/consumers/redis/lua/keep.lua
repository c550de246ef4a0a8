-- A worker says that it is still busy with these tokens.
--
-- KEYS  1 ready   2 attempts, as in attempts.lua
-- ARGV  1 worker   2 what the name of a mailbox begins with   then token, mailbox's name; and so on
--
-- Returns the tokens that are not its any more. Whoever took them over did so because it took this worker for dead; that
-- is taken back, for it lives.

local lost = {}
for i = 3, #ARGV, 2 do
  local held = redis.call('XPENDING', KEYS[1], 'workers', ARGV[i], ARGV[i], 1)
  if #held == 1 and held[1][2] == ARGV[1] then
    redis.call('XCLAIM', KEYS[1], 'workers', ARGV[1], 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
    local first = #held == 1 and redis.call('LINDEX', ARGV[2] .. ARGV[i + 1], 0)
    if first then
      local times, begun = attempts_of(KEYS[2], ARGV[i + 1], first)
      if times > 0 and begun < 2 then set_attempts(KEYS[2], ARGV[i + 1], first, times - 1, begun) end
    end
  end
end
return lost
