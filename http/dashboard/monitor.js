"use strict";
// The cluster health monitor. It asks the node that served it and nobody else: first all of /api/monitor, then whatever
// /api/events brings; while there is no stream it asks again every two seconds. What strangers stored is shown as text
// only, never as markup.

const POLL_MS = 2000;
const STALE_MS = 6000;
const ARRIVES_MS = 2500;
const TIMELINE_MS = 10 * 60 * 1000;
const POINTS = 300;
const LIVE_EVENTS = ["leadership", "node_health", "membership", "recovery", "maintenance"];

const state = { seen: null, seenAt: 0, streaming: false, timeline: [], points: new Map(), boot: null, charts: {}, loadedRuns: new Map() };
const $ = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "title" || name in made && name !== "list" && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Makes the children of an element be like those in `made`, and keeps the ones that are there: what has the focus, or is
// being read or marked, does not vanish with each look at the cluster.
function show(parent, ...made) {
  const old = [...parent.childNodes];
  made.forEach((next, i) => {
    const now = old[i];
    if (!now) parent.append(next);
    else if (now.nodeName !== next.nodeName) now.replaceWith(next);
    else if (now.nodeType === Node.TEXT_NODE) { if (now.data !== next.data) now.data = next.data; }
    else {
      for (const { name } of [...now.attributes]) if (!next.hasAttribute(name)) now.removeAttribute(name);
      for (const { name, value } of next.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
      show(now, ...next.childNodes);
    }
  });
  old.slice(made.length).forEach((node) => node.remove());
}

// -- words ---------------------------------------------------------------------------------------------------------

const number = new Intl.NumberFormat("en");
const count = (n) => number.format(n ?? 0);
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;

function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60 ? (s % 60) + " s" : ""}`.trim();
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}
function precise(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : String(Math.round(ms));
}
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

function color(id, nodes) {
  const index = nodes.map((n) => n.node_id).sort().indexOf(id);
  return `var(--node-${index < 0 ? 6 : index % 7})`;
}

// -- the head of the page ------------------------------------------------------------------------------------------

function verdict(doc) {
  const down = doc.nodes.filter((n) => !n.healthy).map((n) => n.node_id);
  const failing = doc.nodes.filter((n) => n.healthy && n.writable === false).map((n) => n.node_id);
  const { size, healthy, voters } = doc.quorum;
  if (doc.nodes.length === 0) return ["warn", "No cluster yet", "This node waits for its peers to form one."];
  if (healthy < size)
    return ["bad", "No quorum", `${healthy} of ${voters} voters can be reached and ${size} are needed: nothing can be written until more come back.`];
  if (!doc.leader) return ["warn", "No leader", "An election is under way, or this node is cut off. Requests wait for it."];
  const more = doc.failure_tolerance;
  const room = more === 0 ? "No further node may fail." : `${plural(more, "more node", "more nodes")} may fail.`;
  if (down.length)
    return ["warn", `${down.join(", ")} ${down.length > 1 ? "are" : "is"} down`, `${doc.leader} leads. ${room}`];
  const cut = cutPaths(doc);
  if (cut.length)
    return ["warn", cut.length === 1 ? `The network between ${cut[0].join(" and ")} fails` : `The network fails between ${cut.length} pairs of nodes`, `${doc.leader} leads. ${room}`];
  if (failing.length) return ["bad", `The disk of ${failing.join(", ")} fails`, `${doc.leader} leads. ${room}`];
  return [more === 0 && voters > 1 ? "warn" : "good", "All nodes are healthy", `${doc.leader} leads. ${room}`];
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function renderHead(doc) {
  const [level, title, detail] = verdict(doc);
  $("verdict-box").dataset.state = level;
  setText($("verdict"), title);
  setText($("verdict-detail"), detail);
  setText($("served"), `Seen by ${doc.node_id}, version ${doc.version}`);
  setText($("timeline-node"), doc.node_id);
  document.title = `${level === "good" ? "" : "! "}${title} · Cluster health`;
  const last = latestPoint();
  const lost = doc.quorum.healthy < doc.quorum.size;
  const tasks = doc.tasks || {};
  const workers = doc.workers_by_status || {};
  const alive = Object.entries(workers).reduce((sum, [status, n]) => sum + (status === "offline" ? 0 : n), 0);
  const tile = (name, value, small, level) => el("div", { class: level }, el("dt", { text: name }), el("dd", null, value, small ? el("small", { text: " " + small }) : null));
  show($("tiles"),
    tile("Leader", doc.leader || "none", `term ${count(doc.term)}`, doc.leader ? null : "bad"),
    tile("May still fail", lost ? "none" : count(doc.failure_tolerance), `of ${plural(doc.nodes.length, "node", "nodes")}`, lost ? "bad" : doc.failure_tolerance === 0 && doc.quorum.voters > 1 ? "warn" : null),
    tile("Commits", last ? count(Math.round(last.rate)) : "–", "per second"),
    tile("Write latency", last ? precise(last.write_p99) : "–", "ms, p99"),
    tile("Waiting tasks", count(tasks.pending), tasks.running + tasks.assigned ? `${count(tasks.running + tasks.assigned)} running` : ""),
    tile("Workers", count(alive), workers.offline ? `${count(workers.offline)} offline` : "alive"));
}

// -- nodes ---------------------------------------------------------------------------------------------------------

function roleBadge(node) {
  if (!node.healthy) return el("span", { class: "pill pill-bad" }, el("span", { class: "dot", "aria-hidden": "true" }), "unreachable");
  if (!node.role) return el("span", { class: "pill", text: "unknown" });
  const kind = node.role === "LEADER" ? "pill-accent" : node.role === "FOLLOWER" ? "pill-good" : "pill-warn";
  return el("span", { class: `pill ${kind}`, text: node.role.toLowerCase() });
}

function renderNodes(doc) {
  const cell = (label, text, kind) => el("td", { "data-label": label, class: kind, text });
  show($("nodes"), ...doc.nodes.map((node) => {
    const here = node.node_id === doc.node_id;
    const mark = el("span", { class: "dot", "aria-hidden": "true" });
    mark.style.background = color(node.node_id, doc.nodes);
    const lag = node.lag === undefined ? "–" : count(node.lag);
    return el("tr", { class: node.healthy ? null : "down" },
      el("th", { scope: "row" }, el("span", { class: "name" }, mark, node.node_id, here ? el("span", { class: "self", text: "this node" }) : null)),
      el("td", { class: "keep" }, roleBadge(node)),
      cell("Term", node.term === undefined ? "–" : count(node.term), "num"),
      cell("Committed", node.commit_index === undefined ? "–" : count(node.commit_index), "num"),
      cell("Applied", node.last_applied === undefined ? "–" : count(node.last_applied), "num"),
      cell("Lag", lag, "num"),
      cell("Last contact", here ? "–" : duration(node.last_contact_ms), "num"),
      cell("Up", node.healthy ? duration(node.uptime_ms) : "–", "num"),
      cell("Version", node.version || "–"),
      el("td", { "data-label": "Address", class: "long" }, here ? document.createTextNode(node.http_address) : el("a", { href: `${location.protocol}//${node.http_address}/`, text: node.http_address })));
  }));
}

