// A producer in TypeScript. In this folder: npm ci && npm start -- redis://localhost:6379/0
import { randomUUID } from "node:crypto";
import { createClient } from "@redis/client";

const QUEUE = "llm-chat";
const GIVE_UP_MS = 60_000;

interface Job {
  id: string;
  type: "chat" | "generate" | "embed";
  model: string;
  messages?: { role: "system" | "user" | "assistant"; content: string }[];
  prompt?: string;
  input?: string | string[];
  stream?: boolean;
  deadline?: number; // Unix ms
}

interface Result {
  id: string;
  status: "succeeded" | "failed" | "cancelled" | "expired";
  content?: string;
  embeddings?: number[][];
  model_used?: string;
  error?: { code: string; message: string };
}

const redis = createClient({ url: process.argv[2] ?? "redis://localhost:6379/0" });
redis.on("error", (error) => console.error("redis:", error.message));
const events = redis.duplicate();
events.on("error", (error) => console.error("redis:", error.message));

/** The job's result, as soon as it is there; an error after GIVE_UP_MS. Listens before it pushes, so nothing is missed. */
async function ask(job: Job): Promise<Result> {
  let look = () => {};
  await events.subscribe(`{${QUEUE}}:events`, (id) => id === job.id && look());
  await redis.rPush(QUEUE, JSON.stringify(job));
  const until = Date.now() + GIVE_UP_MS;
  while (Date.now() < until) {
    const answer = await redis.get(`{${QUEUE}}:result:${job.id}`);
    if (answer !== null) return JSON.parse(answer) as Result;
    // A message is sent once and may be missed, so look at least once a second.
    await new Promise<void>((resume) => {
      const timer = setTimeout(resume, 1000);
      look = () => (clearTimeout(timer), resume());
    });
  }
  throw new Error(`no result of ${job.id} within ${GIVE_UP_MS} ms: llmpool why ${job.id}`);
}

/** The text of a streamed job as it comes. An entry `reset` begins an attempt anew: what came before it is void. */
async function* follow(id: string): AsyncGenerator<{ kind: string; text: string }> {
  const reader = redis.duplicate();
  reader.on("error", (error) => console.error("redis:", error.message));
  await reader.connect();
  try {
    for (let last = "0-0"; ; ) {
      const read = await reader.xRead({ key: `{${QUEUE}}:stream:${id}`, id: last }, { BLOCK: 1000, COUNT: 100 });
      const entries = (read as { messages: { id: string; message: Record<string, string> }[] }[] | null)?.[0]?.messages;
      for (const entry of entries ?? []) {
        last = entry.id;
        const kind = entry.message["kind"] ?? "";
        if (kind === "end") return;
        yield { kind, text: entry.message["text"] ?? "" };
      }
      // A job that ends before it runs may have no stream: its result says so.
      if (!entries && (await redis.exists(`{${QUEUE}}:result:${id}`))) return;
    }
  } finally {
    reader.destroy();
  }
}

await Promise.all([redis.connect(), events.connect()]);
const deadline = Date.now() + GIVE_UP_MS;
const question = { type: "chat" as const, model: "gemma3:270m", deadline };
const streamed = randomUUID();
await redis.rPush(
  QUEUE,
  JSON.stringify({ ...question, id: streamed, stream: true, messages: [{ role: "user", content: "Count to three." }] }),
);
for await (const piece of follow(streamed)) if (piece.kind === "text") process.stdout.write(piece.text);
console.log();

const result = await ask({ ...question, id: randomUUID(), messages: [{ role: "user", content: "Say hello." }] });
console.log(result.status === "succeeded" ? result.content : `${result.status}: ${result.error?.message ?? ""}`);
await Promise.all([redis.close(), events.close()]);
process.exitCode = result.status === "succeeded" ? 0 : 1;
