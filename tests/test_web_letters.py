"""Dead letters as the page reads them, from a real Redis."""

import time

from llmpool_operator.decide.types import Missing
from llmpool_operator.observe import Endpoint
from llmpool_operator.web.letters import Letters
from llmpool_operator.web.rows import Counts
from tests.support.operator_user import documented_user
from tests.support.redis_server import RedisServer
from tests.support.web_pool import SECRET, bury

QUEUE = "llm-chat"


async def test_rights_are_those_of_the_documents(own_redis: RedisServer) -> None:
    """The documented user reads counts and letters; without the line that is for the page alone, they are missing with
    the reason, and the delayed jobs are counted all the same."""
    with own_redis.client() as client:
        bury(client, QUEUE)
        lines = documented_user()
        for line in lines[:-1]:
            client.execute_command(line)
    endpoint = Endpoint(own_redis.url, username=b"llmpool-operator", password=b"PASSWORD")
    letters = Letters(lambda: {endpoint: {QUEUE}}, time.monotonic)
    try:
        letters.look([(endpoint, QUEUE)])
        await letters.first(30)
        without = Missing(f"RedisNoPermission at {endpoint.shown}")
        assert letters.counts((endpoint, QUEUE)) == Counts(0, without)
        assert letters.of((endpoint, QUEUE))["letters"] == {"missing": without.reason}
        with own_redis.client() as client:
            client.execute_command(lines[-1])
        await letters.round()
        assert letters.counts((endpoint, QUEUE)) == Counts(0, 1)
        [letter] = letters.of((endpoint, QUEUE))["letters"]  # type: ignore[misc]
        assert letter["id"] == "job-7"  # type: ignore[index]
        assert SECRET not in str(letters.of((endpoint, QUEUE)))
    finally:
        await letters.close()


async def test_a_redis_that_is_away_is_missing_and_comes_back(own_redis: RedisServer) -> None:
    """Nothing is raised and nothing is zero while Redis is away; once it is there it is read again."""
    endpoint = Endpoint(own_redis.url)
    letters = Letters(lambda: {endpoint: {QUEUE}}, time.monotonic)
    own_redis.kill()
    await letters.round()
    away = Missing(f"RedisUnreachable at {endpoint.shown}")
    assert letters.counts((endpoint, QUEUE)) == Counts(away, away)
    own_redis.restart()
    await letters.round()
    assert letters.counts((endpoint, QUEUE)) == Counts(0, 0)
    for redis in letters._redises.values():
        await redis.close()
