-- Purpose: drop events that are committed elsewhere, where the stream is still the one that they were read from.
-- KEYS   1 usage stream, 2 meta of the partition
-- ARGV   1 stream id of the last entry that is committed, 2 the first id to keep, 3 its epoch, 4 the number of its last event
-- Returns how many entries went; 0 where another event stands there, or none: the store was lost since.

local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry then return 0 end
local epoch, seq = entry[2][2], entry[2][4]
if epoch ~= ARGV[3] or seq ~= ARGV[4] then return 0 end
redis.call('HSET', KEYS[2], 'recorded', entry[2][6])
return redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
