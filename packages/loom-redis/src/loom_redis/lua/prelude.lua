-- Functions that every script may use.

-- Unix time in seconds: the caller's clock where it handed one in (tests), else the server's, the one clock of a fleet.
local function now_of(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