// -- who reaches whom ------------------------------------------------------------------------------------------------

function linkOf(doc, from, to) {
  const node = doc.nodes.find((n) => n.node_id === from);
  if (!node || !node.healthy || node.report_age_ms > 5000) return { known: false };
  const link = node.links.find((l) => l.to === to);
  return { known: true, up: Boolean(link && link.up), rtt: link ? link.rtt_ms : null, heard: link ? link.heard_ms : null, arrived: link ? link.arrived_ms : null };
}

// A round trip needs both directions, so a one-way fault ends it at both ends. Which direction failed is told by the datagrams
// that each node sends to each other one twice a second: whether those of `from` arrive at `to`; null where nobody can tell.
function arrives(doc, from, to) {
  const there = linkOf(doc, to, from);
  if (!there.known) return null;
  if (there.arrived !== null && there.arrived !== undefined) return there.arrived < ARRIVES_MS;
  // None came since that node started: the direction fails, unless datagrams are not let through at all.
  return arrivesEver(doc, to, from) ? false : null;
}
function arrivesEver(doc, from, to) {
  const there = linkOf(doc, to, from);
  return there.known && there.arrived !== null && there.arrived !== undefined;
}
function failedOneWay(doc, from, to) {
  const there = linkOf(doc, to, from), back = linkOf(doc, from, to);
  return there.known && back.known && !(there.up && back.up) && arrives(doc, from, to) === false && arrives(doc, to, from) === true;
}

