-- Documents of one partition in the order of their ids or of one index.
-- KEYS: documents, order and indexes. ARGV: now, first and last bound in the order of walking, 1 to walk backwards, how
-- many, how many bytes of a member precede the ordered value or the id, 1 if an ordered value precedes the id.
-- Returns -1 when the partition is empty, else {expired seen, last member seen or '' at the end, id, record, …}. Fewer
-- than asked for when they are large or many have expired: other clients wait while a script runs.

local d, i = KEYS[1], KEYS[2]
local now = now_of(ARGV[1])
local from, to, backwards = ARGV[2], ARGV[3], ARGV[4] == '1'
local wanted, skip, valued = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local CHUNK, MOST_BYTES, MOST_EXPIRED = 32, 4 * 1024 * 1024, 2000

local function id_of(member)
  local at = skip + 1
  if valued then
    local kind = string.byte(member, at)
    if kind == 16 then
      at = at + 11
    elseif kind == 48 then
      at = at + 2
    else
      at = string.find(member, '\0\0', at, true) + 2
    end
  end
  return string.sub(member, at)
end

if redis.call('EXISTS', d) == 0 then return -1 end
local reply, found, expired, bytes = { 0, '' }, 0, 0, 0
while true do
  local ask = math.min(wanted - found, CHUNK)
  local members
  if backwards then
    members = redis.call('ZRANGE', i, from, to, 'BYLEX', 'REV', 'LIMIT', 0, ask)
  else
    members = redis.call('ZRANGE', i, from, to, 'BYLEX', 'LIMIT', 0, ask)
  end
  if #members == 0 then break end
  local ids = {}
  for n, member in ipairs(members) do ids[n] = id_of(member) end
  for n, record in ipairs(redis.call('HMGET', d, unpack(ids))) do
    local expires = record and string.match(record, '^[^;]*;([^;]+);')
    if not record or expires and expires ~= 'inf' and tonumber(expires) <= now then
      expired = expired + 1
    else
      found = found + 1
      bytes = bytes + #record
      reply[#reply + 1] = ids[n]
      reply[#reply + 1] = record
    end
  end
  if #members < ask then break end
  local last = members[#members]
  if found >= wanted or bytes > MOST_BYTES or expired > MOST_EXPIRED then
    reply[2] = last
    break
  end
  from = '(' .. last
end
reply[1] = expired
return reply
