-- Compare-and-append for each of n appends, in their order. KEYS: a stream per append, then the index of names if this
-- script is to keep it. ARGV: n, then five per append (the head expected, the head to be, the fence, the position, the
-- entry), then the name of each stream that is expected to be empty. A head is "seq:entry_id".
-- Returns 1 when all were appended, else for each: 1 appended, 2 a duplicate, the head found, or an error's text.

local function below(fence, held)
  if string.sub(fence, 1, 1) == '-' then return true end
  if #fence ~= #held then return #fence < #held end
  return fence < held
end

-- An entry begins with its checksum (4 bytes), the size of its head (2) and its fence (8); the head follows.
local function same_entry(stored, entry, head)
  local size = #head
  return stored and string.sub(stored, 5, 6) == string.sub(entry, 5, 6)
    and string.sub(stored, 15, 14 + size) == head
end

local n = tonumber(ARGV[1])
local index = KEYS[n + 1]
local at, name_at = 2, 2 + 5 * n
local outcomes, all = {}, true

for i = 1, n do
  local key = KEYS[i]
  local expected, head, fence, seq, entry = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local name
  at = at + 5
  if expected == '0:' then
    name = ARGV[name_at]
    name_at = name_at + 1
  end
  -- pcall: a stream whose key holds something else must not fail the others.
  local found = redis.pcall('HMGET', key, 'h', 'f')
  if found.err then
    outcomes[i], all = found.err, false
  else
    local held = found[2] or '0'
    if (found[1] or '0:') == expected and (fence == held or not below(fence, held)) then
      if index and not found[1] then redis.call('ZADD', index, 0, name) end
      if fence == held then
        redis.call('HSET', key, 'h', head, seq, entry)
      else
        redis.call('HSET', key, 'h', head, 'f', fence, seq, entry)
      end
      outcomes[i] = 1
    elseif found[1] == head or same_entry(redis.call('HGET', key, seq), entry, head) then
      outcomes[i], all = 2, false
    else
      outcomes[i], all = { found[1] or '0:', held, redis.call('HGET', key, 'p') or '0' }, false
    end
  end
end

if all then return 1 end
return outcomes