// Pairs of nodes that are there, and of which at least one does not hear the other.
function cutPaths(doc) {
  const ids = doc.nodes.map((n) => n.node_id);
  const fails = (from, to) => { const link = linkOf(doc, from, to); return link.known && !link.up; };
  return ids.flatMap((a, i) => ids.slice(i + 1).map((b) => [a, b]))
    .filter(([a, b]) => linkOf(doc, a, b).known && linkOf(doc, b, a).known && (fails(a, b) || fails(b, a)));
}

function matrixCell(doc, from, to) {
  if (from === to) return el("td", { class: "none", text: "·", "aria-label": "itself" });
  const link = linkOf(doc, from, to);
  if (!link.known) return el("td", { class: "none", text: "?", title: `${from} cannot be asked` });
  if (!link.up) {
    const silent = link.heard === null ? "never answered" : `no answer for ${duration(link.heard)}`;
    if (failedOneWay(doc, from, to)) return el("td", { class: "cut oneway", title: `What ${from} sends does not arrive at ${to}` }, "does not arrive", el("small", { text: silent }));
    if (failedOneWay(doc, to, from)) return el("td", { class: "slow", title: `What ${from} sends arrives at ${to}, but no answer comes back` }, "arrives", el("small", { text: silent }));
    const why = arrives(doc, from, to) ? "packets arrive" : silent;
    return el("td", { class: "cut", title: silent }, "no link", el("small", { text: why }));
  }
  const slow = link.rtt !== null && link.rtt > 50;
  return el("td", { class: slow ? "slow" : null }, link.rtt === null ? "up" : `${precise(link.rtt)} ms`, slow ? el("small", { text: "slow" }) : null);
}

function renderMatrix(doc) {
  const ids = doc.nodes.map((n) => n.node_id);
  $("matrix").style.minWidth = `${(ids.length + 1) * 80}px`;
  show($("matrix"),
    el("thead", null, el("tr", null, el("th", { scope: "col", text: "from \\ to" }), ...ids.map((id) => el("th", { scope: "col", text: id })))),
    el("tbody", null, ...ids.map((from) => el("tr", null, el("th", { scope: "row", text: from }), ...ids.map((to) => matrixCell(doc, from, to))))));
  const oneWay = ids.flatMap((from) => ids.filter((to) => from !== to).map((to) => [from, to]))
    .filter(([from, to]) => failedOneWay(doc, from, to));
  const unknown = doc.nodes.filter((n) => !n.healthy).map((n) => n.node_id);
  const words = oneWay.map(([from, to]) => `A one-way fault: what ${from} sends does not arrive at ${to}, while ${to} can send to ${from}.`);
  if (unknown.length) words.push(`What ${unknown.join(" and ")} ${unknown.length > 1 ? "reach" : "reaches"} is not known.`);
  setText($("matrix-note"), words.join(" "));
}

// -- elections and recoveries -----------------------------------------------------------------------------------------

function sentence(event) {
  switch (event.event) {
    case "leadership": return event.leader ? [`${event.leader} leads in term ${count(event.term)}`, "good"] : [`No leader known in term ${count(event.term)}`, "bad"];
    case "node_health": return event.healthy ? [`${event.node_id} can be reached`, "good"] : [`${event.node_id} was lost${event.reason ? ": " + event.reason : ""}`, "bad"];
    case "membership": return [`Members: ${event.members.map((m) => m.node_id + (m.voter ? "" : " (learner)")).join(", ")}`, ""];
    case "recovery": return [`Recovery, ${event.strategy.replaceAll("_", " ")}${event.node_id ? " of " + event.node_id : ""}: ${event.outcome}`, ""];
    case "maintenance": return [event.enabled ? "Maintenance: new tasks are refused" : "Maintenance has ended", ""];
    default: return [event.event, ""];
  }
}

