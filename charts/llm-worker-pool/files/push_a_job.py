"""`helm test`: one job through the queue. Ends with 0 once its answer is there."""
# ruff: noqa: T201 - what it prints is what `helm test --logs` shows

import json
import os
import sys
import time
import uuid

import redis

url, queue, model = (os.environ[name] for name in ("REDIS_URL", "QUEUE", "MODEL"))
deadline = time.monotonic() + float(os.environ["TIMEOUT_S"])
job = f"helm-test-{uuid.uuid4()}"
client = redis.Redis.from_url(url, socket_timeout=5)
message = {"role": "user", "content": "Say hello."}
body = {"id": job, "type": "chat", "model": model, "messages": [message], "options": {"num_predict": 16}}
client.rpush(queue, json.dumps(body))
print(f"pushed {job} to {queue}", flush=True)
while time.monotonic() < deadline:
    answer = client.get(f"{{{queue}}}:result:{job}")
    if answer:
        result = json.loads(answer)
        print(f"{result['status']} after {result['attempts']} attempts: {result.get('error', 'answered')}")
        sys.exit(result["status"] != "succeeded")
    time.sleep(0.2)
print(f"no answer in time; {client.llen(queue)} jobs wait in {queue}")
print("Does a pool have this queue? llmpool explain POOL")
sys.exit(1)
