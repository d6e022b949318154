-- Purpose: what every seat script shares: the clock, a tenant's state, how a lease begins and ends,
--          usage events, samples.  store.py puts it in front of each verb; it never runs alone.
--
-- KEYS   1 meta of the partition, 2 usage stream, 3 due (tenant -> when to look again), 4 tenants that
--        have a policy, then for tenant number i of the call twelve keys from 5 + 12*(i-1):
--        t policy and keys   b bindings (user -> "product product")   s seats (user -> expires)
--        v service seats     l leases (user -> packed lease)          x what a lease id or an old
--        request id means, who may not sit yet      f when to forget entries of x      m this minute's sample
--        c who was confirmed while the tenant learns                  d tombstones (user -> packed
--        start, reason), while it learns                              w, a who waits in line (waiting.lua)
-- ARGV   1 packed {q_ms, offset_ms, stream_max, delta_ms, w_ms, expected_ms, its epoch}, 2 packed list of operations; the
--        first item of an operation is its tenant's number.  expected_ms is the time that the store should
--        have, or 0 where the caller has no idea.
-- Returns packed {now, answers, seq of the first event or 0, events, epoch}: an answer an operation, in order; or,
--        with nothing done, packed {"unopened"} (this store is not the one that an epoch was opened on) or
--        {"stepped"} (its clock went forward by more than Q).
--
-- A seat is in use if and only if its holder stands in s with expires + Q still to come.

local Q, OFFSET, STREAM_MAX, DELTA, W, EXPECTED, EXPECTED_IN = unpack(cmsgpack.unpack(ARGV[1]))
local OPS = cmsgpack.unpack(ARGV[2])
local META, STREAM, DUE, TENANTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local MINUTE = 60000
local ENTRY_MAX = 32  -- events that share an entry of the stream, at the most
local SWEEP_MAX = 256  -- leases that one operation may end on its way to a free seat
local FREED_MAX = 8  -- instants at which a full tenant's seats fell free of late, for the pace of its line
local DENIED_MAX = 10000  -- different denials kept apart a tenant and minute

local opened = redis.call('HMGET', META, 'epoch', 'hwm', 'id', 't0', 'seq', 'added', 'recorded')
local EPOCH, T0 = opened[1], tonumber(opened[4])
if not EPOCH or opened[3] ~= identity() then return cmsgpack.pack({'unopened'}) end
local time = redis.call('TIME')
local NOW = time[1] * 1000 + math.floor(time[2] / 1000) + OFFSET
if EXPECTED > 0 and EXPECTED_IN == tonumber(EPOCH) and NOW - EXPECTED > Q then return cmsgpack.pack({'stepped'}) end
local HWM = math.max(tonumber(opened[2] or 0), NOW)
NOW = HWM

-- The number of this epoch's latest event; how many events were ever added, and how many of them are committed elsewhere.
local SEQ, ADDED, RECORDED = tonumber(opened[5] or 0), tonumber(opened[6] or 0), tonumber(opened[7] or 0)

local function int(n) return string.format('%.0f', n) end

-- A lease as it is stored: positions of the packed array.
local LEASE, CLIENT, START, KIND, CAP, GRANTED, FLOOR, TERM, ENDED, RIDS = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10

local tenants = {}  -- state by number, loaded on first use in this call
local events = {}  -- what this call adds to the stream, packed

local function tenant_at(i)
  local st = tenants[i]
  if st then return st end
  local k = 5 + 12 * (i - 1)
  st = {
    t = KEYS[k], b = KEYS[k + 1], s = KEYS[k + 2], v = KEYS[k + 3], l = KEYS[k + 4],
    x = KEYS[k + 5], f = KEYS[k + 6], m = KEYS[k + 7], c = KEYS[k + 8], d = KEYS[k + 9],
    w = KEYS[k + 10], a = KEYS[k + 11],
    keys = {}, due = math.huge, leases = {}, ends = {}, names = {},
  }
  tenants[i] = st
  local p = redis.call('HMGET', st.t, 'name', 'tariff', 'cap', 'ttl', 'since', 'suspended', 'trial', 'open', 'term', 'cuts', 'v', 'epoch', 'learn')
  if not p[1] then return st end
  st.stale = p[12] ~= EPOCH  -- a policy of another epoch is unknown, and only told for what it ended
  st.name, st.tariff, st.cap, st.ttl = p[1], p[2], tonumber(p[3]), tonumber(p[4])
  st.since, st.suspended, st.trial = tonumber(p[5]), tonumber(p[6]), tonumber(p[7])
  st.open, st.term, st.cuts, st.version = p[8], tonumber(p[9]), p[10], tonumber(p[11])
  if p[13] and not st.stale then
    st.learning = tonumber(p[13]) > NOW and tonumber(p[13])
    if not st.learning then
      redis.call('HDEL', st.t, 'learn', 'learn_cap')
      redis.call('DEL', st.c, st.d)
    end
  end
  return st
