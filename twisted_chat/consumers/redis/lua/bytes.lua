-- How many bytes of events wait, in one hash: mailbox -> those of its events; ' all' -> those of all of them. It stands
-- before the scripts that put events into the queue and take them out.
--
-- Workers of earlier versions take events out without counting them here, and nodes put some in. So a number never
-- falls below zero; that of a mailbox begins anew when the mailbox was empty, and all of them when the queue was.

local function bytes_of(key, name) return tonumber(redis.call('HGET', key, name) or '0') end

local function set_bytes(key, name, bytes)
  if bytes > 0 then redis.call('HSET', key, name, bytes) else redis.call('HDEL', key, name) end
end

-- The bytes of a mailbox become so many.
local function count_bytes(key, name, bytes)
  bytes = math.max(0, bytes)
  local change = bytes - bytes_of(key, name)
  set_bytes(key, name, bytes)
  set_bytes(key, ' all', bytes_of(key, ' all') + change)
end
