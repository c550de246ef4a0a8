-- A worker gives back tokens that it has not begun with.
--
-- KEYS  1 ready
-- ARGV  1 worker   then token, mailbox's name; and so on

for i = 2, #ARGV, 2 do
  local held = redis.call('XPENDING', KEYS[1], 'workers', ARGV[i], ARGV[i], 1)
  -- The new one before the old one goes: if it is refused, the old one stays, for whoever takes it over.
  if #held == 1 and held[1][2] == ARGV[1] then
    redis.call('XADD', KEYS[1], '*', 'm', ARGV[i + 1])
    redis.call('XACK', KEYS[1], 'workers', ARGV[i])
    redis.call('XDEL', KEYS[1], ARGV[i])
  end
end
return redis.status_reply('OK')
