-- Entries above a position. KEYS: the stream. ARGV: after, limit, bytes after which to stop.
-- Returns the head, the position through which the stream is trimmed, and entries, oldest first. Fewer than the limit
-- when they are large: other clients wait while a script runs.

local after, limit, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found = redis.call('HMGET', KEYS[1], 'h', 't', 'p')
if not found[1] then return false end
local trimmed = tonumber(found[2] or '0')
local last = math.min(tonumber(string.match(found[1], '^%d+')), after + limit)
local entries = {}
if after >= trimmed then
  local seq, size = after + 1, 0
  while seq <= last and size < bytes do
    local fields = {}
    for field = seq, math.min(last, seq + 31) do fields[#fields + 1] = string.format('%.0f', field) end
    for _, entry in ipairs(redis.call('HMGET', KEYS[1], unpack(fields))) do
      entries[#entries + 1] = entry
      size = size + (entry and #entry or 0)
    end
    seq = seq + #fields
  end
end
return { found[1], string.format('%.0f', trimmed), found[3] or '0', entries }
