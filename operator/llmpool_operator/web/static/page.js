import { Table, clock, element, reading, setText } from "./tables.js";

const PAGE = 200; // rows; with thousands of pools the rest comes by filter, or by asking for more
const STALE_MS = 5000; // an event comes each second
const RETRY_MS = 2000;

const $ = (id) => document.getElementById(id);
const pools = new Map();
const known = { operator: null, decisions: [], pool: null };
const view = { filter: "", sort: "name", ascending: true, shown: PAGE };
let stream = null, cursor = "", heardAt = 0, retry = 0, drawing = false;

// --- what is looked at -------------------------------------------------------------------------------------------

const keyOf = (row) => `${row.namespace}/${row.name}`;
const hrefOf = (key) => `#pool=${encodeURIComponent(key)}`;

function chosen() {
  const found = /^#pool=(.+)$/.exec(location.hash);
  if (!found) return "";
  try {
    return decodeURIComponent(found[1]);
  } catch {
    return "";
  }
}

// --- the stream --------------------------------------------------------------------------------------------------

function connect() {
  clearTimeout(retry);
  if (stream) stream.close();
  const query = new URLSearchParams();
  if (/^[^/]+\/[^/]+$/.test(chosen())) query.set("pool", chosen());
  if (cursor) query.set("since", cursor);
  const mine = (stream = new EventSource(`api/v1/events?${query}`));
  mine.onmessage = (event) => take(JSON.parse(event.data), event.lastEventId);
  mine.onerror = () => {
    schedule();
    // Turned away, as when too many look on: the browser doesn't try again by itself.
    if (mine === stream && mine.readyState === EventSource.CLOSED) retry = setTimeout(connect, RETRY_MS);
  };
}

function take(news, id) {
  heardAt = Date.now();
  cursor = id;
  known.operator = news.operator;
  if (news.whole) pools.clear();
  for (const row of news.pools) pools.set(keyOf(row), row);
  for (const [namespace, name] of news.gone) pools.delete(`${namespace}/${name}`);
  if (news.decisions) known.decisions = news.decisions;
  if (news.pool !== undefined) known.pool = news.pool;
  schedule();
}

// --- words -------------------------------------------------------------------------------------------------------

const TONES = { True: "good", False: "bad", Unknown: "unsure" };

function readyWord(row) {
  const { status, reason } = row.ready;
  const word = { True: "Ready", False: "Not ready", Unknown: "Unknown" }[status] ?? status;
  let under = reason === "WorkersReady" ? "" : reason;
  if (row.paused !== "None") under = [under, `paused: ${row.paused}`].filter(Boolean).join(", ");
  if (row.mode === "Observe") under = [under, "observing"].filter(Boolean).join(", ");
  return { text: word, tone: TONES[status] ?? "unsure", under };
}

const sized = (row) => (row.before === row.after ? reading(row.after) : { text: `${row.before} → ${row.after}` });
const troubled = (row) => ({ text: row.reason || "–", tone: row.trouble ? "bad" : "plain" });

function bytes(value) {
  if (typeof value !== "number") return reading(value);
  return reading(value / 2 ** 30, " GiB");
}

function gpus(worker) {
  if (!Array.isArray(worker.gpus)) return reading(worker.gpus);
  if (!worker.gpus.length) return { text: "none" };
  const words = worker.gpus.map((gpu) => `${reading(gpu.percent, " %").text} · ${bytes(gpu.memoryUsedBytes).text}`);
  return { text: words.join(", "), title: worker.gpus.map((gpu) => gpu.name).join(", ") };
}

// --- tables ------------------------------------------------------------------------------------------------------

const count = (name, label, unit) => ({ name, label, numeric: true, cell: (row) => reading(row[name], unit) });

const POOL_COLUMNS = [
  { name: "name", label: "Pool", cell: (row) => ({ text: row.name, href: hrefOf(keyOf(row)), under: row.namespace }) },
  { name: "ready", label: "State", cell: readyWord },
  { ...count("readyWorkers", "Ready"), title: "Workers that are ready" },
  count("size", "Workers"),
  count("desired", "Desired"),
  count("busy", "Busy"),
  count("queued", "Queued"),
  count("inFlight", "In flight"),
  count("delayed", "Delayed"),
  { ...count("dead", "Dead"), cell: (row) => ({ ...reading(row.dead), ...(row.dead > 0 ? { tone: "warn" } : {}) }) },
  count("gpuPercent", "GPU", " %"),
  count("tokensPerSecond", "Tokens/s"),
  { name: "reason", label: "Last decision", wide: true, cell: (row) => ({ ...troubled(row), title: row.message }) },
];

