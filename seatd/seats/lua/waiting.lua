-- Purpose: the line of a tenant: who stands in it, in which order, who may sit down next.  store.py puts it in front of
--          the scripts that look at the line; it never runs alone.
--
-- w has each waiter's order: the instant of joining, which nobody else has.  a has until when a waiter stands: PATIENCE
-- after it was last seen, or TAKE_IT after a seat was offered; in one number, twice the instant, odd where it was offered.
-- Whoever stands no more is as good as gone, and dropped by whichever script looks next.

local PATIENCE = 10000
local TAKE_IT = 2000
local PURGE_MAX = 256
local OFFER_MAX = 256

local function leave(st, user)
  if st.nobody_waits then return end
  if redis.call('ZREM', st.w, user) == 1 then redis.call('ZREM', st.a, user) end
end

-- The most that waited in a minute are its sample's.
local function note_waiting(st, waiting)
  local m = minute(st)
  if waiting > m.waiting then
    m.waiting = waiting
    changed(st)
  end
end

-- How many stand in line, once those who have gone are dropped.
local function line_of(st)
  if not st.nobody_waits then st.nobody_waits = redis.call('ZCARD', st.w) == 0 end
  if st.nobody_waits then return 0 end
  local gone = redis.call('ZRANGEBYSCORE', st.a, '-inf', '(' .. int(2 * NOW + 2), 'LIMIT', 0, PURGE_MAX)
  if #gone > 0 then
    redis.call('ZREM', st.w, unpack(gone))
    redis.call('ZREM', st.a, unpack(gone))
  end
  local waiting = redis.call('ZCARD', st.w)
  if waiting > 0 then note_waiting(st, waiting) end
  return waiting
end

-- The user's turn: what the line knows or the ticket says, whichever is earlier; 0 where neither does.
local function order_of(st, user, ticket)
  local stored = tonumber(redis.call('ZSCORE', st.w, user) or 0)
  if stored == 0 or ticket == 0 then return math.max(stored, ticket), stored end
  return math.min(stored, ticket), stored
end

-- Whoever stands before that order, all where there is none.
local function ahead_of(st, waiting, order)
  if waiting == 0 or order == 0 then return waiting end
  return redis.call('ZCOUNT', st.w, '-inf', '(' .. int(order))
end

-- Puts the user in line until that instant, or leaves it there; what was offered is offered no more.  Returns its
-- order, 0 where the line is full: then only an earlier order takes the place of the last.
local function join(st, user, ticket, until_ms)
  local order, stored = order_of(st, user, ticket)
  if stored == 0 then
    local waiting, last = redis.call('ZCARD', st.w), redis.call('ZRANGE', st.w, -1, -1, 'WITHSCORES')
    local last_order = tonumber(last[2] or 0)
    if waiting >= 2 * st.cap then
      if waiting == 0 or order == 0 or order >= last_order then return 0 end
      leave(st, last[1])
    end
    if order == 0 then order = math.max(NOW, last_order + 1) end
  end
  st.nobody_waits = false
  if order ~= stored then redis.call('ZADD', st.w, order, user) end
  redis.call('ZADD', st.a, until_ms * 2, user)
  note_waiting(st, redis.call('ZCARD', st.w))
  return order
end

-- Offers the free seats to the first in line; returns to whom seats are offered.
local function offer(st, seats)
  if seats <= 0 then return {} end
  local first = redis.call('ZRANGE', st.w, 0, math.min(seats, OFFER_MAX) - 1)
  for _, user in ipairs(first) do
    if tonumber(redis.call('ZSCORE', st.a, user) or 0) % 2 == 0 then
      redis.call('ZADD', st.a, (NOW + TAKE_IT) * 2 + 1, user)
    end
  end
  return first
end

-- When the one at this position may sit down, by the pace at which seats fell free of late; 0: nobody knows.
local function eta_of(st, position)
  local freed = minute(st).freed
  if #freed < 2 then return 0 end
  return math.max(math.ceil(position * (NOW - freed[1]) / (#freed - 1)), 1)
end
