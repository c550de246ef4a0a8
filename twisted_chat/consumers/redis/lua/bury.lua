-- Disconnect connections of a node that died.
--
-- KEYS  1 nodes: sorted set of node -> ms when it counts as dead   2 its connections, as in enqueue.lua   3 ready
--       4 how many events wait in all   5 bytes, as in bytes.lua
-- ARGV  1 node   2 what the name of a mailbox begins with   3 how many connections
--
-- Returns how many it disconnected; 0: there are no more, and the node is forgotten; -1: it lives.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local dies = redis.call('ZSCORE', KEYS[1], ARGV[1])
if dies and tonumber(dies) > now then return -1 end

local names = redis.call('HRANDFIELD', KEYS[2], ARGV[3])
for _, name in ipairs(names) do
  local number, path = string.match(redis.call('HGET', KEYS[2], name), '^(%d+) (.*)$')
  local content = '{"path":' .. cjson.encode(path) .. ',"code":1006,"reply_channel":' ..
    cjson.encode('websocket.send!' .. name) .. ',"order":' .. number .. '}'
  local event = '[' .. cjson.encode(name .. '.' .. number) .. ',"websocket.disconnect",' .. content .. ']'
  local length = redis.call('RPUSH', ARGV[2] .. name, event)
  redis.call('INCR', KEYS[4])
  count_bytes(KEYS[5], name, bytes_of(KEYS[5], name) + #event)
  redis.call('HDEL', KEYS[2], name)
  if length == 1 then redis.call('XADD', KEYS[3], '*', 'm', name) end
end
if #names == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return #names