const HISTORY = [
  { name: "at", label: "At", cell: (row) => clock(row.at) },
  { name: "size", label: "Workers", numeric: true, cell: sized },
  { name: "desired", label: "Desired", numeric: true, cell: (row) => reading(row.desired) },
  count("queued", "Queued"),
  count("inFlight", "In flight"),
  { name: "reason", label: "Reason", cell: troubled },
  { name: "message", label: "Why", wide: true, cell: (row) => row.message },
];

const byPlace = (row, index) => `${index}`;

function numbered(rows) {
  return rows.map((row, index) => ({ ...row, place: byPlace(row, index) }));
}

const place = (row) => row.place;

function makeTables() {
  const tables = {
    pools: new Table($("pools"), {
      columns: POOL_COLUMNS, key: keyOf, caption: "Pools", empty: "", onSort: sortBy,
      rowClass: (row) => (keyOf(row) === chosen() ? "chosen" : ""),
    }),
    queues: new Table($("queues"), {
      caption: "Queues of the pool", empty: "None.", key: place,
      columns: [{ name: "name", label: "Queue", cell: (row) => row.name }, count("ready", "Ready"), count("due", "Due"),
        count("inFlight", "In flight"), count("delayed", "Delayed"), count("dead", "Dead")],
    }),
    metrics: new Table($("metrics"), {
      caption: "Metrics of the pool", empty: "Nothing was decided yet.", key: place,
      columns: [
        { name: "type", label: "Metric", cell: (row) => ({ text: row.type, under: row.role === "Target" ? "" : row.role }) },
        { name: "value", label: "Value", numeric: true, cell: (row) => reading(row.value ?? { missing: row.missing }) },
        { name: "target", label: "A worker", numeric: true, cell: (row) => reading(row.target) },
        { name: "replicas", label: "Asks for", numeric: true,
          cell: (row) => (row.replicas === undefined ? { text: "nothing" } : reading(row.replicas)) },
      ],
    }),
    workers: new Table($("workers"), {
      caption: "Workers of the pool", empty: "", key: (row) => row.worker,
      columns: [
        { name: "worker", label: "Worker", cell: (row) => row.worker },
        { name: "state", label: "State", cell: workerState },
        { name: "inFlight", label: "In flight", numeric: true, cell: (row) => `${row.inFlight} / ${row.capacity}` },
        count("done", "Done"), count("jobsPerSecond", "Jobs/s"), count("tokensPerSecond", "Tokens/s"),
        { name: "gpus", label: "GPU", cell: gpus },
        { name: "models", label: "In memory", wide: true,
          cell: (row) => (Array.isArray(row.models) ? row.models.join(", ") || "none" : reading(row.models)) },
      ],
    }),
    history: new Table($("history"), { columns: HISTORY, key: place, caption: "Last decisions of the pool",
      empty: "None since this operator began to lead." }),
    changes: new Table($("changes"), {
      caption: "Last changes of all pools", empty: "None since this operator began to lead.", key: place,
      columns: [HISTORY[0], { name: "pool", label: "Pool", cell: (row) =>
        ({ text: row.name, href: hrefOf(keyOf(row)), under: row.namespace }) }, ...HISTORY.slice(1)],
    }),
    conditions: new Table($("conditions"), {
      caption: "Conditions of the pool", empty: "None told yet.", key: (row) => row.type,
      columns: [
        { name: "type", label: "Condition", cell: (row) => row.type },
        { name: "status", label: "Status", cell: (row) => ({ text: row.status, tone: conditionTone(row) }) },
        { name: "reason", label: "Reason", cell: (row) => row.reason },
        { name: "since", label: "Since", cell: (row) => clock(row.lastTransitionTime) },
        { name: "message", label: "Message", wide: true, cell: (row) => row.message },
      ],
    }),
    letters: new Table($("letters"), {
      caption: "Newest dead letters of the pool", empty: "", key: (row) => `${row.queue} ${row.entry}`,
      columns: [
        { name: "at", label: "At", cell: (row) => clock(row.at) },
        { name: "queue", label: "Queue", cell: (row) => row.queue },
        { name: "id", label: "Job", cell: (row) => (row.id ? row.id : { text: "–", title: "its id can't be read", missing: true }) },
        { name: "code", label: "Code", cell: (row) => row.code },
        { name: "attempts", label: "Attempts", numeric: true, cell: (row) => reading(row.attempts) },
        { name: "reason", label: "Reason", wide: true, cell: (row) => row.reason },
        { name: "entry", label: "Entry", cell: (row) => row.entry },
      ],
    }),
  };
  for (const column of POOL_COLUMNS) {
    const option = element("option", "", column.label);
    option.value = column.name;
    $("sorter").append(option);
  }
  return tables;
}