function renderTimeline(doc) {
  const events = state.timeline;
  const shown = [];
  let last = "";
  for (const event of events) {
    const [text, kind] = sentence(event);
    // A role of this node's own that changes is told by the leader that comes of it.
    if (event.event === "leadership" && text === last) continue;
    last = event.event === "leadership" ? text : last;
    shown.push({ event, text, kind });
  }
  const items = shown.slice(-40).reverse().map(({ event, text, kind }) => {
    const time = el("time", { datetime: new Date(event.at_ms).toISOString(), text: clock(event.at_ms) });
    return el("li", null, time, el("span", { class: kind, text }));
  });
  show($("timeline"), ...(items.length ? items : [el("li", { class: "empty", text: "Nothing has happened yet." })]));

  const end = doc.at_ms, begin = end - TIMELINE_MS;
  const spans = [];
  for (const event of events.filter((e) => e.event === "leadership")) {
    const open = spans[spans.length - 1];
    if (open && open.leader === event.leader) continue;
    if (open) open.to = event.at_ms;
    spans.push({ leader: event.leader, from: event.at_ms, to: end });
  }
  const part = (ms) => `${Math.max(0, Math.min(100, (ms - begin) / TIMELINE_MS * 100))}%`;
  const pieces = spans.filter((s) => s.to > begin).map((s) => {
    const share = (Math.min(s.to, end) - Math.max(s.from, begin)) / TIMELINE_MS * 100;
    const piece = el("i", { text: $("strip").clientWidth * share / 100 > 70 ? s.leader : "", title: `${s.leader || "no leader"} from ${clock(s.from)}` });
    piece.style.left = part(s.from);
    piece.style.width = `${Math.max(0.4, share)}%`;
    piece.style.background = s.leader ? color(s.leader, doc.nodes) : "var(--bad)";
    return piece;
  });
  const marks = events.filter((e) => e.event === "recovery" && e.at_ms > begin).map((e) => {
    const mark = el("b", { title: `${clock(e.at_ms)} ${sentence(e)[0]}` });
    mark.style.left = part(e.at_ms);
    return mark;
  });
  show($("strip"), ...pieces, ...marks);
  const words = spans.filter((s) => s.to > begin).map((s) => `${s.leader || "no leader"} from ${clock(Math.max(s.from, begin))}`);
  $("strip").setAttribute("aria-label", `Leaders over the last ten minutes: ${words.join(", then ") || "none"}`);
}

// -- charts ------------------------------------------------------------------------------------------------------------

function takeHistory(doc) {
  const history = doc.history;
  if (!history) return;
  if (state.boot !== history.boot) {
    state.points.clear();
    state.boot = history.boot;
  }
  history.committed.forEach((committed, i) => state.points.set(history.first + i, {
    rate: committed * 1000 / history.step_ms,
    write_p50: history.write_p50_ms[i], write_p99: history.write_p99_ms[i],
    fsync_p50: history.fsync_p50_ms[i], fsync_p99: history.fsync_p99_ms[i],
  }));
  const newest = Math.max(...state.points.keys());
  for (const key of state.points.keys()) if (key <= newest - POINTS) state.points.delete(key);
}
function latestPoint() {
  return state.points.size ? state.points.get(Math.max(...state.points.keys())) : null;
}
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A point without neighbours has no line that would show it.
function alone(context) {
  const data = context.dataset.data, i = context.dataIndex;
  const missing = (value) => value === null || value === undefined;
  return !missing(data[i]) && missing(data[i - 1]) && missing(data[i + 1]) ? 2 : 0;
}

