-- Store a publication and tell the subscribers, once for each idempotency key.
--
-- KEYS  1 position of the room: hash of e(poch), o(ffset), t(ag)
--       2 its stream: ids are tag-offset, fields p(revious tag) and d(ata)
--       3 the store: hash of e(poch), and t(ime) at which it began
--       4 what was stored under the idempotency key, where there is one
-- ARGV  1 data   2 epoch, should a history begin: another in every call   3 publications to keep
--       4 ms to keep them, 0 for ever   5 ms the position lives, 0 for ever   6 ms the key lives   7 channel
--       8 ms before now since which nothing can have been forgotten, 0: since the store began
--
-- Returns {0, head} or, when the key is known, {1, head .. data}; head is "offset:tag:previous:epoch:". The very same
-- call, sent again because its reply was lost, is no duplicate: {0, head .. data}.

local position = redis.call('HMGET', KEYS[1], 'e', 'o', 't')

if KEYS[4] then
  local stored = redis.call('GET', KEYS[4])
  if stored then
    local call, head = string.sub(stored, 1, #ARGV[2]), string.sub(stored, #ARGV[2] + 1)
    -- What belongs to a history that is lost is in none.
    if string.match(head, '^%d+:%d+:%d+:(%w+):') == position[1] then return {call == ARGV[2] and 0 or 1, head} end
  end
end

local epoch = position[1]
local offset, previous = tonumber(position[2]), tonumber(position[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

-- Numbers are doubles: whole up to 2^53, which microseconds reach in the year 2255, and not to be written as 1e+15.
local function whole(number) return string.format('%.0f', number) end

local tag
local function begin(since)
  epoch, offset, previous = ARGV[2], 0, since
end
local function forgotten()
  local began = redis.call('HMGET', KEYS[3], 't')[1]
  if not began then
    began = whole(now)
    redis.call('HSET', KEYS[3], 'e', ARGV[2] .. '0', 't', began)
  end
  began = tonumber(began)
  if ARGV[8] == '0' then return began end
  return math.max(began, now - tonumber(ARGV[8]) * 1000)
end
local function follow()
  offset, tag = offset + 1, math.max(now, previous + 1)
  -- The first that is written: refused (OOM, READONLY, MISCONF), it ends the script, and nothing is changed.
  redis.call('HSET', KEYS[1], 'e', epoch, 'o', whole(offset), 't', whole(tag))
end
local function add()
  local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], whole(tag) .. '-' .. whole(offset),
    'p', whole(previous), 'd', ARGV[1])
  return type(added) == 'table' and added.err or nil
end
-- Whoever may not do that has changed nothing.
local function undo()
  if position[1] then
    redis.call('HSET', KEYS[1], 'e', position[1], 'o', position[2], 't', position[3])
  else
    redis.call('DEL', KEYS[1])
  end
end

if not epoch then begin(forgotten()) end
follow()
if offset == 1 or ARGV[3] == '0' then redis.call('DEL', KEYS[2]) end
local failed = ARGV[3] ~= '0' and add()
if failed and string.find(failed, 'equal or smaller', 1, true) then
  -- The stream knows of later ones than the position does: part of the data is not what we wrote.
  redis.call('DEL', KEYS[2])
  begin(now)
  follow()
  failed = add()
end
if failed then
  undo()
  return redis.error_reply(failed)
end

if ARGV[4] ~= '0' then
  redis.call('XTRIM', KEYS[2], 'MINID', whole(math.max(0, now - tonumber(ARGV[4]) * 1000)))
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
else
  redis.call('PERSIST', KEYS[2])
end
if ARGV[5] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[5]) else redis.call('PERSIST', KEYS[1]) end

local head = whole(offset) .. ':' .. whole(tag) .. ':' .. whole(previous) .. ':' .. epoch .. ':'
if KEYS[4] then redis.call('SET', KEYS[4], ARGV[2] .. head .. ARGV[1], 'PX', ARGV[6]) end
-- Whoever may not publish has stored it all the same.
redis.pcall('PUBLISH', ARGV[7], 'p' .. head .. ARGV[1])
return {0, head}