function workerState(row) {
  const tone = { ready: "good", starting: "unsure", draining: "warn", drained: "plain" }[row.state] ?? "unsure";
  return { text: row.state, tone, under: row.leaving && row.state === "ready" ? "told to drain" : "" };
}

function conditionTone(row) {
  if (row.type === "Paused" || row.type === "ScalingLimited") return row.status === "True" ? "warn" : "plain";
  return TONES[row.status] ?? "unsure";
}

// --- filter and sort ---------------------------------------------------------------------------------------------

function sortBy(name) {
  view.ascending = view.sort === name ? !view.ascending : !POOL_COLUMNS.find((c) => c.name === name).numeric;
  view.sort = name;
  schedule();
}

const RANK = { False: 0, Unknown: 1, True: 2 };

function sortable(row) {
  const value = row[view.sort];
  if (view.sort === "ready") return RANK[value.status] ?? 1;
  return value !== null && typeof value === "object" ? null : value;
}

function compare(one, other) {
  const [a, b] = [sortable(one), sortable(other)];
  let order = 0;
  if (a === null || b === null) order = a === b ? 0 : a === null ? 1 : -1; // missing comes last, either way
  else order = (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b) * (view.ascending ? 1 : -1);
  return order || keyOf(one).localeCompare(keyOf(other), "en", { numeric: true });
}

