"""A producer with this project's client: submit, read the text as it comes, take the result, cancel.

python examples/producers/with_client.py [REDIS_URL]
"""

import asyncio
import sys

from llmpool_client import Client, Reset, Text

MODEL = "gemma3:270m"


async def main(redis_url: str) -> None:
    async with Client(redis_url) as client:
        # One question, one answer.
        result = await client.chat(MODEL, "Why is the sky blue?", timeout=60)
        print(result.content)

        # With an id of one's own a repeat is harmless, and the answer can be asked for later.
        ref = await client.submit(
            id="report-7", type="chat", model=MODEL, messages=[{"role": "user", "content": "Sum it up."}], stream=True
        )
        async for event in client.stream(ref):
            if isinstance(event, Reset):
                print("-- an attempt begins: what came before is void")
            elif isinstance(event, Text):
                print(event.text, end="", flush=True)
        result = await client.result(ref, timeout=60)
        print(f"\n{result.id}: {result.status}")

        # Many at once, and nobody wants one of them any more.
        refs = await client.submit_many({"type": "embed", "model": "all-minilm", "input": text} for text in ("a", "b"))
        await client.cancel(refs[1])
        for ref in refs:
            print(ref.id, (await client.result(ref, timeout=60)).status)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "redis://localhost:6379/0"))
