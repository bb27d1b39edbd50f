-- A group is a lane: its first message can be taken, and in the same receive those behind it. A message without a group
-- is a lane of its own, of which nothing is written down.

local function ready(queue, rank, place, id)
  z['r' .. queue .. '\0' .. rank .. place .. id] = 0
  woken[queue] = true
end

local function lane_of(lane)
  local found = lanes[lane]
  if found == nil then
    found = call('HGET', H, 'g' .. lane)
    lanes[lane] = found
  end
  return found
end

local function set_lane(lane, value)
  lanes[lane] = value
  h['g' .. lane] = value
end

local last_place
local function next_place()
  last_place = (last_place or tonumber(get('n') or '0')) + 1
  h['n'] = string.format('%.0f', last_place)
  return pack('>I8', last_place)
end

-- Give a message that is receivable from now on its place.
local function enter(queue, id, group, rank)
  local place = next_place()
  if group == '' then return ready(queue, rank, place, id) end
  local lane = queue .. '\0' .. group
  local first = lane_of(lane)
  if first then
    set_lane(lane, sub(first, 1, 8) .. pack('>I4', unpack_from('>I4', first, 9) + 1))
    z['w' .. lane .. '\0' .. place .. rank .. id] = 0
  else
    set_lane(lane, place .. '\0\0\0\0')
    ready(queue, rank, place, id)
  end
end

-- Take a message out of its lane; if it was the first, the next steps forward.
local function leave(queue, id, group, rank, place)
  if group == '' then return end
  local lane = queue .. '\0' .. group
  local first = lane_of(lane)
  if not first then return end
  local behind = unpack_from('>I4', first, 9)
  if sub(first, 1, 8) ~= place then
    z['w' .. lane .. '\0' .. place .. rank .. id] = false
    set_lane(lane, sub(first, 1, 8) .. pack('>I4', math.max(0, behind - 1)))
    return
  end
  if behind > 0 and next(z) then flush() end
  local following = behind > 0 and call('ZRANGEBYLEX', Z, '[w' .. lane .. '\0', '(w' .. lane .. '\1', 'LIMIT', 0, 1)[1]
  if not following then return set_lane(lane, false) end
  local at = #lane + 3
  local its_place, its_rank = sub(following, at, at + 7), sub(following, at + 8, at + 11)
  local its_id = sub(following, at + 12)
  z[following] = false
  set_lane(lane, its_place .. pack('>I4', behind - 1))
  if waits(get('l' .. queue .. '\0' .. its_id)) then ready(queue, its_rank, its_place, its_id) end
end

local function is_first(queue, group, place)
  if group == '' then return true end
  local first = lane_of(queue .. '\0' .. group)
  return not first or sub(first, 1, 8) == place
end

-- End a lease or the delay of a nack: the message can be taken again in its old place.
local function release(message, is, group, rank)
  local place, attempts = sub(is, 14, 21), attempts_of(is)
  h['l' .. message] = attempts > 0 and fate('A', 0, attempts, place, sub(is, 22, 31)) or false
  t[message] = false
  local queue = queue_of(message)
  if is_first(queue, group, place) then ready(queue, rank, place, id_of(message)) end
end

-- Let leases and delays end that are due, in the order of their ends.
local function settle()
  repeat
    local due = call('ZRANGEBYSCORE', T, '-inf', string.format('%.17g', now), 'LIMIT', 0, 500)
    if #due == 0 then return end
    local fields = {}
    for _, message in ipairs(due) do
      fields[#fields + 1] = 'l' .. message
      fields[#fields + 1] = 'm' .. message
    end
    local found = get_many(fields)
    for n, message in ipairs(due) do
      local is, sent = found[2 * n - 1], found[2 * n]
      t[message] = false
      if is and sent then
        if sub(is, 1, 1) == 'P' then
          h['l' .. message] = false
          enter(queue_of(message), id_of(message), group_of(sent), rank_of(sent))
        else
          release(message, is, group_of(sent), rank_of(sent))
        end
      end
    end
    flush()
  until #due < 500
end