function fits(row) {
  const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [row.namespace, row.name, row.ready.reason, readyWord(row).text, row.reason, row.mode].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

// --- drawing -----------------------------------------------------------------------------------------------------

const tables = makeTables();

function schedule() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

function draw() {
  drawHead();
  drawSums();
  const found = [...pools.values()].filter(fits).sort(compare);
  const rows = found.slice(0, view.shown);
  tables.pools.show(rows, !heardAt ? "Not heard yet." : pools.size ? "No pool fits the filter." : "There is no pool yet.");
  tables.pools.sorted(view.sort, view.ascending);
  if ($("sorter").value !== view.sort) $("sorter").value = view.sort;
  setText($("shown"), `${rows.length} of ${pools.size} shown`);
  $("more").hidden = rows.length === found.length;
  setText($("more"), `Show ${Math.min(PAGE, found.length - rows.length)} more of ${found.length - rows.length}`);
  tables.changes.show(numbered(known.decisions));
  drawDetail();
}

function drawHead() {
  const stale = heardAt > 0 && Date.now() - heardAt > STALE_MS;
  const connecting = !heardAt;
  document.body.classList.toggle("stale", stale);
  const since = heardAt ? new Date(heardAt).toLocaleTimeString("en-GB") : "";
  setText($("live"), stale ? `Stale since ${since}` : connecting ? "Connecting…" : "Live");
  $("live").className = stale ? "live bad" : connecting ? "live unsure" : "live good";
  const operator = known.operator;
  const words = [];
  if (stale) words.push(`Stale since ${since}: the operator doesn't answer. What you see is from then. Trying again.`);
  if (operator) {
    setText($("role"), operator.stalled ? "stalled" : operator.role);
    $("role").className = `badge ${operator.stalled ? "bad" : operator.role === "leader" ? "good" : "unsure"}`;
    const where = operator.namespace === "*" ? "all namespaces" : `namespace ${operator.namespace}`;
    setText($("operator"), `${operator.version}, ${where}`);
    $("operator").title = operator.leader ? `Leader: ${operator.leader}` : "Nobody is known to lead";
    if (operator.role === "standby")
      words.push(`This operator stands by: it shows what the pools' statuses say. ${operator.leader ? `${operator.leader} leads.` : "Nobody is known to lead."}`);
    if (operator.stalled) words.push(`No progress for ${Math.round(operator.quietSeconds)} s.`);
  }
  setText($("banner"), words.join(" "));
  $("banner").hidden = !words.length;
}

const SUMS = [
  ["readyWorkers", "Workers ready"], ["desired", "Workers desired"], ["busy", "Busy"], ["queued", "Jobs queued"],
  ["inFlight", "In flight"], ["dead", "Dead letters"],
];
let sums = null;

function drawSums() {
  if (!sums) {
    sums = [["pools", "Pools ready"], ...SUMS].map(([, label]) => {
      const tile = element("div");
      tile.append(element("dt", "", label), element("dd"), element("small"));
      $("sums").append(tile);
      return tile;
    });
  }
  const rows = [...pools.values()];
  const ready = rows.filter((row) => row.ready.status === "True").length;
  tile(sums[0], heardAt ? `${ready} / ${rows.length}` : "–", "");
  SUMS.forEach(([name], index) => {
    const told = rows.map((row) => row[name]).filter((value) => typeof value === "number");
    const missing = rows.length - told.length;
    const total = told.reduce((sum, value) => sum + value, 0);
    const some = told.length || (heardAt && !rows.length);
    tile(sums[index + 1], some ? reading(total).text : "–", missing ? `known of ${told.length} of ${rows.length} pools` : "");
  });
}

function tile(node, text, note) {
  setText(node.children[1], text);
  setText(node.children[2], note);
}

function drawDetail() {
  const key = chosen();
  const pool = known.pool;
  $("detail").hidden = !key;
  if (!key) return;
  setText($("detail-heading"), key);
  if (!pool || keyOf(pool) !== key) {
    setText($("summary"), heardAt && !pools.has(key) ? "There is no such pool." : "Reading…");
    for (const name of ["queues", "metrics", "workers", "history", "conditions", "letters"]) tables[name].show([], "");
    $("waits").replaceChildren();
    setText($("workers-count"), "");
    setText($("letters-count"), "");
    return;
  }
  const decision = pool.status.decision;
  setText($("summary"), decision ? `${decision.reason}: ${decision.message}` : pool.status.message ?? "Nothing was decided yet.");
  const waits = [...(decision?.limits ?? []), ...(pool.status.waits ?? [])].filter((words) => !$("summary").textContent.startsWith(words));
  if ([...$("waits").children].map((item) => item.textContent).join("\n") !== waits.join("\n"))
    $("waits").replaceChildren(...waits.map((words) => element("li", "", words)));
  tables.queues.show(numbered(pool.queues), "None.");
  tables.metrics.show(numbered(pool.status.metrics ?? []), "Nothing was decided yet.");
  drawWorkers(pool.workers);
  tables.history.show(numbered(pool.decisions), "None since this operator began to lead.");
  tables.conditions.show(pool.conditions, "None told yet.");
  drawLetters(pool.letters);
}

function drawWorkers(workers) {
  const { rows, total } = workers.missing ? { rows: [], total: null } : workers;
  const ready = rows.filter((row) => row.state === "ready").length;
  setText($("workers-count"), total === null ? "" : rows.length < total ? `first ${rows.length} of ${total}` : `${ready} of ${total} ready`);
  tables.workers.show(rows, workers.missing ? `Not known: ${workers.missing}` : "No worker reports.");
}

function drawLetters(queues) {
  const rows = [], words = [];
  for (const { queue, count, letters } of queues) {
    words.push(`${queue}: ${reading(count).text}`);
    if (Array.isArray(letters)) rows.push(...letters.map((letter) => ({ ...letter, queue })));
  }
  rows.sort((one, other) => (other.at ?? 0) - (one.at ?? 0));
  setText($("letters-count"), words.join(", "));
  const unread = queues.filter(({ letters }) => !Array.isArray(letters)).map(({ queue, letters }) => `${queue}: ${letters.missing}`);
  tables.letters.show(rows, unread.length ? `Not known: ${unread.join("; ")}` : queues.length ? "None." : "Only the leader reads them, where it knows the pool's Redis.");
}

// --- what people do ----------------------------------------------------------------------------------------------

$("filter").addEventListener("input", (event) => {
  view.filter = event.target.value;
  view.shown = PAGE;
  schedule();
});
$("sorter").addEventListener("change", (event) => {
  view.sort = event.target.value;
  view.ascending = !POOL_COLUMNS.find((column) => column.name === view.sort).numeric;
  schedule();
});
$("more").addEventListener("click", () => {
  view.shown += PAGE;
  schedule();
});
addEventListener("hashchange", () => {
  if (!/^#pool=|^#?$/.test(location.hash)) return;
  known.pool = null;
  connect();
  draw();
  if (chosen()) $("detail-heading").focus({ preventScroll: false });
});
setInterval(drawHead, 1000);
draw();
connect();
