-- Put documents that nobody has written since into the indexes. KEYS: documents, order and indexes, members.
-- ARGV: an id, the ETag it had, and its members, for each document. Returns 1.

local d, i, x = KEYS[1], KEYS[2], KEYS[3]
local call = redis.call

for at = 1, #ARGV, 3 do
  local id, members = ARGV[at], ARGV[at + 2]
  local record = call('HGET', d, id)
  -- Indexes are only ever added, at the end of the list: of two lists of one version of a document the longer knows more.
  if record and string.match(record, '^[^;]*') == ARGV[at + 1] and #members > #(call('HGET', x, id) or '') then
    local position = 1
    while position <= #members do
      local size = struct.unpack('>I4', members, position)
      call('ZADD', i, 0, string.sub(members, position + 4, position + 3 + size))
      position = position + 4 + size
    end
    call('HSET', x, id, members)
  end
end

-- A partition that goes by itself takes along what was added.
local life = call('PEXPIRETIME', d)
if life > 0 then
  call('PEXPIREAT', i, life)
  call('PEXPIREAT', x, life)
end
return 1
