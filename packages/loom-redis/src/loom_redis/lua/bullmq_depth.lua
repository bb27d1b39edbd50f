-- Ready, delayed, leased and dead jobs of a queue, by the server's clock. KEYS[1]: prefix.

local prefix = KEYS[1]
local leased, lapsed = 0, 0
for _, id in ipairs(rcall('LRANGE', prefix .. 'active', 0, -1)) do
  if rcall('EXISTS', prefix .. id .. ':lock') == 1 then leased = leased + 1 else lapsed = lapsed + 1 end
end
local due = rcall('ZCOUNT', prefix .. 'delayed', '-inf', (now + 1) * 0x1000 - 1)
local ready = rcall('LLEN', prefix .. 'wait') + rcall('LLEN', prefix .. 'paused') + rcall('ZCARD', prefix .. 'prioritized')
local delayed = rcall('ZCARD', prefix .. 'delayed') - due + rcall('ZCARD', prefix .. 'waiting-children')
return {ready + due + lapsed, delayed, leased, rcall('ZCARD', prefix .. 'failed')}
