-- A worker gives back tokens: it does not go on with them, and did not die of them.
--
-- KEYS  1 ready   2 attempts, as in attempts.lua
-- ARGV  1 worker   2 what the name of a mailbox begins with   then token, mailbox's name; and so on

for i = 3, #ARGV, 2 do
  local held = redis.call('XPENDING', KEYS[1], 'workers', ARGV[i], ARGV[i], 1)
  -- The new one before the old one goes: if it is refused, the old one stays, for whoever takes it over.
  if #held == 1 and held[1][2] == ARGV[1] then
    redis.call('XADD', KEYS[1], '*', 'm', ARGV[i + 1])
    redis.call('XACK', KEYS[1], 'workers', ARGV[i])
    redis.call('XDEL', KEYS[1], ARGV[i])
    local first = redis.call('LINDEX', ARGV[2] .. ARGV[i + 1], 0)
    if first then
      local times, begun = attempts_of(KEYS[2], ARGV[i + 1], first)
      if begun == 1 then set_attempts(KEYS[2], ARGV[i + 1], first, times, 0) end
    end
  end
end
return redis.status_reply('OK')
