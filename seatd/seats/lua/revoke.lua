-- Purpose: end leases by the vendor's or the customer's word.  The seat is free once its client cannot
--        believe in it any more; forced, at once.
-- KEYS, ARGV: prelude.lua.  Operation: {tenant, lease or "", user or "", only of this kind or "",
--        force 0|1, latest start that was buried, hold_ms, epoch that SQL knew then}; the lease is looked up where
--        one is named, else the user's.  For hold_ms the user may not sit again, with force neither; 0 lifts what an
--        earlier word holds.
-- Returns {"revoked", lease, user, free_at} | not_found | unknown_tenant | later start (a holder's newer acquire
--        than the one that was buried) | learning until now (what is not known may come back) | earlier epoch

local function hold(st, user, hold_ms)
  local field, until_ms = hold_field(user), NOW + hold_ms
  if hold_ms > 0 then
    redis.call('HSET', st.x, field, cmsgpack.pack({'', until_ms, user}))
    redis.call('ZADD', st.f, until_ms, field)
    look_again(st, until_ms)
  elseif redis.call('HDEL', st.x, field) == 1 then
    redis.call('ZREM', st.f, field)
  end
end

local function revoke(op)
  local st, lease, user = tenant_at(op[1]), op[2], op[3]
  if unknown(st) then return {'unknown_tenant'} end
  if other_epoch(op[8]) then return {'earlier', tonumber(EPOCH)} end
  if lease ~= '' then
    local meaning = redis.call('HGET', st.x, lease)
    if not meaning then return st.learning and {'learning', st.learning, NOW} or {'not_found'} end
    user = cmsgpack.unpack(meaning)[3]
  end
  local rec, expires = load_lease(st, user), 0
  if st.learning then
    bury(st, user, op[6], 'revoked')
    if rec then expires = expires_of(st, rec, user) end
  elseif rec then rec, expires = settle(st, user, rec) end
  if not rec or (lease ~= '' and rec[LEASE] ~= lease) then return {'not_found'} end
  if op[4] ~= '' and rec[KIND] ~= op[4] then return {'not_found'} end
  if rec[START] > op[6] then return {'later', rec[START]} end
  if rec[ENDED] == '' then
    finish(st, user, rec, 'revoked', math.max(rec[GRANTED], math.min(NOW, expires)), expires)
    tell({'ended', st.name, rec[LEASE], 'revoked'})
  end
  hold(st, user, op[7])
  if op[5] == 1 then
    free(st, user, rec, expires)
    return {'revoked', rec[LEASE], user, NOW}
  end
  save_lease(st, user, rec)
  look_again(st, expires + Q)
  return {'revoked', rec[LEASE], user, expires + Q}
end

return run(revoke)
