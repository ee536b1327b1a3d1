"""A producer with nothing but the package redis: what any language's client can do.

python examples/producers/bare_redis.py [REDIS_URL]
"""

import json
import sys
import time
import uuid

import redis

QUEUE = "llm-chat"
GIVE_UP_S = 60.0

connection = redis.Redis.from_url(sys.argv[1] if len(sys.argv) > 1 else "redis://localhost:6379/0")
job = {
    "id": str(uuid.uuid4()),
    "type": "chat",
    "model": "gemma3:270m",
    "messages": [{"role": "user", "content": "Say hello."}],
    "deadline": int((time.time() + GIVE_UP_S) * 1000),  # nobody wants the answer after that
}

# Listen first, then push, then look: whatever comes first, the answer is not missed.
with connection.pubsub(ignore_subscribe_messages=True) as events:
    events.subscribe(f"{{{QUEUE}}}:events")
    connection.rpush(QUEUE, json.dumps(job))
    until = time.monotonic() + GIVE_UP_S
    while (answer := connection.get(f"{{{QUEUE}}}:result:{job['id']}")) is None:
        if time.monotonic() > until:
            sys.exit(f"no result of {job['id']} within {GIVE_UP_S:g} s: llmpool why {job['id']}")
        # A message says that some job has ended. It may be missed, so look at least once a second.
        events.get_message(timeout=1.0)

result = json.loads(answer)
if result["status"] != "succeeded":
    sys.exit(f"{result['status']}: {result.get('error')}")
print(result["content"])
