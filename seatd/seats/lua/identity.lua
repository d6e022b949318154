-- Purpose: which run of which store this is.  store.py puts it in front of every script; it never runs alone.
--          The run alone would miss a replica that followed another primary and came back.

local function identity()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  return run .. ':' .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
