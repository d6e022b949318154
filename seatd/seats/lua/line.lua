-- Purpose: look after those who wait at one seatd: they are seen, free seats are offered to the first in line, and who
--        has gone leaves.  Grants nothing: to whom a seat is offered acquires it.
-- KEYS, ARGV: prelude.lua, waiting.lua.  Operation: {tenant, "wait" | "leave", {user, ...}}
-- Returns {"line", how many wait, {user to whom a seat is offered, ...}, {user of the operation that does not stand in
--        line, ...}} | {"ask"} (nobody can sit down now: an acquire tells why) | {"left"} | unknown_tenant

local function seen(st, users)
  local lost = {}
  if #users == 0 then return lost end
  for i, score in ipairs(redis.call('ZMSCORE', st.a, unpack(users))) do
    score = tonumber(score or 0)
    if score == 0 then lost[#lost + 1] = users[i]
    elseif score % 2 == 0 then redis.call('ZADD', st.a, (NOW + PATIENCE) * 2, users[i]) end
  end
  return lost
end

local function look(op)
  local st = tenant_at(op[1])
  if unknown(st) then return {'unknown_tenant'} end
  if op[2] == 'leave' then
    for _, user in ipairs(op[3]) do leave(st, user) end
    return {'left'}
  end
  if st.learning or st.suspended or st.tariff == '' or (st.trial and st.trial <= NOW) then return {'ask'} end
  local waiting = line_of(st)
  local lost = seen(st, op[3])
  return {'line', waiting, offer(st, st.cap - in_use(st)), lost}
end

return run(look)
