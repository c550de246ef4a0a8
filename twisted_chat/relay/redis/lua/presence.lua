-- Change who is present in a room through one node, and tell who thereby joined and left.
--
-- KEYS  1 members of the node in the room: hash of member -> handle
--       2 members of each handle, of all nodes: hash of handle -> count
--       3 handles in the order in which they came: sorted set
-- ARGV  1 channel   2 '1': members of the node that are not named have left
--       then member, '+' .. handle or '-' for gone; and so on

local function tell(what, handle) redis.pcall('PUBLISH', ARGV[1], what .. handle) end

local function leave(member, handle)
  redis.call('HDEL', KEYS[1], member)
  if redis.call('HINCRBY', KEYS[2], handle, -1) <= 0 then
    redis.call('HDEL', KEYS[2], handle)
    redis.call('ZREM', KEYS[3], handle)
    tell('l', handle)
  end
end

local function enter(member, handle)
  redis.call('HSET', KEYS[1], member, handle)
  if redis.call('HINCRBY', KEYS[2], handle, 1) == 1 then
    local time = redis.call('TIME')
    local last = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')
    local came = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(last[2] or 0) + 1)
    redis.call('ZADD', KEYS[3], string.format('%.0f', came), handle)
    tell('j', handle)
  end
end

local wanted = {}
for i = 3, #ARGV, 2 do
  local member, is = ARGV[i], ARGV[i + 1]
  local was = redis.call('HGET', KEYS[1], member)
  if string.sub(is, 1, 1) == '+' then
    local handle = string.sub(is, 2)
    wanted[member] = true
    if was ~= handle then
      if was then leave(member, was) end
      enter(member, handle)
    end
  elseif was then
    leave(member, was)
  end
end

if ARGV[2] == '1' then
  local known = redis.call('HGETALL', KEYS[1])
  for i = 1, #known, 2 do
    if not wanted[known[i]] then leave(known[i], known[i + 1]) end
  end
end
return redis.status_reply('OK')
