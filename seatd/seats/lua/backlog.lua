-- Purpose: count the events that wait; where somebody has emptied the stream, none does.
-- KEYS   1 meta of the partition, 2 usage stream
-- Returns how many

local counts = redis.call('HMGET', KEYS[1], 'added', 'recorded')
local added, recorded = tonumber(counts[1] or 0), tonumber(counts[2] or 0)
if added ~= recorded and redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[1], 'recorded', counts[1] or 0)
  return 0
end
return added - recorded
