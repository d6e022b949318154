-- Purpose: give seats back.  Acts only on a lease whose start is the receipt's or earlier, so that a
--        late release never ends a later start; all else is answered the same and changes nothing.
-- KEYS, ARGV: prelude.lua.  Operation: {tenant, key hash, lease, user, start}, from the receipt.
-- Returns {"released", 1 where it acted, else 0} | unauthorized | forbidden | unknown_tenant

-- Starts raised within one millisecond run ahead of the clock, so a start alone does not tell that a
-- release of another lease is late; what is remembered of that lease does.
local function known_to_have_ended(st, lease)
  local meaning = redis.call('HGET', st.x, lease)
  return meaning and cmsgpack.unpack(meaning)[1] ~= ''
end

local function release(op)
  local st, lease, user, start = tenant_at(op[1]), op[3], op[4], op[5]
  if not st.name then return {'unknown_tenant'} end
  local refused = key_refused(st, op[2])
  if refused then return refused end
  local rec, expires = load_lease(st, user), 0
  if rec then rec, expires = settle(st, user, rec) end
  if not rec or rec[START] > start then return {'released', 0} end
  if rec[LEASE] ~= lease and (rec[START] == start or known_to_have_ended(st, lease)) then return {'released', 0} end
  if rec[ENDED] == 'released' then return {'released', 0} end
  if rec[ENDED] == '' then
    finish(st, user, rec, 'released', math.max(rec[GRANTED], math.min(NOW, expires)), expires)
  end
  -- An older client that was taken over may believe until the floor: until then the seat is not free.
  if rec[FLOOR] + Q > NOW then
    rec[ENDED] = 'released'
    save_lease(st, user, rec)
    redis.call('ZADD', seats_of(st, rec), rec[FLOOR], user)
    look_again(st, rec[FLOOR] + Q)
    changed(st)
  else
    free(st, user, rec)
  end
  return {'released', 1}
end

local replies = {}
for i, op in ipairs(OPS) do replies[i] = release(op) end
return done(replies)
