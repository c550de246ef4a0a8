-- Write as an event makes us write on its way through the queue, to keys of nobody else, and leave nothing behind.
--
-- KEYS  1 a mailbox   2 a stream   3 a mark

redis.call('RPUSH', KEYS[1], '1')
redis.call('XADD', KEYS[2], '*', 'm', '1')
redis.call('SET', KEYS[3], '1', 'PX', '1000')
redis.call('LPOP', KEYS[1])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return 1