function makeChart(id, series) {
  return new Chart($(id), {
    type: "line",
    data: { labels: [], datasets: series.map((s) => ({ label: s.label, data: [], borderColor: css(s.color), backgroundColor: css(s.color) + "22", borderWidth: 1.75, pointRadius: alone, cubicInterpolationMode: "monotone", fill: s.fill || false })) },
    options: {
      animation: false, responsive: true, maintainAspectRatio: false, normalized: true,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { grid: { display: false }, ticks: { color: css("--quiet"), maxTicksLimit: 4, maxRotation: 0, autoSkip: true, font: { size: 11 } } },
        y: { beginAtZero: true, grace: "10%", border: { display: false }, grid: { color: css("--line"), drawBorder: false }, ticks: { color: css("--quiet"), maxTicksLimit: 4, font: { size: 11 } } },
      },
      plugins: { legend: { display: series.length > 1, align: "end", labels: { color: css("--quiet"), boxWidth: 10, boxHeight: 2, font: { size: 11 } } } },
    },
  });
}
function makeCharts() {
  if (typeof Chart === "undefined") return;
  for (const chart of Object.values(state.charts)) chart.destroy();
  state.charts = {
    rate: makeChart("chart-rate", [{ label: "commits/s", color: "--accent", fill: true }]),
    write: makeChart("chart-write", [{ label: "p50", color: "--node-1" }, { label: "p99", color: "--node-2" }]),
    fsync: makeChart("chart-fsync", [{ label: "p50", color: "--node-1" }, { label: "p99", color: "--node-2" }]),
  };
}
function renderCharts(doc) {
  const keys = [...state.points.keys()].sort((a, b) => a - b);
  const points = keys.map((key) => state.points.get(key));
  const newest = keys[keys.length - 1];
  const labels = keys.map((key) => clock(doc.at_ms - (newest - key) * doc.history.step_ms));
  const fill = (chart, ...names) => {
    if (!chart) return;
    chart.data.labels = labels;
    names.forEach((name, i) => { chart.data.datasets[i].data = points.map((p) => p[name]); });
    chart.update("none");
  };
  fill(state.charts.rate, "rate");
  fill(state.charts.write, "write_p50", "write_p99");
  fill(state.charts.fsync, "fsync_p50", "fsync_p99");
  const last = latestPoint();
  if (!last) return;
  const most = points.reduce((max, p) => Math.max(max, p.rate), 0);
  setText($("rate-text"), `Now ${count(Math.round(last.rate))}, at most ${count(Math.round(most))}.`);
  setText($("write-text"), last.write_p99 === null ? "No writes by this node's clients just now." : `Now ${precise(last.write_p50)} at the median, ${precise(last.write_p99)} at p99; by clients of ${doc.node_id}.`);
  setText($("fsync-text"), last.fsync_p99 === null ? "The disk is idle." : `Now ${precise(last.fsync_p50)} at the median, ${precise(last.fsync_p99)} at p99; disk of ${doc.node_id}.`);
}

// -- queue, workers, runs ------------------------------------------------------------------------------------------------

function renderQueue(doc) {
  const tasks = doc.tasks || {};
  setText($("queue-hint"), `${plural(tasks.pending ?? 0, "task waits", "tasks wait")} for a worker, ${count(tasks.blocked)} for other tasks; by what they require.`);
  const most = Math.max(1, ...doc.queue.map((line) => line.tasks));
  const lines = doc.queue.slice(0, 12).map((line) => {
    const bar = el("i");
    bar.style.width = `${line.tasks / most * 100}%`;
    return el("li", null,
      el("div", { class: "line" }, el("span", { text: line.requirement === "any" ? "any worker" : line.requirement, title: line.requirement }),
        el("span", { text: `${count(line.tasks)}, oldest ${duration(line.oldest_age_ms)}` })),
      el("div", { class: "meter", "aria-hidden": "true" }, bar));
  });
  show($("queue"), ...(lines.length ? lines : [el("li", { class: "empty", text: "Nothing waits." })]));
}

function renderWorkers(doc) {
  const by = doc.workers_by_status || {};
  const total = Object.values(by).reduce((a, b) => a + b, 0);
  const words = Object.entries(by).filter(([, n]) => n > 0).map(([status, n]) => `${count(n)} ${status}`);
  setText($("workers-hint"), total ? words.join(", ") + (doc.workers.length < total ? `; the first ${count(doc.workers.length)} are shown` : "") : "");
  const items = doc.workers.map((w) => {
    const what = w.running.length ? w.running.join(", ") : w.status === "offline" ? "not heard of" : "nothing to run";
    const shown = w.running.length > 1 ? `${w.running[0]} and ${w.running.length - 1} more` : what;
    return el("li", { "data-status": w.status },
      el("div", { class: "who" }, el("b", { text: w.worker_id, title: w.worker_id }), el("span", { class: "self", text: `${w.status} ${w.running.length}/${w.slots}` })),
      el("div", { class: "what", title: what, text: shown }));
  });
  show($("workers"), ...(items.length ? items : [el("li", { class: "empty", text: "No worker has registered." })]));
}

