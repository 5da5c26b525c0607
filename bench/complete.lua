-- Reports for runs whose ids lie in $BENCH_FOLDER/ids, one each, in turn.
local ids = {}
for line in io.lines(os.getenv("BENCH_FOLDER") .. "/ids") do ids[#ids + 1] = line end
local next_id = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local body = '{"errorCause":"","errorDetails":"","resultUri":"s3://bucket/result.json"}'
function request()
    next_id = next_id % #ids + 1
    return wrk.format("POST", "/algorithm/v1/complete/bench/requests/" .. ids[next_id], wrk.headers, body)
end
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("RESULT requests=%d duration_us=%d status=%d socket=%d p50_us=%d p99_us=%d\n",
        summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
