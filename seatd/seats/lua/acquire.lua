-- Purpose: grant, extend or move a seat; refuse with the reason.  Lease and usage event are one atom.
-- KEYS, ARGV: prelude.lua, waiting.lua.  Operation: {tenant, key hash, user, client, request id or "", its
--        fingerprint, takeover 0|1, add-ons asked for or false, id for a new lease, labels or false,
--        0 stand in no line | 1 wait in line, and be no denial | 2 stand in line, and be denied,
--        order of its ticket or 0, until when that is worth something}
-- Returns {"granted", new 0|1, lease, start, expires, ttl, kind, cap, {add-on}, policy version} or a refusal:
--        {code, ...}: no_seat in_use capacity next_expiry now q waiting position order eta (0: in no line,
--        unknown) | seat_elsewhere client since |
--        not_named product | addon_not_named product | suspended since | trial_expired since |
--        no_tariff since | request_id_reused | lease_gone reason | conflict reason free_at now |
--        unauthorized | forbidden | unknown_tenant | stream_full | busy | learning until now order

local RIDS_MAX = 32
local users = users_at(3)
local full = ADDED - RECORDED >= STREAM_MAX

local function deny(st, user, answer)
  denied(st, user, answer[1])
  if answer[1] ~= 'no_seat' then leave(st, user) end  -- waiting would not help
  return answer
end

local function may_work(st)
  if st.suspended then return {'suspended', st.suspended} end
  if st.trial and st.trial <= NOW then return {'trial_expired', st.trial} end
  if st.tariff == '' then return {'no_tariff', st.since} end
  return nil
end

