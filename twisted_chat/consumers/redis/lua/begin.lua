-- A worker is about to run the first event of a mailbox, which others had begun that died.
--
-- KEYS  1 ready   2 attempts, as in attempts.lua   3 mailbox
-- ARGV  1 token   2 worker   3 mailbox's name
--
-- Returns 1, or 0 when the token is not the worker's, or there is no event.

local held = redis.call('XPENDING', KEYS[1], 'workers', ARGV[1], ARGV[1], 1)
local first = redis.call('LINDEX', KEYS[3], 0)
if #held == 0 or held[1][2] ~= ARGV[2] or not first then return 0 end
local times, begun = attempts_of(KEYS[2], ARGV[3], first)
if begun == 0 then set_attempts(KEYS[2], ARGV[3], first, times, 1) end
return 1
