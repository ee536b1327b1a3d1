#!/bin/sh
# A producer of redis-cli alone: sh examples/producers/redis-cli.sh [PORT]
set -eu
port=${1:-6379}
id=shell-$(date +%s)-$$

# -e: a refused command ends the script. The braces are part of the keys.
redis-cli -p "$port" -e RPUSH llm-chat \
  '{"id":"'"$id"'","type":"chat","model":"gemma3:270m","messages":[{"role":"user","content":"Say hello."}]}' >/dev/null

# A shell can't subscribe and push at once, so it looks every half second, for a minute.
tries=0
while [ "$(redis-cli -p "$port" -e EXISTS "{llm-chat}:result:$id")" = 0 ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 120 ] || { echo "no result of $id within a minute: llmpool why $id" >&2; exit 1; }
  sleep 0.5
done
redis-cli -p "$port" -e GET "{llm-chat}:result:$id"