const notPassed = (run) => run.by_status.completed - run.passed + run.by_status.failed;

function runProgress(run) {
  const s = run.by_status;
  const bad = notPassed(run);
  const bar = el("div", { class: "progress", role: "img", "aria-label": `${run.passed} of ${run.tasks} passed, ${bad} did not` });
  for (const [kind, n] of [["done", run.passed], ["failed", bad], ["cancelled", s.cancelled], ["active", s.running + s.assigned]]) {
    if (!n) continue;
    const piece = el("i", { class: kind });
    piece.style.width = `${n / run.tasks * 100}%`;
    bar.append(piece);
  }
  return bar;
}

async function loadRun(id, inside) {
  try {
    const answer = await fetch(`/api/runs/${encodeURIComponent(id)}?consistency=stale`);
    if (!answer.ok) throw new Error(answer.status);
    const run = await answer.json();
    const outcomes = Object.entries(run.outcomes).map(([name, n]) => `${count(n)} ${name}`).join(", ");
    const failures = run.failures.flatMap((f) => [
      el("h3", { text: `${f.outcome}: ${f.name}${f.worker_id ? " on " + f.worker_id : ""}` }),
      el("pre", { tabindex: "0", text: [f.output, f.error].filter(Boolean).join("\n") || "It left no output." })]);
    const slowest = run.slowest.slice(0, 5).map((t) => `${t.name} (${duration(t.duration_ms)})`).join(", ");
    inside.replaceChildren(
      el("p", { text: `${outcomes || "No tasks"}. ` }, el("a", { href: `/api/runs/${encodeURIComponent(id)}/junit.xml`, text: "JUnit XML" })),
      slowest ? el("p", { class: "hint", text: `Slowest: ${slowest}` }) : "",
      ...(failures.length ? failures : [el("p", { class: "hint", text: "No failure." })]),
      run.failures_total > run.failures.length ? el("p", { class: "hint", text: `${count(run.failures_total - run.failures.length)} more failures.` }) : "");
  } catch {
    inside.replaceChildren(el("p", { class: "hint", text: "This node did not answer; close and open the run to try again." }));
  }
}

function renderRuns(doc) {
  const box = $("runs");
  const known = new Map([...box.querySelectorAll("details")].map((d) => [d.dataset.run, d]));
  setText($("runs-hint"), doc.runs.length ? "The newest first. Open one for its failures and their output." : "");
  const items = doc.runs.map((run) => {
    // One that is open, or has the focus, stays the same element.
    const details = known.get(run.run_id) || el("details", { "data-run": run.run_id }, el("summary"), el("div", { class: "inside" }));
    if (!known.has(run.run_id))
      details.addEventListener("toggle", () => { if (details.open) loadRun(run.run_id, details.lastElementChild); });
    const s = run.by_status;
    const open = s.pending + s.blocked + s.assigned + s.running;
    const bad = notPassed(run);
    const words = [`${count(run.passed)} of ${count(run.tasks)} passed`, bad ? `${count(bad)} failed` : "", s.cancelled ? `${count(s.cancelled)} cancelled` : "", open ? `${count(open)} open` : ""].filter(Boolean).join(", ");
    const key = words + run.finished_ms;
    if (details.dataset.key !== key) {
      if (details.open && details.dataset.key) loadRun(run.run_id, details.lastElementChild);
      details.dataset.key = key;
    }
    details.firstElementChild.replaceChildren(
      el("span", { class: "run", text: run.run_id, title: run.run_id }), runProgress(run),
      el("span", { class: bad ? "counts bad" : "counts", text: words }), el("span", { class: "time", text: duration(run.duration_ms) }));
    return details;
  });
  if (!items.length) box.replaceChildren(el("p", { class: "empty", text: "No runs yet." }));
  else if (items.length !== box.children.length || items.some((item, i) => box.children[i] !== item)) box.replaceChildren(...items);
}

