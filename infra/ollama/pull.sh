#!/bin/sh
# Fetches each model of MODEL_PRELOAD_LIST (names with commas between) that the server at OLLAMA_HOST lacks.
# Ends with 1 where one could not be fetched, and says which: a worker would only find out by a failing job.
set -u
missing=
for model in $(printf %s "${MODEL_PRELOAD_LIST:-}" | tr ', ' '\n\n'); do
  if ollama show "$model" >/dev/null 2>&1; then
    echo "$model is there"
  elif ollama pull "$model"; then
    echo "$model was fetched"
  else
    missing="$missing $model"
  fi
done
[ -z "$missing" ] && exit 0
echo "MODEL_PRELOAD_LIST: could not fetch$missing. Is the name right, and is the registry within reach?" >&2
exit 1
