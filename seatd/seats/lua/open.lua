-- Purpose: open an epoch of a partition.  Its number comes from SQL; an epoch that is open stays.
-- KEYS   1 meta of the partition
-- ARGV   1 number of the epoch
-- Returns the number of the epoch that is open now.

local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch then return tonumber(epoch) end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'seq', 0)
return tonumber(ARGV[1])
