-- wrk: POST the file $BODY with the content type $CONTENT_TYPE; the summary as one line of JSON.
-- With $PAUSE_MS every connection waits so long between its requests, and gives up on none.
local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
wrk.headers["Content-Type"] = os.getenv("CONTENT_TYPE")

local pause = tonumber(os.getenv("PAUSE_MS") or "0")
if pause > 0 then
  function delay() return pause * (0.5 + math.random()) end
end

local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() good, refused = 0, 0 end
function response(status)
  if status == 200 then good = good + 1 elseif status == 503 then refused = refused + 1 end
end

function done(summary, latency)
  local good, refused = 0, 0
  for _, thread in ipairs(threads) do
    good, refused = good + thread:get("good"), refused + thread:get("refused")
  end
  local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '{"seconds": %f, "requests": %d, "good": %d, "refused": %d, "lost": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.duration / 1e6, summary.requests, good, refused, lost,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
