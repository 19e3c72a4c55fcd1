-- What HAProxy's configuration (front-config.ts) has no words for. Loaded once per thread; called for few requests.

-- The map of sites whose app is being replaced, and how long a request waits for it, in seconds.
local waits_file, wait_seconds = ...
local waits = Map.new(waits_file, Map._str)

-- Looks again as often as one would not notice. The driver ends it after the app's new server is up.
core.register_action("wait_for_app", { "http-req" }, function(txn)
  local site = txn:get_var("txn.site")
  local last = core.now().sec + tonumber(wait_seconds)
  while waits:lookup(site) ~= nil and core.now().sec < last do core.msleep(50) end
end)

-- Fields that frame a message or say where it goes: no sender may have them dropped. The configuration sees to TE.
local kept = { ["content-length"] = true, ["host"] = true, ["transfer-encoding"] = true, ["upgrade"] = true, ["te"] = true }

-- The words of a header with a list as its value, in lower case.
local function words(headers, name)
  local found = {}
  for _, line in pairs(headers[name] or {}) do
    for token in line:gmatch("[^,%s]+") do found[#found + 1] = token:lower() end
  end
  return found
end

local function includes(list, wanted)
  for _, word in ipairs(list) do
    if word == wanted then return true end
  end
  return false
end

-- Drops what Connection nominates: for the next hop only, by its sender's word (RFC 9110, 7.6.1). And leaves of Upgrade what is
-- passed on: a GET's offer of WebSocket, which Connection has to name (7.8).
core.register_action("request_hops", { "http-req" }, function(txn)
  local headers = txn.http:req_get_headers()
  local nominated = words(headers, "connection")
  for _, name in ipairs(nominated) do
    if not kept[name] then txn.http:req_del_header(name) end
  end
  local offers = words(headers, "upgrade")
  if includes(nominated, "upgrade") and includes(offers, "websocket") and txn.f:method() == "GET" then
    txn.http:req_set_header("connection", "upgrade")
    txn.http:req_set_header("upgrade", "websocket")
  else
    txn.http:req_del_header("upgrade")
  end
end)

core.register_action("response_hops", { "http-res" }, function(txn)
  for _, name in ipairs(words(txn.http:res_get_headers(), "connection")) do
    if not kept[name] then txn.http:res_del_header(name) end
  end
end)

-- Whether fields come after the body. They could name what was dropped of the head, and there are apps that take one for the
-- other (RFC 9110, 6.5.1, allows dropping them; HAProxy 3.0 has no words for it). The end itself is a block of its own.
local function has_trailer(txn)
  if txn.f:internal_htx_blk_type("tail") ~= "HTX_BLK_EOT" then return false end
  -- Positions of blocks that have left are not used again at once; there is no room for more of them than this.
  local left = txn.f:internal_htx_nbblks()
  for position = 0, 4096 do
    local kind = txn.f:internal_htx_blk_type(tostring(position))
    if kind == "HTX_BLK_TLR" then return true end
    if kind ~= nil then left = left - 1 end
    if left == 0 then return false end
  end
  return true
end

-- Ends a request whose body grows beyond a size that was not announced, has a trailer, or takes too long, byte by byte. Its arguments
-- are bytes and seconds.
local Limit = { id = "Request body limit", flags = filter.FLT_CFG_FL_HTX }
Limit.__index = Limit

function Limit.new(self)
  local arguments = self.args or {}
  return setmetatable({
    left = tonumber(arguments[1]) or 0,
    until_second = core.now().sec + (tonumber(arguments[2]) or 0),
  }, Limit)
end

function Limit:http_headers(txn, message)
  if not message.channel:is_resp() then filter.register_data_filter(self, message.channel) end
end

function Limit:http_payload(txn, message)
  if has_trailer(txn) then error("a body has a trailer", 0) end
  self.left = self.left - message:input()
  -- What a payload's callback returns counts for nothing; an error ends the request. It is one line on the console, for as many bytes
  -- or seconds.
  if self.left < 0 then error("a body of unknown length is too long", 0) end
  if core.now().sec > self.until_second then error("a body takes too long", 0) end
end

core.register_filter("body_limit", Limit, function(limit, args)
  limit.args = args
  return limit
end)
