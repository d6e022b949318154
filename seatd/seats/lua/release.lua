-- Purpose: give seats back.  Acts only on a lease whose start is the receipt's or earlier, so that a
--        late release never ends a later start; all else is answered the same and changes nothing.
-- KEYS, ARGV: prelude.lua.  Operation: {tenant, key hash, lease, user, start, epoch that SQL knew
--        when the tombstone was written or 0, withdrawn: false or the request id of a grant that nobody heard
--        of}; the three in the middle from the receipt.  Where no tombstone could be, the seat is free only when nobody
--        can come back with the receipt after a loss: at its expires and Q.
-- Returns {"released", 1 where it acted, else 0} | unauthorized | forbidden | unknown_tenant | earlier epoch

-- A grant that could not be delivered is as if it had never been: its request may ask for a seat again.  Not where the
-- request has come again since, and was told.
local function forget_request(rec, op)
  if rec[LEASE] ~= op[3] or rec[START] ~= op[5] then return false end
  for _, r in ipairs(rec[RIDS]) do
    if r[1] == op[7] and r[3] then return false end
  end
  rec[RIDS] = {}
  return true
end

local users = users_at(4)

local function release(op)
  local st, lease, user, start = tenant_at(op[1]), op[3], op[4], op[5]
  if unknown(st) then return {'unknown_tenant'} end
  local refused = key_refused(st, op[2])
  if refused then return refused end
  if other_epoch(op[6]) then return {'earlier', tonumber(EPOCH)} end
  if not st.ahead then
    st.ahead = true
    read_leases(st, users[op[1]])
    read_ends(st, users[op[1]])
  end
  local rec, expires = load_lease(st, user), 0
  if st.learning then  -- nothing is swept, and what is not known here must not come back either
    -- A release that was lost on its way has left its own tombstone; its end is yet to be told.
    local buried, why = tombstone(st, user)
    local late = start < buried or start == buried and why ~= 'released'
    bury(st, user, start, 'released')
    if rec then expires = expires_of(st, rec, user) end
    local meaning = redis.call('HGET', st.x, lease)
    late = late or meaning and cmsgpack.unpack(meaning)[1] ~= ''  -- its end was told when another replaced it
    if (not rec or rec[LEASE] ~= lease) and not late then
      emit({'ended', st.name, NOW, lease, user, 'released'})
      local forget = NOW + Q + st.ttl
      redis.call('HSET', st.x, lease, cmsgpack.pack({'released', NOW, user}))
      redis.call('ZADD', st.f, forget, lease)
      look_again(st, forget)
    end
  elseif rec then rec, expires = settle(st, user, rec) end
  if not rec or rec[START] > start then return {'released', 0} end
  if rec[LEASE] ~= lease and rec[START] == start then return {'released', 0} end
  if rec[ENDED] == 'released' then return {'released', 0} end
  if op[7] and not forget_request(rec, op) then return {'released', 0} end
  if rec[ENDED] == '' then
    finish(st, user, rec, 'released', math.max(rec[GRANTED], math.min(NOW, expires)), expires)
  end
  -- An older client that was taken over may believe until the floor: until then the seat is not free.
  local until_ms = (op[6] > 0 or op[7]) and rec[FLOOR] or expires
  -- The client of an earlier lease, which came back, has not said that it stopped.
  if rec[LEASE] ~= lease then until_ms = math.max(rec[FLOOR], expires) end
  if until_ms + Q > NOW then
    rec[ENDED], rec[FLOOR] = 'released', until_ms
    save_lease(st, user, rec)
    sit(st, rec, user, until_ms)
    look_again(st, until_ms + Q)
    changed(st)
  else
    free(st, user, rec, expires)
  end
  return {'released', 1}
end

return run(release)
