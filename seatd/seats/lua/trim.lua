-- Purpose: drop events that are committed elsewhere, where the stream is still the one that they were read from.
-- KEYS   1 usage stream
-- ARGV   1 stream id of the last event that is committed, 2 the first id to keep, 3 the event's epoch, 4 its number
-- Returns how many entries went; 0 where another event stands there, or none: the store was lost since.

local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry then return 0 end
local epoch, seq = entry[2][2], entry[2][4]
if epoch ~= ARGV[3] or seq ~= ARGV[4] then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
