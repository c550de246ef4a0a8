-- Forget workers that are gone: this one, which ends, and those that were not heard of for long. One that holds tokens
-- is kept, or they would be lost with it.
--
-- KEYS  1 ready
-- ARGV  1 worker that ends, or ''   2 ms of silence

for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'workers')) do
  local about = {}
  for i = 1, #fields, 2 do about[fields[i]] = fields[i + 1] end
  if about['pending'] == 0 and (about['name'] == ARGV[1] or about['idle'] > tonumber(ARGV[2])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'workers', about['name'])
  end
end
return redis.status_reply('OK')
