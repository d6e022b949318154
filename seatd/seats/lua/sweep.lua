-- Purpose: end what ran out, forget what need not be known any more, write the minute's sample, and say
--        when each tenant wants to be looked at again.
-- KEYS, ARGV: prelude.lua.  Operation: {tenant, its name, leases to end at the most}
-- Returns {"swept", leases looked at, 1 where more is waiting}

local function first_score(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return tonumber(first[2]) or math.huge
end

local function forget(st, most)
  local old = redis.call('ZRANGEBYSCORE', st.f, '-inf', int(NOW), 'LIMIT', 0, most)
  for _, field in ipairs(old) do
    redis.call('HDEL', st.x, field)
    redis.call('ZREM', st.f, field)
  end
  return #old
end

local function sweep_tenant(op)
  local st, most = tenant_at(op[1]), op[3]
  if unknown(st) then
    redis.call('ZREM', DUE, op[2])
    return {'swept', 0, 0}
  end
  if st.learning then  -- nothing of the tenant is swept
    redis.call('ZADD', DUE, st.learning, st.name)
    return {'swept', 0, 0}
  end
  local looked = sweep(st, st.s, most)
  looked = looked + sweep(st, st.v, math.max(most - looked, 0))
  local forgot = forget(st, most)
  local m = redis.call('HGET', st.m, 'at')
  if m and tonumber(m) + MINUTE <= NOW then minute(st) end  -- writes the sample of the minute that is over
  local next_at = math.min(first_score(st.s) + Q, first_score(st.v) + Q, first_score(st.f))
  m = redis.call('HGET', st.m, 'at')
  if m then next_at = math.min(next_at, tonumber(m) + MINUTE) end
  if st.minute and st.minute.dirty then next_at = math.min(next_at, st.minute.at + MINUTE) end
  st.due = math.huge
  if next_at < math.huge then redis.call('ZADD', DUE, next_at, st.name)
  else redis.call('ZREM', DUE, st.name) end
  local more = (looked >= most or forgot >= most) and 1 or 0
  return {'swept', looked, more}
end

return run(sweep_tenant)
