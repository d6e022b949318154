-- Purpose: put a tenant's policy into force, if it is newer than the one that stands.  A change that ends
--        leases (another tariff, the contract's end, a suspension, a trial that ran out) opens a new
--        term: a lease of an earlier term is over since the cut, whenever it is next looked at.
-- KEYS, ARGV: prelude.lua.  Operation: {tenant, name, version, tariff or "", cap, ttl, since, suspended
--        or 0, trial or 0, open add-ons "a b", {user, "product product", ...}, {key hash, grant, ...},
--        version of the latest change that ended every lease or 0, its reason, longest ttl that may still
--        run (0: the tenant does not learn), {user, start, reason, ...} tombstones, the epoch that SQL knew
--        when all this was read or 0}
-- Returns {"projected", 1}, {"projected", 0} where a newer version stands, or {"earlier", epoch} where this was read before
--        the epoch was opened (whether the tenant learns, and which receipts are void, is to be read again), or after a
--        later one was: then another node is the primary, and what only this one hears is not in force.

local CUTS_MAX = 64
local CHUNK = 1000
local RHO = 1.01  -- a client's clock may be slow by 1 %

local function write_pairs(key, prefix, list)
  for from = 1, #list, CHUNK do
    local args = {}
    for i = from, math.min(from + CHUNK - 1, #list), 2 do
      args[#args + 1] = prefix .. list[i]
      args[#args + 1] = list[i + 1]
    end
    redis.call('HSET', key, unpack(args))
  end
end

local function cut_reason(st, op)
  local reason = nil
  if st.tariff ~= '' and op[4] == '' then reason = 'contract_ended'
  elseif st.tariff ~= '' and op[4] ~= st.tariff then reason = 'tariff_switched'
  elseif op[8] > 0 and not st.suspended then reason = 'suspended'
  elseif st.version < op[13] then reason = op[14] end
  -- A trial that ran out had ended every lease before, whatever else changes now.
  local over = st.trial and st.trial <= NOW
  if over and (reason or op[9] ~= st.trial) then return st.trial, 'trial_expired' end
  return reason and NOW, reason
end

-- Until when the tenant learns: every receipt from before this epoch is worthless by then.
local function learns_until(st, op)
  if st.name and not st.stale then return st.learning end
  redis.call('DEL', st.c, st.d)
  if op[15] == 0 then return nil end
  local until_ms = T0 + math.ceil(op[15] * RHO) + 2 * DELTA + W + Q
  if until_ms <= NOW then return nil end
  local tombs = op[16]
  for i = 1, #tombs, 3 do
    redis.call('HSET', st.d, tombs[i], cmsgpack.pack({tombs[i + 1], tombs[i + 2]}))
  end
  return until_ms
end

local function project(op)
  local st = tenant_at(op[1])
  if op[17] > tonumber(EPOCH) then return {'earlier', tonumber(EPOCH)} end
  if st.version and not st.stale and st.version >= op[3] then return {'projected', 0} end
  if unknown(st) and op[17] > 0 and op[17] < tonumber(EPOCH) then return {'earlier', tonumber(EPOCH)} end
  local term, cuts = st.term or 1, st.cuts and cmsgpack.unpack(st.cuts) or {}
  if st.name then
    minute(st)  -- the sample of a minute that is over belongs to the old capacity
    local at, reason = cut_reason(st, op)
    if at then
      term = term + 1
      cuts[#cuts + 1] = {term, at, reason}
      if #cuts > CUTS_MAX then table.remove(cuts, 1) end
    end
  end
  if st.name then tell({'policy', op[2], term ~= st.term and 1 or 0}) end
  local packed, learn = cmsgpack.pack(cuts), learns_until(st, op)
  local learn_cap = learn and not unknown(st) and redis.call('HGET', st.t, 'learn_cap')
  redis.call('DEL', st.t, st.b)
  redis.call('SADD', TENANTS, op[2])
  redis.call('HSET', st.t, 'name', op[2], 'v', op[3], 'tariff', op[4], 'cap', op[5], 'ttl', op[6],
    'since', op[7], 'open', op[10], 'term', term, 'cuts', packed, 'epoch', EPOCH, 'ended_v', op[13], 'ended_reason', op[14])
  if learn then
    redis.call('HSET', st.t, 'learn', int(learn))
    if learn_cap then redis.call('HSET', st.t, 'learn_cap', learn_cap) end
    look_again(st, learn)
  elseif st.stale then look_again(st, NOW) end  -- what came back with the store wants to be swept
  if op[8] > 0 then redis.call('HSET', st.t, 'suspended', op[8]) end
  if op[9] > 0 then redis.call('HSET', st.t, 'trial', op[9]) end
  write_pairs(st.b, '', op[11])
  write_pairs(st.t, 'k:', op[12])
  local was = st.cap
  -- The next operation of this call may project the same tenant again: it must find this policy.
  st.name, st.version, st.tariff, st.cap, st.term, st.cuts = op[2], op[3], op[4], op[5], term, packed
  st.stale, st.learning = false, learn
  st.suspended, st.trial = op[8] > 0 and op[8] or nil, op[9] > 0 and op[9] or nil
  if was ~= op[5] then changed(st) end
  return {'projected', 1}
end

return run(project)
