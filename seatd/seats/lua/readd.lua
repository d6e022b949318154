-- Purpose: add events again that an earlier epoch acknowledged and lost.
-- KEYS, ARGV: prelude.lua.  Operation: {no tenant, packed event}
-- Returns {"added"}

local replies = {}
for i, op in ipairs(OPS) do
  emit_packed(op[2])
  replies[i] = {'added'}
end
return done(replies)