-- The add-ons of the reply, or nil and the product that the user is not named for.
local function addons_of(st, products, asked)
  local open, list = {}, {}
  for product in string.gmatch(st.open, '%S+') do open[product] = true end
  if asked then
    for _, product in ipairs(asked) do
      if not products[product] and not open[product] then return nil, product end
    end
    return asked
  end
  for product in pairs(products) do
    if product ~= 'agent' and product ~= 'team' and product ~= 'service' then list[#list + 1] = product end
  end
  table.sort(list)
  return list
end

local function remember(rec, rid, fingerprint)
  if rid == '' then return end
  local rids = rec[RIDS]
  rids[#rids + 1] = {rid, fingerprint}
  if #rids > RIDS_MAX then table.remove(rids, 1) end
end

local function granted(st, user, rec, new, expires, addons)
  leave(st, user)
  sit(st, rec, user, expires)
  look_again(st, expires + Q)
  return {'granted', new, rec[LEASE], rec[START], expires, st.ttl, rec[KIND], rec[CAP], addons, st.version}
end

-- The holder asks again: the lease is extended; a new request makes earlier receipts worthless.
local function again(st, op, rec, expires, addons)
  local rid, fingerprint = op[5], op[6]
  local known = false
  for _, r in ipairs(rec[RIDS]) do
    if r[1] == rid and rid ~= '' then
      if r[2] ~= fingerprint then return {'request_id_reused'} end
      known = true
      if not r[3] then  -- its answer has been told once more: it can be withdrawn no longer
        r[3] = 1
        save_lease(st, op[3], rec)
      end
    end
  end
  if not known then
    rec[START] = math.max(NOW, rec[START] + 1)
    remember(rec, rid, fingerprint)
    save_lease(st, op[3], rec)
  end
  return granted(st, op[3], rec, 0, math.max(expires, NOW + st.ttl), addons)
end

local function begin(st, op, kind, cap, floor, after, addons, expires)
  local user = op[3]
  local start = math.max(NOW, after + 1)
  local rec = {op[9], op[4], start, kind, cap, start, floor, st.term, '', {}}
  remember(rec, op[5], op[6])
  save_lease(st, user, rec)
  redis.call('HSET', st.x, rec[LEASE], cmsgpack.pack({'', 0, user}))
  emit({'started', st.name, start, rec[LEASE], user, kind, op[10]})
  local answer = granted(st, user, rec, 1, math.max(expires, NOW + st.ttl), addons)
  changed(st)
  return answer
end

local function ticket_of(op) return op[13] > NOW and op[12] or 0 end

-- The refusal of one for whom no seat is left: who wants to wait stands in line from now on.
local function full_house(st, op, used, ahead)
  local order, position, eta = 0, 0, 0
  if op[11] > 0 then order = join(st, op[3], ticket_of(op), NOW + PATIENCE) end
  if order > 0 then
    position = ahead + 1
    eta = eta_of(st, position)
  end
  offer(st, st.cap - used)
  local first = redis.call('ZRANGEBYSCORE', st.s, '(' .. int(NOW - Q), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local waiting = redis.call('ZCARD', st.w)
  return {'no_seat', used, st.cap, tonumber(first[2] or 0), NOW, Q, waiting, position, order, eta}
end

-- nil where a seat is free for this user, else the refusal: those who stand in line before it come first.  What has
-- run out is ended first, so that the ledger never shows more open leases than seats, even where one is renewed late.
-- `own` is 1 where the user has one that is kept, else 0.
local function no_seat(st, op, own)
  local user = op[3]
  local ahead = line_of(st)
  -- A seat that is kept for its user is nobody else's.
  if own == 1 then ahead = 0
  elseif ahead > 0 then ahead = ahead_of(st, ahead, order_of(st, user, ticket_of(op))) end
  local taken = standing_in(st) - own + ahead
  if taken >= st.cap then
    sweep(st, st.s, math.min(taken - st.cap + 1, SWEEP_MAX))
    taken = standing_in(st) - own + ahead
  end
  if taken < st.cap then return nil end
  local used = in_use(st)
  if used - own + ahead < st.cap then return {'busy'} end
  return full_house(st, op, used, ahead)
end

-- The user's lease, where this acquire would go on with it: ended if the name that carried it is gone.  A
-- service seat never counted, so it goes at once; a named one stays until its client cannot believe in it.
local function still_named(st, op, rec, expires, products)
  local wants_it = rec[ENDED] == '' and (rec[CLIENT] == op[4] or op[7] == 1)
  if not wants_it or rec[KIND] == 'team' or products[rec[KIND]] then return rec end
  cut_short(st, op[3], rec, 'revoked', NOW, expires)
  if rec[KIND] ~= 'service' then return rec end
  free(st, op[3], rec, expires)
  return nil
end

-- As what the user would sit (nil where the tariff names others), and what the user is named for.
local function kind_of(st, user)
  local products = named(st, user)
  if products.service then return 'service', products end
  if st.tariff == 'agent' and not products.agent then return nil, products end
  return st.tariff, products
end

-- While the tenant learns nobody sits down, but the line is formed: it stands until that is over.
local function learning(st, op)
  local order = 0
  if op[11] > 0 and not may_work(st) then
    local kind = kind_of(st, op[3])
    if kind and kind ~= 'service' then
      line_of(st)
      order = join(st, op[3], ticket_of(op), st.learning + PATIENCE)
    end
  end
  return {'learning', st.learning, NOW, order}
end

-- Until when a revocation keeps the user from sitting again; what is over is forgotten by the sweep.
local function held_until(packed) return packed and cmsgpack.unpack(packed)[2] or 0 end

-- What is known of the request, and what holds the user.
local function known_of(st, user, client, rid)
  if rid == '' then return false, redis.call('HGET', st.x, hold_field(user)) end
  return unpack(redis.call('HMGET', st.x, request_field(user, client, rid), hold_field(user)))
end

local function acquire(op)
  local st, user, client = tenant_at(op[1]), op[3], op[4]
  if unknown(st) then return {'unknown_tenant'} end
  local refused = key_refused(st, op[2])
  if refused then return refused end
  if st.learning then return learning(st, op) end
  if full then return {'stream_full'} end
  if not st.ahead then
    st.ahead = true
    read_leases(st, users[op[1]])
    read_names(st, users[op[1]])
  end
  refused = may_work(st)
  if refused then return deny(st, user, refused) end
  local kind, products = kind_of(st, user)
  if not kind then return deny(st, user, {'not_named', 'agent'}) end
  local addons, missing = addons_of(st, products, op[8])
  if not addons then return deny(st, user, {'addon_not_named', missing}) end

  local rec, expires = load_lease(st, user), 0
  if rec then rec, expires = settle(st, user, rec) end
  local after = rec and rec[START] or 0
  if rec then rec = still_named(st, op, rec, expires, products) end
  local old, hold = known_of(st, user, client, op[5])
  if old then
    old = cmsgpack.unpack(old)
    if old[2] ~= op[6] then return {'request_id_reused'} end
    return {'lease_gone', old[1]}
  end
  if rec and rec[ENDED] == '' then
    if rec[CLIENT] == client then return again(st, op, rec, expires, addons) end
    if op[7] ~= 1 then return deny(st, user, {'seat_elsewhere', rec[CLIENT], rec[GRANTED]}) end
    -- The old client may believe until its expiry: that is the new lease's floor.
    finish(st, user, rec, 'taken_over', math.max(rec[GRANTED], math.min(NOW, expires)), expires)
    return begin(st, op, rec[KIND], math.max(rec[CAP], st.cap), math.max(rec[FLOOR], expires), after, addons, expires)
  end
  local held = held_until(hold)
  if rec and rec[ENDED] ~= 'released' then
    return deny(st, user, {'conflict', rec[ENDED], math.max(expires + Q, held), NOW})
  end
  if held > NOW then return deny(st, user, {'conflict', 'revoked', held, NOW}) end
  local floor = 0
  if rec then  -- released, and an older client of the same user may still believe: the seat is theirs
    floor = rec[FLOOR]
    if rec[KIND] ~= kind then return deny(st, user, {'conflict', 'released', expires + Q, NOW}) end
  end
  if kind ~= 'service' then
    refused = no_seat(st, op, rec and 1 or 0)
    if refused then
      local waits = op[11] == 1 and refused[9] ~= 0
      if refused[1] == 'busy' or waits then return refused end
      return deny(st, user, refused)
    end
  end
  return begin(st, op, kind, st.cap, floor, after, addons, rec and expires or 0)
end

return run(acquire)
