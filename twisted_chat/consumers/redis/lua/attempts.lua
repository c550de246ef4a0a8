-- How often an event was begun by a worker that died: hash of mailbox -> "times begun id", of the first event of the
-- mailbox. It stands before the scripts that read or write it.
--
-- times is how many workers died while they held it. begun is 1 when the worker that holds it now has said that it is
-- about to run it, 2 when it has been set aside, else 0. id tells whether the first event is still the one that is meant.

local function event_id(event) return string.match(event, '^%["([^"]*)"') or '' end

-- times and begun of an event; 0 and 0 when nobody died of it.
local function attempts_of(key, mailbox, event)
  local times, begun, id = string.match(redis.call('HGET', key, mailbox) or '', '^(%d+) (%d) (.*)$')
  if id ~= event_id(event) then return 0, 0 end
  return tonumber(times), tonumber(begun)
end

local function set_attempts(key, mailbox, event, times, begun)
  if times > 0 then
    redis.call('HSET', key, mailbox, times .. ' ' .. begun .. ' ' .. event_id(event))
  else
    redis.call('HDEL', key, mailbox)
  end
end