end

-- What SQL decided in another epoch than this one: its caller asks there again, and finds the primary of now.
local function other_epoch(epoch) return epoch > 0 and epoch ~= tonumber(EPOCH) end

local function unknown(st) return not st.name or st.stale end

-- nil where the key opens the client routes of this tenant, else the refusal.
local function key_refused(st, hash)
  local known = st.keys[hash]
  if known == nil then
    known = 'unauthorized'
    local grant = redis.call('HGET', st.t, 'k:' .. hash)
    if grant then
      local scope, expires = string.match(grant, '^(%S+) (%S+)')
      if tonumber(expires) > 0 and tonumber(expires) <= NOW then known = 'unauthorized'
      elseif scope ~= 'client' then known = 'forbidden'
      else known = '' end
    end
    st.keys[hash] = known
  end
  if known == '' then return nil end
  return {known}
end

local function emit_packed(packed) events[#events + 1] = packed end

local function emit(event) emit_packed(cmsgpack.pack(event)) end

-- The events of a call share entries: an entry costs more than all that stands in it.  Each says the number of its last
-- event, and how many there have been with it.
local function write_events()
  for from = 1, #events, ENTRY_MAX do
    local upto = math.min(from + ENTRY_MAX - 1, #events)
    local array = string.char(0xdc, 0, upto - from + 1) .. table.concat(events, '', from, upto)
    redis.call('XADD', STREAM, '*', 'p', EPOCH, 's', int(SEQ + upto), 'a', int(ADDED + upto), 'e', array)
  end
end

-- What is published bears the name of the partition's meta key; who does not hear it misses nothing that it will not
-- be told at the next renewal.
local function tell(news) redis.call('PUBLISH', META, cmsgpack.pack(news)) end

-- The users whom a call's operations name at position `at`, by tenant's number; and each operation's place among them.
local function users_at(at)
  local users, places = {}, {}
  for i, op in ipairs(OPS) do
    local of = users[op[1]]
    if not of then
      of = {}
      users[op[1]] = of
    end
    of[#of + 1] = op[at]
    places[i] = #of
  end
  return users, places
end

local function in_use(st)
  if not st.count then st.count = redis.call('ZCOUNT', st.s, '(' .. int(NOW - Q), '+inf') end
  return st.count
end

-- The minute's sample: made on the first change of a minute, written on the first change after it.
local function minute(st)
  if st.minute then return st.minute end
  local at = NOW - NOW % MINUTE
  local m = redis.call('HMGET', st.m, 'at', 'use', 'peak', 'denied', 'waiting', 'freed')
  local was = tonumber(m[1])
  if was and was < at then
    emit({'sample', st.name, was, tonumber(m[2]), tonumber(m[3]), st.cap or 0, tonumber(m[5]) or 0, tonumber(m[4])})
    redis.call('DEL', st.m)
    redis.call('HSET', st.m, 'use', m[2])  -- the next minute begins as full as this one ended
    if m[6] then redis.call('HSET', st.m, 'freed', m[6]) end
  end
  if was == at then
    st.minute = {
      at = at, use = tonumber(m[2]), peak = tonumber(m[3]), denied = tonumber(m[4]), waiting = tonumber(m[5]) or 0,
    }
  else
    local use = tonumber(m[2]) or 0
    st.minute = {at = at, use = use, peak = use, denied = 0, waiting = 0}
  end
  st.minute.freed = m[6] and cmsgpack.unpack(m[6]) or {}
  return st.minute
end

local function look_again(st, at)
  if at < st.due then st.due = at end
end

-- Every change of how full a tenant is passes here.
local function changed(st)
  local m = minute(st)
  m.use = in_use(st)
  if m.use > m.peak then m.peak = m.use end
  m.dirty = true
  look_again(st, m.at + MINUTE)
end

local function denied(st, user, reason)
  local m = minute(st)
  local field = 'd:' .. reason .. ':' .. user
  if redis.call('HEXISTS', st.m, field) == 1 then return end
  m.denied = m.denied + 1
  changed(st)
  if m.denied > DENIED_MAX then return end
  redis.call('HSET', st.m, field, 1)
  emit({'denied', st.name, NOW, user, reason})
end

local function seats_of(st, rec)
  if rec[KIND] == 'service' then return st.v end
  return st.s
end

-- What is read of many users at once stands in st.leases, st.ends and st.names, false where there is nothing, until
-- this call writes it.
local function read_leases(st, users)
  st.leases = {}
  for i, packed in ipairs(redis.call('HMGET', st.l, unpack(users))) do st.leases[users[i]] = packed end
end

local function read_ends(st, users)
  st.ends = {}
  for i, score in ipairs(redis.call('ZMSCORE', st.s, unpack(users))) do st.ends[users[i]] = score end
end

local function read_names(st, users)
  st.names = {}
  for i, products in ipairs(redis.call('HMGET', st.b, unpack(users))) do st.names[users[i]] = products end
end

local function expires_of(st, rec, user)
  local seats = seats_of(st, rec)
  local score
  if seats == st.s then score = st.ends[user] end
  if score == nil then score = redis.call('ZSCORE', seats, user) end
  return tonumber(score or 0)
end

local function load_lease(st, user)
  local packed = st.leases[user]
  if packed == nil then packed = redis.call('HGET', st.l, user) end
  if packed then return cmsgpack.unpack(packed) end
  return nil
end

local function save_lease(st, user, rec)
  redis.call('HSET', st.l, user, cmsgpack.pack(rec))
  st.leases[user] = nil
end

-- How many stand in s, those that ran out and were not swept among them.
local function standing_in(st)
  if not st.card then st.card = redis.call('ZCARD', st.s) end
  return st.card
end

-- Gives the user a seat until that instant, which is to come.  Who stands in s already is counted: settle has taken out
-- whoever ran out.
local function sit(st, rec, user, until_ms)
  local seats = seats_of(st, rec)
  local new = redis.call('ZADD', seats, until_ms, user)
  if seats == st.s then
    st.ends[user] = nil
    if new == 1 and st.card then st.card = st.card + 1 end
    if new == 1 and st.count then st.count = st.count + 1 end
  end
end

-- Takes the seat that the user had until `expires`.
local function stand_up(st, seats, user, expires)
  local had = redis.call('ZREM', seats, user)
  if seats == st.s then
    st.ends[user] = nil
    if had == 1 and st.card then st.card = st.card - 1 end
    if had == 1 and st.count and expires + Q > NOW then st.count = st.count - 1 end
  end
end

local function request_field(user, client, rid) return 'q ' .. user .. ' ' .. client .. ' ' .. rid end
local function hold_field(user) return 'h ' .. user end

-- The lease is over: one event, and what its id and its request ids mean is kept a ttl more.
local function finish(st, user, rec, reason, at, expires)
  emit({'ended', st.name, at, rec[LEASE], user, reason})
  local forget = math.max(expires, NOW) + Q + st.ttl
  redis.call('HSET', st.x, rec[LEASE], cmsgpack.pack({reason, at, user}))
  redis.call('ZADD', st.f, forget, rec[LEASE])
  for _, r in ipairs(rec[RIDS]) do
    local field = request_field(user, rec[CLIENT], r[1])
    redis.call('HSET', st.x, field, cmsgpack.pack({reason, r[2]}))
    redis.call('ZADD', st.f, forget, field)
  end
  look_again(st, forget)
  rec[ENDED] = reason
  -- The user's next start is later than this one, though starts may have run ahead of the clock.
  if rec[START] >= HWM then HWM = rec[START] + 1 end
end

-- Nobody can believe in the seat any more.
local function free(st, user, rec, expires)
  local m = minute(st)
  local was = m.use
  stand_up(st, seats_of(st, rec), user, expires)
  redis.call('HDEL', st.l, user)
  st.leases[user] = nil
  changed(st)
  if was >= st.cap and m.use < was then
    m.freed[#m.freed + 1] = NOW
    if #m.freed > FREED_MAX then table.remove(m.freed, 1) end
    m.moved = true
  end
end

-- Where and why the account's own changes ended a lease: instant, reason; nil where they did not.
local function cut_at(st, rec)
  if rec[TERM] < st.term then
    for _, cut in ipairs(cmsgpack.unpack(st.cuts)) do
      if cut[1] > rec[TERM] then return cut[2], cut[3] end
    end
    return NOW, 'tariff_switched'  -- older than every cut that is remembered
  end
  if st.trial and st.trial <= NOW then return st.trial, 'trial_expired' end
  return nil
end

local function tombstone(st, user)
  local packed = redis.call('HGET', st.d, user)
  if not packed then return 0, '' end
  return unpack(cmsgpack.unpack(packed))
end

-- While a tenant learns: receipts of `user` up to this start are worth nothing any more.
local function bury(st, user, start, reason)
  if start > tombstone(st, user) then redis.call('HSET', st.d, user, cmsgpack.pack({start, reason})) end
  local rec = load_lease(st, user)
  if not rec or rec[START] <= start then redis.call('SREM', st.c, user) end
end

local function named(st, user)
  local products = {}
  local packed = st.names[user]
  if packed == nil then packed = redis.call('HGET', st.b, user) end
  if packed then
    for product in string.gmatch(packed, '%S+') do products[product] = true end
  end
  return products
end

-- Ends a lease that was cut: at the cut, or at its expires where that came first.
local function cut_short(st, user, rec, reason, at, expires)
  if at >= expires then reason = 'expired' end
  finish(st, user, rec, reason, math.max(math.min(at, expires), rec[GRANTED]), expires)
  save_lease(st, user, rec)
end

-- The holder's lease as it stands now: ends what is over, frees what nobody can believe in.
-- Returns the lease (its ENDED is '' while it lives) and its expires, or nil and 0.
local function settle(st, user, rec)
  local expires = expires_of(st, rec, user)
  if rec[ENDED] == '' then
    local at, reason = cut_at(st, rec)
    if at then cut_short(st, user, rec, reason, at, expires)
    elseif expires + Q <= NOW then
      finish(st, user, rec, 'expired', expires, expires)
    end
  end
  if rec[ENDED] ~= '' and expires + Q <= NOW then
    free(st, user, rec, expires)
    return nil, 0
  end
  return rec, expires
end

-- Ends up to `most` leases whose time is over, the oldest first; returns how many it looked at.
local function sweep(st, seats, most)
  local over = redis.call('ZRANGEBYSCORE', seats, '-inf', int(NOW - Q), 'LIMIT', 0, most)
  for _, user in ipairs(over) do
    local rec = load_lease(st, user)
    if rec and seats_of(st, rec) == seats then settle(st, user, rec)
    else stand_up(st, seats, user, 0) end
  end
  return #over
end

-- The end of every script: what the call changed is written once a tenant, what it added once.
local function done(replies)
  for _, st in pairs(tenants) do
    local m = st.minute
    if m and m.dirty then
      redis.call('HSET', st.m, 'at', int(m.at), 'use', m.use, 'peak', m.peak, 'denied', m.denied, 'waiting', m.waiting)
      if m.moved then redis.call('HSET', st.m, 'freed', cmsgpack.pack(m.freed)) end
    end
    if st.due < math.huge then redis.call('ZADD', DUE, 'LT', st.due, st.name) end
  end
  write_events()
  redis.call('HSET', META, 'hwm', int(HWM), 'seq', int(SEQ + #events), 'added', int(ADDED + #events))
  return cmsgpack.pack({NOW, replies, #events > 0 and SEQ + 1 or 0, events, tonumber(EPOCH)})
end

-- Answers each operation in turn.  One that fails takes no event of those before it along, for their leases have changed.
local function run(each, finish)
  local replies = {}
  local whole, failure = pcall(function()
    for i, op in ipairs(OPS) do replies[i] = each(op, i) end
  end)
  if finish then finish() end
  local packed = done(replies)
  if not whole then error(failure, 0) end
  return packed
end