// -- what comes in -------------------------------------------------------------------------------------------------------

function take(doc) {
  state.seen = doc;
  state.seenAt = Date.now();
  state.timeline = doc.timeline;
  takeHistory(doc);
  render();
}

function render() {
  const doc = state.seen;
  if (!doc) return;
  renderHead(doc);
  renderNodes(doc);
  renderMatrix(doc);
  renderTimeline(doc);
  renderCharts(doc);
  renderQueue(doc);
  renderWorkers(doc);
  renderRuns(doc);
  renderFreshness();
}

function renderFreshness() {
  const age = Date.now() - state.seenAt;
  const pill = $("link");
  const stale = state.seen && age > STALE_MS;
  const level = stale || !state.seen ? "bad" : state.streaming ? "good" : "warn";
  pill.className = `pill pill-${level}`;
  setText($("link-text"), !state.seen ? "connecting" : stale ? `stale, ${duration(age)} old` : state.streaming ? "live" : "polling");
  const banner = $("stale");
  let text = "";
  $("main").classList.toggle("old", Boolean(stale));
  if (stale) {
    // What was so then must not look as if it were so now.
    const [, title, detail] = verdict(state.seen);
    $("verdict-box").dataset.state = "unknown";
    setText($("verdict"), "Not known any more");
    setText($("verdict-detail"), `At ${clock(state.seenAt)}: ${title}. ${detail}`);
    document.title = "! Stale · Cluster health";
    text = `${state.seen.node_id} has not answered for ${duration(age)}. This is how things were at ${clock(state.seenAt)}.`;
  } else if (state.seen && !state.seen.leader && state.seen.nodes.length) {
    text = `${state.seen.node_id} knows no leader: tasks, workers and runs are what it applied last, and may be behind.`;
  }
  banner.classList.toggle("banner-bad", Boolean(stale));
  if (!text) { banner.hidden = true; banner.replaceChildren(); banner.dataset.text = ""; return; }
  banner.hidden = false;
  // The age runs on every second; a screen reader is told once.
  const topic = stale ? "stale" : "leaderless";
  if (banner.dataset.text !== topic) {
    banner.dataset.text = topic;
    const others = stale ? state.seen.nodes.filter((n) => n.node_id !== state.seen.node_id) : [];
    banner.replaceChildren(el("span", { text }), ...others.map((n) => el("a", { href: `${location.protocol}//${n.http_address}/`, text: `Ask ${n.node_id}` })));
  } else {
    setText(banner.firstElementChild, text);
  }
}

let asking = false;
let askedAt = 0;
async function ask() {
  if (asking) return;
  asking = true;
  askedAt = Date.now();
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), 4000);
  try {
    const answer = await fetch("/api/monitor", { signal: limit.signal, cache: "no-store" });
    if (answer.ok) take(await answer.json());
  } catch {
    // renderFreshness says how old the picture is.
  } finally {
    clearTimeout(timer);
    asking = false;
  }
}

let pending = 0;
function askSoon() {
  // Events come in bursts: one look after the first of them, one after the last.
  clearTimeout(pending);
  if (Date.now() - askedAt > 400) ask();
  pending = setTimeout(ask, 450);
}

let stream = null;
function connect() {
  if (!("EventSource" in window)) return;
  if (stream) stream.close();
  stream = new EventSource("/api/events?figures=1");
  stream.onopen = () => { state.streaming = true; renderFreshness(); };
  stream.onerror = () => {
    state.streaming = false;
    renderFreshness();
    // The browser tries again by itself unless it was refused for good.
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  };
  stream.addEventListener("figures", (message) => { state.streaming = true; take(JSON.parse(message.data)); });
  stream.addEventListener("cut_off", () => { state.streaming = false; setTimeout(connect, 1000); });
  stream.addEventListener("reset", askSoon);
  for (const name of LIVE_EVENTS) stream.addEventListener(name, askSoon);
}

document.addEventListener("DOMContentLoaded", () => {
  makeCharts();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { makeCharts(); render(); });
  ask();
  connect();
  setInterval(() => { if (!state.streaming || Date.now() - state.seenAt > 2 * POLL_MS) ask(); }, POLL_MS);
  setInterval(renderFreshness, 1000);
});
