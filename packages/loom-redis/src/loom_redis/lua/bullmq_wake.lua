-- Set again the markers that a waiting receiver has popped and not acted upon. KEYS: prefixes.

for _, prefix in ipairs(KEYS) do
  local ready = rcall('LLEN', prefix .. 'wait') > 0 or rcall('ZCARD', prefix .. 'prioritized') > 0
  if ready and rcall('HEXISTS', prefix .. 'meta', 'paused') == 0 then
    rcall('ZADD', prefix .. 'marker', 0, '0')
  end
  local first = rcall('ZRANGE', prefix .. 'delayed', 0, 0, 'WITHSCORES')[2]
  if first then rcall('ZADD', prefix .. 'marker', tonumber(first) / 0x1000, '1') end
end
return 1
