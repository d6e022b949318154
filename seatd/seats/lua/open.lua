-- Purpose: look at a partition, open an epoch on it, know a store again that provably lost nothing, or close an
--        epoch on a node that was the primary before.
-- KEYS   1 meta of the partition, 2 usage stream
-- ARGV   1 offset_ms of the clock (tests), 2 what to do: "look", "open", "know" or "close", 3 the epoch that was seen
--        when the caller looked, 4 for "open" the number of the new epoch, from SQL; for "close" that of the one
--        which another node is in: nothing is done unless this one is in an earlier
-- Returns {epoch that is open now or 0, 1 where this store is known ("close": was, until now), hwm}.  Whoever saw another epoch than the
--        one that stands was overtaken, and nothing is done.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'hwm', 'id')
local epoch, hwm = tonumber(meta[1] or 0), tonumber(meta[2] or 0)
local known = epoch > 0 and meta[3] == identity()
if ARGV[2] == 'close' then
  local closes = known and epoch < tonumber(ARGV[4])
  if closes then redis.call('HDEL', KEYS[1], 'id') end
  return {epoch, closes and 1 or 0, hwm}
end
if ARGV[2] == 'look' or epoch ~= tonumber(ARGV[3]) then return {epoch, known and 1 or 0, hwm} end

-- How many events were added, and how many are committed, by what stands in the stream: it may be there without its meta.
local function count_events()
  local added = tonumber(redis.call('HGET', KEYS[1], 'added') or 0)
  local first, last = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1], redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  if last then added = math.max(added, tonumber(last[2][6])) end
  local recorded = first and tonumber(first[2][6]) - #cmsgpack.unpack(first[2][8]) or added
  redis.call('HSET', KEYS[1], 'added', string.format('%.0f', added), 'recorded', string.format('%.0f', recorded))
end

if ARGV[2] == 'open' then
  count_events()
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
  if hwm > now then now = hwm end
  epoch, hwm = tonumber(ARGV[4]), now
  redis.call('HSET', KEYS[1], 'epoch', ARGV[4], 'seq', 0, 't0', string.format('%.0f', now), 'hwm', string.format('%.0f', now))
end
redis.call('HSET', KEYS[1], 'id', identity())
return {epoch, 1, hwm}
