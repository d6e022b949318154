-- Purpose: extend leases whose receipts seatd made.  Nothing here counts seats: a holder that stands
--        in the set has its seat, and one that was swept is gone.
-- KEYS, ARGV: prelude.lua.  Operation: {tenant, key hash, lease, user, start, expires}, the last
--        three from the receipt.
-- Returns {"renewed", start, expires, ttl, kind, cap} or {"lease_gone", reason} | unauthorized |
--        forbidden | unknown_tenant

-- Why the lease of this receipt is lost.  `rec` is what its user has now, or nil.
local function gone(st, rec, op)
  local lease, start, expires = op[3], op[5], op[6]
  local meaning = redis.call('HGET', st.x, lease)
  local reason = meaning and cmsgpack.unpack(meaning)[1] or ''
  if reason ~= '' then return {'lease_gone', reason} end
  if rec and rec[LEASE] == lease then return {'lease_gone', 'taken_over'} end
  if expires + Q <= NOW then return {'lease_gone', 'expired'} end
  return {'lease_gone', rec and rec[START] > start and 'taken_over' or 'unknown'}
end

-- A named seat and a service seat live only while the name stands in the bindings.
local function unnamed(st, user, rec)
  if rec[KIND] == 'team' then return false end
  return not named(st, user)[rec[KIND]]
end

local function renew(op)
  local st, lease, user, start = tenant_at(op[1]), op[3], op[4], op[5]
  if not st.name then return {'unknown_tenant'} end
  local refused = key_refused(st, op[2])
  if refused then return refused end
  local rec = load_lease(st, user)
  if not rec or rec[LEASE] ~= lease or start < rec[START] then return gone(st, rec, op) end
  if rec[ENDED] ~= '' then return {'lease_gone', rec[ENDED]} end
  local expires = expires_of(st, rec, user)
  local at, reason = cut_at(st, rec)
  if not at and unnamed(st, user, rec) then at, reason = NOW, 'revoked' end
  if at then
    cut_short(st, user, rec, reason, at, expires)
    return {'lease_gone', rec[ENDED]}
  end
  if start > rec[START] then
    rec[START] = start
    save_lease(st, user, rec)
  end
  local late = expires + Q <= NOW
  expires = math.max(expires, op[6], NOW + st.ttl)
  redis.call('ZADD', seats_of(st, rec), expires, user)
  if late then  -- nobody had swept it, so nobody has been given its place
    st.count = nil
    changed(st)
  end
  return {'renewed', rec[START], expires, st.ttl, rec[KIND], rec[CAP]}
end

local replies = {}
for i, op in ipairs(OPS) do replies[i] = renew(op) end
return done(replies)
