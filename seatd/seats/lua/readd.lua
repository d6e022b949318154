-- Purpose: add events again that an earlier epoch acknowledged and lost.
-- KEYS, ARGV: prelude.lua.  Operation: {no tenant, packed event}
-- Returns {"added"}

local function add(op)
  emit_packed(op[2])
  return {'added'}
end

return run(add)
