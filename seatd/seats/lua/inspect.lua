-- Purpose: read: how full tenants are, who sits, what a lease id or an add-on comes to.  Changes nothing
--        but the clock's high-water mark.
-- KEYS, ARGV: prelude.lua.  Operations: {tenant, "status"}; {tenant, "full"}; {tenant, "who", from rank, how many};
--        {tenant, "addon", key hash, lease, product}; {tenant, "standing", lease or "", user}; {tenant, "key", key hash}
-- Returns {"status", known 0|1, in_use, cap, policy version, now, learns until or 0, how many wait} | {"standing", lease,
--        user, start} | {"full", in_use, cap, refused in the minute that runs, ms that it still learns, how many wait} |
--        {"who", now, seats in both sets, {{user, lease, client, granted, expires, kind, ended or ""}, ...}} |
--        {"named", user} | {"opens"} |
--        addon_not_named | lease_gone reason | unauthorized | forbidden | unknown_tenant | learning until now

local function standing(st, rec, expires)
  if rec[ENDED] ~= '' then return rec[ENDED] end
  local at, reason = cut_at(st, rec)
  if at and at < expires then return reason end
  return ''
end

local function page(st, seats, from, most, rows)
  if most <= 0 then return end
  local list = redis.call('ZRANGE', seats, from, from + most - 1, 'WITHSCORES')
  for i = 1, #list, 2 do
    local rec, expires = load_lease(st, list[i]), tonumber(list[i + 1])
    if rec and expires + Q > NOW then
      rows[#rows + 1] = {list[i], rec[LEASE], rec[CLIENT], rec[GRANTED], expires, rec[KIND], standing(st, rec, expires)}
    end
  end
end

-- Those who stand in line (waiting.lua), whoever has gone left aside.
local function waiting(st) return redis.call('ZCOUNT', st.a, int(2 * NOW + 2), '+inf') end

local function full(st)
  local m = redis.call('HMGET', st.m, 'at', 'denied')
  local runs = m[1] and tonumber(m[1]) + MINUTE > NOW
  return {'full', in_use(st), st.cap, runs and tonumber(m[2]) or 0, st.learning and st.learning - NOW or 0, waiting(st)}
end

local function who(st, from, most)
  local seats, rows = redis.call('ZCARD', st.s), {}
  page(st, st.s, from, math.min(most, seats - from), rows)
  local skip = math.max(from - seats, 0)
  page(st, st.v, skip, most - math.max(math.min(most, seats - from), 0), rows)
  return {'who', NOW, seats + redis.call('ZCARD', st.v), rows}
end

local function addon(st, op)
  local refused = key_refused(st, op[3])
  if refused then return refused end
  -- Whose lease this is the receipt will tell, not what is left of the store.
  local doubt = st.learning and {'learning', st.learning, NOW}
  local meaning = redis.call('HGET', st.x, op[4])
  if not meaning then return doubt or {'lease_gone', 'unknown'} end
  local reason, _, user = unpack(cmsgpack.unpack(meaning))
  if reason ~= '' then return {'lease_gone', reason} end
  local rec = load_lease(st, user)
  if not rec or rec[LEASE] ~= op[4] then return doubt or {'lease_gone', 'unknown'} end
  local expires = expires_of(st, rec, user)
  local over = standing(st, rec, expires)
  if over ~= '' then return {'lease_gone', over} end
  if expires + Q <= NOW then return doubt or {'lease_gone', 'expired'} end
  if named(st, user)[op[5]] then return {'named', user} end
  for product in string.gmatch(st.open, '%S+') do
    if product == op[5] then return {'named', user} end
  end
  return {'addon_not_named'}
end

-- Whose a lease is and since which start, by its id or else by its user: what a tombstone needs.
local function lease_of(st, lease, user)
  if lease ~= '' then
    local meaning = redis.call('HGET', st.x, lease)
    if not meaning then return st.learning and {'learning', st.learning, NOW} or {'not_found'} end
    user = cmsgpack.unpack(meaning)[3]
  end
  local rec = load_lease(st, user)
  if not rec or (lease ~= '' and rec[LEASE] ~= lease) then return {'not_found'} end
  return {'standing', rec[LEASE], user, rec[START]}
end

local function inspect(op)
  local st = tenant_at(op[1])
  if op[2] == 'status' then
    if unknown(st) then return {'status', 0, 0, 0, 0, NOW, 0, 0} end
    return {'status', 1, in_use(st), st.cap, st.version, NOW, st.learning or 0, waiting(st)}
  end
  if unknown(st) then return {'unknown_tenant'} end
  if op[2] == 'standing' then return lease_of(st, op[3], op[4]) end
  if op[2] == 'full' then return full(st) end
  if op[2] == 'who' then return who(st, op[3], op[4]) end
  if op[2] == 'key' then return key_refused(st, op[3]) or {'opens'} end
  return addon(st, op)
end

return run(inspect)
