-- Purpose: extend leases whose receipts seatd made.  Nothing here counts seats: a holder that stands
--        in the set has its seat, and one that was swept is gone.  While the tenant learns, the receipt
--        is what is believed: who presents one is confirmed, whether the lease came back or not.
--        Else what a call's renewals of a tenant need is read by two commands and written by one.
-- KEYS, ARGV: prelude.lua.  Operation: {tenant, key hash, lease, user, start, expires, client, kind, cap,
--        policy version}, all but the first two from the receipt.
-- Returns {"renewed", start, expires, ttl, kind, cap, policy version} or {"lease_gone", reason} | unauthorized |
--        forbidden | unknown_tenant | learning until now

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

local function renewed(st, rec, expires)
  return {'renewed', rec[START], expires, st.ttl, rec[KIND], rec[CAP], st.version}
end

-- Whether the account lets the receipt's lease go on: nil, or why it is over.
local function over(st, op)
  local user, start, kind, version = op[4], op[5], op[8], op[10]
  local buried, reason = tombstone(st, user)
  if start <= buried then return reason end
  local ended = redis.call('HMGET', st.t, 'ended_v', 'ended_reason')
  if version < tonumber(ended[1]) then return ended[2] end
  if st.suspended then return 'suspended' end
  if st.trial and st.trial <= NOW then return 'trial_expired' end
  if kind ~= 'service' and kind ~= st.tariff then return 'tariff_switched' end
  if kind ~= 'team' and not named(st, user)[kind] then return 'revoked' end
  return nil
end

-- An earlier lease that a rollback or its own client brought back: the user has moved on since.  Returns until when that
-- client may believe.
local function replaced(st, user, rec)
  local expires = expires_of(st, rec, user)
  if rec[ENDED] == '' then
    finish(st, user, rec, 'taken_over', math.max(rec[GRANTED], math.min(NOW, expires)), expires)
  end
  redis.call('ZREM', seats_of(st, rec), user)
  return math.max(rec[FLOOR], expires)
end

-- Fewer others are confirmed than there were seats: today's cap, the receipt's, or that of anyone confirmed.  Who
-- sat beside many when the cap was high is not refused because another came first.
local function has_room(st, user, cap)
  if redis.call('SISMEMBER', st.c, user) == 1 then return true end
  local highest = tonumber(redis.call('HGET', st.t, 'learn_cap') or 0)
  return redis.call('SCARD', st.c) < math.max(st.cap, cap, highest)
end

local function note_confirmed(st, user, cap)
  redis.call('SADD', st.c, user)
  if cap > tonumber(redis.call('HGET', st.t, 'learn_cap') or 0) then redis.call('HSET', st.t, 'learn_cap', cap) end
end

-- While the tenant learns.  What is in doubt is answered `learning`, never that the lease is gone.
local function confirm(st, op)
  local lease, user, start, expires, kind = op[3], op[4], op[5], op[6], op[8]
  local doubt = {'learning', st.learning, NOW}
  local reason = over(st, op)
  if reason then return {'lease_gone', reason} end
  local rec = load_lease(st, user)
  if rec and rec[START] > start then return gone(st, rec, op) end
  -- What ended here was an earlier start of it, if the receipt is of a later one.
  if rec and rec[LEASE] == lease and rec[ENDED] ~= '' and start == rec[START] then return {'lease_gone', rec[ENDED]} end
  if NOW + DELTA > expires then return doubt end
  if kind ~= 'service' and not has_room(st, user, op[9]) then return doubt end
  local stands = 0
  if rec and rec[LEASE] == lease then
    stands = expires_of(st, rec, user)
    rec[START], rec[TERM], rec[ENDED] = start, st.term, ''
    redis.call('HSET', st.x, lease, cmsgpack.pack({'', 0, user}))
    redis.call('ZREM', st.f, lease)
  else
    if rec then stands = replaced(st, user, rec) end
    rec = {lease, op[7], start, kind, op[9], start, stands, st.term, '', {}}
    redis.call('HSET', st.x, lease, cmsgpack.pack({'', 0, user}))
    redis.call('ZREM', st.f, lease)
    emit({'adopted', st.name, NOW, lease, user, kind})
  end
  save_lease(st, user, rec)
  if kind ~= 'service' then note_confirmed(st, user, op[9]) end
  expires = math.max(stands, expires, NOW + st.ttl)
  redis.call('ZADD', seats_of(st, rec), expires, user)
  look_again(st, expires + Q)
  st.count = nil
  changed(st)
  return renewed(st, rec, expires)
end

local users, places = users_at(4)

local function write_extended(st)
  if not st.extended or #st.extended == 0 then return end
  redis.call('ZADD', st.s, unpack(st.extended))
  st.extended = {}
end

-- The lease of a user as it stands, and its expires; nil where there is none.
local function standing(st, number, place, user)
  if not st.extended then
    local of = users[number]
    st.extended, st.touched = {}, {}
    st.packed, st.expiries = redis.call('HMGET', st.l, unpack(of)), redis.call('ZMSCORE', st.s, unpack(of))
  end
  if st.touched[user] then  -- an operation before this one may have changed it
    write_extended(st)
    local rec = load_lease(st, user)
    return rec, rec and expires_of(st, rec, user)
  end
  st.touched[user] = true
  local packed = st.packed[place]
  if not packed then return nil end
  local rec = cmsgpack.unpack(packed)
  if rec[KIND] == 'service' then return rec, expires_of(st, rec, user) end
  return rec, tonumber(st.expiries[place] or 0)
end

local function extend(st, user, rec, expires)
  if rec[KIND] == 'service' then redis.call('ZADD', st.v, expires, user) return end
  local list = st.extended
  list[#list + 1] = expires
  list[#list + 1] = user
end

local function renew(op, i)
  local st, lease, user, start = tenant_at(op[1]), op[3], op[4], op[5]
  if unknown(st) then return {'unknown_tenant'} end
  local refused = key_refused(st, op[2])
  if refused then return refused end
  if st.learning then return confirm(st, op) end
  local rec, expires = standing(st, op[1], places[i], user)
  if not rec or rec[LEASE] ~= lease or start < rec[START] then return gone(st, rec, op) end
  if rec[ENDED] ~= '' then return {'lease_gone', rec[ENDED]} end
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
  extend(st, user, rec, expires)
  if late then  -- nobody had swept it, so nobody has been given its place
    write_extended(st)
    st.count = nil
    changed(st)
  end
  return renewed(st, rec, expires)
end

local function write_all()
  for _, st in pairs(tenants) do write_extended(st) end
end

return run(renew, write_all)
