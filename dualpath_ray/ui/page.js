const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** An element: text is set as text, never as markup. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function svg(name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/* ---- what the server tells ------------------------------------------------------------------------------------- */

const QUIET_MS = 9000; // a server that is there says so more often
const state = { view: null, points: [], paused: false, rows: [], wanted: null, wantedMs: 0, chosen: [], runs: [], retryMs: 500 };
let source = null;
let quiet = null;

function connect() {
  source = new EventSource("/api/events");
  source.addEventListener("history", (event) => heard(() => { state.points = JSON.parse(event.data); }));
  source.addEventListener("view", (event) => heard(() => show(JSON.parse(event.data))));
  source.addEventListener("decisions", (event) => heard(() => addDecisions(JSON.parse(event.data))));
  source.addEventListener("beat", () => heard(() => {}));
  source.onerror = lost;
}

function heard(then) {
  clearTimeout(quiet);
  quiet = setTimeout(lost, QUIET_MS);
  state.retryMs = 500;
  then();
}

/** The server is gone: say so, and look for it again, less and less often. */
async function lost() {
  if (source === null) return;
  source.close();
  source = null;
  clearTimeout(quiet);
  tellLink("lost", "connection lost, trying again");
  document.body.classList.add("stale");
  let sentence = "The page's server does not answer. What you see is what it told last; the page goes on trying.";
  try {
    const answer = await fetch("/api/status", { cache: "no-store" });
    if (answer.status === 401) sentence = (await answer.json()).error;
  } catch {
    // that is what the sentence says
  }
  tellProblem(sentence);
  setTimeout(connect, state.retryMs);
  state.retryMs = Math.min(5000, state.retryMs * 1.6);
}

function tellLink(is, words) {
  $("link").dataset.state = is;
  put($("link"), words);
}

function tellProblem(sentence) {
  $("problem").hidden = !sentence;
  put($("problem"), sentence || "");
}

/* ---- the view -------------------------------------------------------------------------------------------------- */

function show(view) {
  const gone = view.problem !== null;
  document.body.classList.toggle("stale", gone);
  tellLink(gone ? "lost" : "live", gone ? "the system does not answer, trying again" : "live");
  tellProblem(gone ? `${view.problem} The page goes on trying.` : view.problems.join(" "));
  if (view.system === undefined || (gone && state.view !== null)) return;
  const before = state.view;
  state.view = view;
  put($("system"), view.system);
  put($("subtitle"), `${view.model} on ${view.shape}: ${words(view)}`);
  document.title = `${view.system}, live`;
  showPath(view, before);
  showCounters(view);
  showMap(view);
  showNics(view);
  const last = state.points.at(-1);
  if (!last || last[0] < view.at_s) state.points.push([view.at_s, view.snics]);
  while (state.points.length && state.points[0][0] < view.at_s - PAGE.kept_s) state.points.shift();
  drawHistory();
}

function words(view) {
  const count = (role) => view.nodes.filter((node) => node.role === role).length;
  const many = (number, thing) => `${number} ${thing} node${number === 1 ? "" : "s"}`;
  return `${many(count("prefill"), "prefill")}, ${many(count("decode"), "decode")}`;
}

const pathWords = (path) => (path === PAGE.single ? "single path" : path === PAGE.dual ? "dual path" : path);

function showPath(view, before) {
  if (state.wanted === view.read_path || performance.now() - state.wantedMs > 4000) state.wanted = null;
  const path = state.wanted ?? view.read_path;
  $("single").checked = path === PAGE.single;
  $("dual").checked = path === PAGE.dual;
  const known = path === PAGE.single || path === PAGE.dual;
  put($("paths-legend"), known ? "Who reads from storage" : `Who reads from storage: now the policy ${path}`);
  if (before && before.read_path !== view.read_path) put($("said"), `The read path is now the ${pathWords(view.read_path)}.`);
}

async function setPath(path) {
  state.wanted = path;
  state.wantedMs = performance.now();
  $(path === PAGE.single ? "single" : "dual").checked = true;
  let sentence = null;
  try {
    const headers = { "Content-Type": "application/json", [PAGE.change]: "1" };
    const answer = await fetch("/api/read-path", { method: "POST", headers, body: JSON.stringify({ read_path: path }) });
    if (!answer.ok) sentence = (await answer.json()).error;
  } catch {
    sentence = "the page's server does not answer";
  }
  if (sentence !== null) {
    state.wanted = null;
    tellProblem(`The read path was not changed: ${sentence}`);
    if (state.view) showPath(state.view, null);
  }
}

/* counters: made once, then only their words change */
const counters = {};

function counter(key, label, kind = "") {
  if (!(key in counters)) {
    counters[key] = el("dd", { id: `count-${key}` });
    $("counters").append(el("div", { class: kind }, el("dt", {}, label), counters[key]));
  }
  return counters[key];
}

function showCounters(view) {
  const pool = counter("pool", "", "hero");
  put(pool, view.pool.percent);
  put(pool.previousSibling, `of ${view.pool.num} storage NICs, pooled\n${view.pool.rate}`);
  for (const row of view.counters) put(counter(row.key, row.label), row.value);
  const split = counter("by-path", "hits read so far", "split");
  if (!split.firstChild) {
    const halves = el("span", { class: "halves", "aria-hidden": "true" });
    for (const row of view.by_path) {
      split.append(el("span", {}, el("span", {}, el("i", { class: `glyph ${row.path}`, "aria-hidden": "true" }), row.label), el("b", { id: `by-${row.path}` })));
      halves.append(el("i", { class: row.path }));
    }
    split.append(halves);
  }
  view.by_path.forEach((row, index) => {
    put($(`by-${row.path}`), row.value);
    split.lastChild.children[index].style.width = `${row.share * 100}%`;
  });
}

/* the map: rows are made when nodes come or go, then only bars and words change */
let drawn = "";
const parts = { lanes: {}, nodes: {} };

function showMap(view) {
  const shape = JSON.stringify(view.nodes.map((node) => [node.node, node.role, node.lanes.map((lane) => lane.nic)]));
  if (shape !== drawn) makeRows(view);
  drawn = shape;
  const blocks = view.storage.map((node) => (view.storage.length > 1 ? `${node.name}: ${node.blocks}` : node.blocks));
  put($("storage-words"), [...blocks.slice(0, 4), ...(view.storage.length === 1 ? [view.storage[0].used] : [])].join("\n"));
  put($("network-words"), view.network.rate);
  for (const node of view.nodes) {
    const part = parts.nodes[node.node];
    put(part.state, node.state);
    part.state.dataset.state = node.state;
    put(part.work, node.work);
    put(part.buffer, node.buffer);
    part.level.style.width = `${(node.buffer_share ?? 0) * 100}%`;
    for (const lane of node.lanes) showLane(lane);
    for (const [kind, sum] of Object.entries(part.sums)) {
      const own = node.lanes.filter((lane) => lane.kind === kind);
      const busiest = Math.max(...own.map((lane) => lane.share ?? 0));
      put(sum, `${own.length / 2} NICs, the busiest direction at ${Math.round(busiest * 100)} %`);
    }
  }
}

function makeRows(view) {
  const rows = $("rows");
  rows.replaceChildren();
  rows.classList.toggle("many", view.nodes.length > 6);
  parts.lanes = {};
  parts.nodes = {};
  for (const role of ["prefill", "decode"]) {
    const own = view.nodes.filter((node) => node.role === role);
    if (own.length) rows.append(el("p", { class: "group" }, role === "prefill" ? "Prefill nodes" : "Decode nodes"));
    for (const node of own) rows.append(makeRow(node));
  }
}

function makeRow(node) {
  const part = { state: el("span", { class: "state" }), work: el("div", { class: "work" }), buffer: el("div", { class: "buffer" }), level: el("i"), sums: {} };
  parts.nodes[node.node] = part;
  const name = el("div", { class: "name" }, el("i", { class: `glyph ${node.role}`, "aria-hidden": "true" }), node.node, el("span", { class: "role" }, node.role), part.state);
  const card = el("div", { class: "node" }, name, part.work, part.buffer, el("div", { class: "level", "aria-hidden": "true" }, part.level));
  return el("div", { class: `row ${node.role}`, role: "group", "aria-label": `${node.role} node ${node.node}`, id: `node-${node.node}` }, makeLanes(node, "snic", part), card, makeLanes(node, "cnic", part));
}

function makeLanes(node, kind, part) {
  const lanes = node.lanes.filter((lane) => lane.kind === kind);
  const crowd = lanes.length > 4;
  const box = el("div", { class: crowd ? "lanes crowd" : "lanes" });
  if (crowd) {
    part.sums[kind] = el("p", { class: "sum" });
    box.append(part.sums[kind]);
  }
  for (const lane of lanes) {
    const arrow = (kind === "snic") === (lane.way === "in") ? "→" : "←";
    const made = { share: el("i"), percent: el("b"), rate: el("span", { class: "rate" }), queue: el("span", { class: "queue" }) };
    const label = lanes.length > 2 ? `${lane.does} ${lane.name.replace("cnic", "")}` : lane.does;
    const does = el("span", { class: "does" }, el("span", { "aria-hidden": "true" }, `${arrow} `), label);
    const who = `${node.node} ${kind === "snic" ? "storage NIC" : lane.name.replace("cnic", "compute NIC ")}, ${lane.does}`;
    made.pipe = el("div", { class: "pipe", role: "meter", "aria-label": who, "aria-valuemin": "0", "aria-valuemax": "100", "data-nic": lane.nic }, made.share);
    made.lane = el("div", { class: `lane ${kind} ${lane.way}` }, el("div", { class: "words" }, does, made.percent, made.rate, made.queue), made.pipe);
    parts.lanes[lane.nic] = made;
    box.append(made.lane);
  }
  return box;
}

function showLane(lane) {
  const part = parts.lanes[lane.nic];
  const share = Math.round((lane.share ?? 0) * 1000) / 10;
  part.share.style.width = `${share}%`;
  put(part.percent, lane.share === null ? "–" : lane.percent);
  put(part.rate, lane.rate);
  put(part.queue, lane.closed ? "closed on the single path" : lane.queue);
  part.queue.toggleAttribute("data-some", lane.queued_bytes > 0);
  part.lane.classList.toggle("closed", lane.closed);
  part.lane.classList.toggle("unknown", lane.share === null);
  part.pipe.setAttribute("aria-valuenow", share);
  part.pipe.setAttribute("aria-valuetext", `${lane.percent}, ${lane.rate}, ${lane.closed ? "closed on the single path" : lane.queue}`);
  part.pipe.title = `${lane.nic}: ${lane.percent}, ${lane.rate}, ${lane.queue}; ${lane.device}`;
}

function showNics(view) {
  if (!document.querySelector("details.all").open) return;
  const header = el("tr", {}, ...["NIC", "does", "utilisation", "rate", "queue", "device"].map((text) => el("th", { scope: "col" }, text)));
  const rows = view.nodes.flatMap((node) => node.lanes).map((lane) =>
    el("tr", {}, el("th", { scope: "row" }, `${lane.node}/${lane.name}`), ...[lane.does, lane.percent, lane.rate, lane.queue, lane.device].map((text) => el("td", {}, text))));
  $("nics").replaceChildren(el("thead", {}, header), el("tbody", {}, ...rows));
}

/* ---- history: a strip a storage NIC ---------------------------------------------------------------------------- */

const GAP_S = 12; // points further apart are not joined
const CHART_PX = 292; // as high as the decisions beside it, unless there are many nodes

function drawHistory() {
  const view = state.view;
  if (!view) return;
  const names = view.nodes.map((node) => node.node);
  const role = Object.fromEntries(view.nodes.map((node) => [node.node, node.role]));
  const width = Math.max(260, $("history").clientWidth);
  const left = 34, right = 44, top = 36, bottom = 22;
  const room = Math.max(18, (CHART_PX - top - bottom) / Math.max(1, names.length));
  const height = top + room * names.length + bottom;
  const x = (at) => left + (1 - (view.at_s - at) / PAGE.kept_s) * (width - left - right);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  names.forEach((name, index) => {
    const base = top + room * (index + 1) - 4;
    const full = room - 10;
    chart.append(svg("line", { class: "base", x1: left, x2: width - right, y1: base, y2: base }));
    for (const run of joined(name)) {
      const line = run.map(([at, share]) => `${x(at).toFixed(1)},${(base - share * full).toFixed(1)}`);
      chart.append(svg("polygon", { class: `area ${role[name]}`, points: `${x(run[0][0]).toFixed(1)},${base} ${line.join(" ")} ${x(run.at(-1)[0]).toFixed(1)},${base}` }));
      chart.append(svg("polyline", { class: `edge ${role[name]}`, points: line.join(" ") }));
    }
    const now = view.snics[name];
    chart.append(svg("text", { class: "name", x: 0, y: base - 2 }, name));
    chart.append(svg("text", { class: "now", x: width, y: base - 2, "text-anchor": "end" }, now === null || now === undefined ? "–" : `${Math.round(now * 100)} %`));
  });
  const ends = [-1e9, -1e9]; // of the labels in two lines: a label that has no room in either is left to its line
  for (const [at, path] of view.flips) {
    const place = x(at);
    if (place < left) continue;
    const line = ends.findIndex((end) => end < place - 36);
    chart.append(svg("line", { class: "mark", x1: place, x2: place, y1: line === 1 ? 29 : 15, y2: height - bottom }));
    if (line < 0) continue;
    const middle = Math.min(place, width - 36);
    ends[line] = middle + 40;
    chart.append(svg("text", { class: "flip", x: middle, y: 11 + 14 * line, "text-anchor": "middle" }, pathWords(path)));
  }
  chart.append(svg("text", { x: left, y: height - 5 }, "2 min ago"));
  chart.append(svg("text", { x: width - right, y: height - 5, "text-anchor": "end" }, "now"));
  $("history").replaceChildren(chart);
  const said = names.map((name) => `${name} ${view.snics[name] === null ? "not known" : `${Math.round((view.snics[name] ?? 0) * 100)} %`}`);
  $("history").setAttribute("aria-label", `Reads of each storage NIC over the last two minutes; now ${said.join(", ")}`);
}

function joined(name) {
  const runs = [];
  let before = -1e9;
  for (const [at, shares] of state.points) {
    const share = shares[name];
    if (share === null || share === undefined) continue;
    if (at - before > GAP_S) runs.push([]);
    runs.at(-1).push([at, share]);
    before = at;
  }
  return runs;
}

/* ---- decisions ------------------------------------------------------------------------------------------------- */

const MOST_ROWS = 60;

function addDecisions({ rows, afresh }) {
  if (afresh) {
    state.rows = [];
    if (!state.paused) $("log").replaceChildren();
  }
  const last = state.rows.at(-1)?.seq ?? 0;
  state.rows.push(...rows.filter((row) => row.seq > last));
  state.rows.splice(0, Math.max(0, state.rows.length - MOST_ROWS));
  if (!state.paused) showDecisions();
}

function showDecisions() {
  const list = $("log");
  $("log-none").hidden = state.rows.length > 0;
  if (Number(list.firstChild?.dataset.seq ?? 0) > (state.rows.at(-1)?.seq ?? 0)) list.replaceChildren(); // of another system
  const newest = Number(list.firstChild?.dataset.seq ?? 0);
  for (const row of state.rows) if (row.seq > newest) list.prepend(decision(row));
  while (list.children.length > MOST_ROWS) list.lastChild.remove();
}

function decision(row) {
  const glyph = row.side === "no hit" ? "none" : row.path;
  const where = `${row.request}: ${row.hit ? `${row.hit} hit, ` : ""}${row.prefill} then ${row.decode}`;
  return el("li", { "data-seq": row.seq, "data-path": row.path },
    el("span", { class: "seq" }, `${row.seq}`),
    el("span", { class: "side" }, el("i", { class: `glyph ${glyph}`, "aria-hidden": "true" }), row.side),
    el("span", { class: "reason" }, row.reason),
    el("span", { class: "more" }, where));
}

function pause() {
  state.paused = !state.paused;
  $("pause").setAttribute("aria-pressed", String(state.paused));
  put($("pause"), state.paused ? "Go on" : "Pause");
  if (!state.paused) showDecisions();
}

/* ---- past runs ------------------------------------------------------------------------------------------------- */

const MEASURES = [ // of a run; in few words for a column, in full for a row
  ["jct_s", "JCT", "job completion time (JCT)"],
  ["ttft_s", "TTFT p50", "time to the first token (TTFT), median"],
  ["tokens_per_s", "tokens/s", "generated tokens per second"],
  ["hit_ratio", "hit ratio", "share of prompt tokens that were loaded"],
  ["snic_bytes", "SNIC reads", "read by all storage NICs (SNICs)"],
  ["snic_max_over_mean_ratio", "max / mean", "balance of the SNICs that may read: max / mean"],
];

async function loadRuns() {
  try {
    const answer = await fetch("/api/runs", { cache: "no-store" });
    if (answer.ok) state.runs = await answer.json();
  } catch {
    return; // the connection's state says so
  }
  const there = new Set(state.runs.map((run) => run.id));
  state.chosen = state.chosen.filter((id) => there.has(id));
  showRuns();
}

function showRuns() {
  put($("runs-hint"), state.runs.length ? "Choose two to compare them." : "None yet: a rollout leaves its results in the folder runs.");
  $("runs-card").hidden = !state.runs.length;
  if (!state.runs.length) return;
  const columns = ["run", "mode", "nodes", "turns", ...MEASURES.map(([, label]) => label), "report"];
  const header = el("tr", {}, ...columns.map((text, index) => el("th", { scope: "col", class: index < 2 ? "left" : null }, text)));
  $("runs").replaceChildren(el("thead", {}, header), el("tbody", {}, ...state.runs.map(runRow)));
  showCompared();
}

function runRow(run) {
  const box = el("input", { type: "checkbox", id: `run-${run.id}`, "aria-label": `compare ${run.result}, ${run.mode}` });
  box.checked = state.chosen.includes(run.id);
  box.addEventListener("change", () => choose(run.id, box.checked));
  const report = run.report
    ? el("a", { href: `/api/runs/${encodeURIComponent(run.result)}/report`, target: "_blank", rel: "noopener", "aria-label": `report of ${run.result}` }, "open")
    : "–";
  const cells = [run.shape, run.turns, ...MEASURES.map(([key]) => run.words[key]), report].map((cell) => el("td", {}, cell));
  return el("tr", {}, el("td", { class: "left" }, box, " ", el("label", { for: `run-${run.id}` }, run.result)), el("td", { class: "left" }, run.mode), ...cells);
}

/** At most two: the one that was chosen first makes room for a third. */
function choose(id, chosen) {
  state.chosen = state.chosen.filter((other) => other !== id);
  if (chosen) state.chosen = [...state.chosen, id].slice(-2);
  for (const run of state.runs) $(`run-${run.id}`).checked = state.chosen.includes(run.id);
  showCompared();
}

function showCompared() {
  const [one, other] = state.chosen.map((id) => state.runs.find((run) => run.id === id));
  if (!one || !other) {
    $("compared").replaceChildren();
    return;
  }
  const ratio = (a, b) => (a === null || b === null || !b ? "–" : `${(a / b).toFixed(2)}×`);
  const rows = MEASURES.map(([key, , label]) =>
    el("tr", {}, el("th", { scope: "row" }, label), el("td", {}, one.words[key]), el("td", {}, other.words[key]), el("td", {}, ratio(one.numbers[key], other.numbers[key]))));
  const name = (run) => `${run.result}, ${run.mode}`;
  const header = el("tr", {}, ...["", name(one), name(other), "ratio"].map((text) => el("th", { scope: "col" }, text)));
  $("compared").replaceChildren(verdict(one, other, name), el("table", {}, el("thead", {}, header), el("tbody", {}, ...rows)));
}

/** Which is faster; of runs that did not do the same there is nothing to say. */
function verdict(one, other, name) {
  if (one.work !== other.work) return el("p", {}, `Not the same work: ${one.result} did ${one.work}, ${other.result} ${other.work}. Their times do not compare.`);
  const faster = one.numbers.jct_s / other.numbers.jct_s;
  const [quick, slow, times] = faster >= 1 ? [other, one, faster] : [one, other, 1 / faster];
  return el("p", {}, `${name(quick)} finishes `, el("b", {}, `${times.toFixed(2)}×`), ` as fast as ${name(slow)}.`);
}

/* ---- light and dark, keys -------------------------------------------------------------------------------------- */

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : prefersDark.matches;
}

function nameTheme() {
  put($("theme"), isDark() ? "Light" : "Dark");
  $("theme").setAttribute("aria-label", `Use ${isDark() ? "light" : "dark"} colours`);
}

function turnTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("dualpath-theme", theme);
  } catch {
    // a browser that keeps nothing: the choice lasts as long as the page
  }
  nameTheme();
}

try {
  const kept = localStorage.getItem("dualpath-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {
  // as above
}

const KEYS = {
  1: () => setPath(PAGE.single),
  2: () => setPath(PAGE.dual),
  p: pause,
  t: turnTheme,
  "?": () => $("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const act = KEYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});
for (const id of ["single", "dual"]) $(id).addEventListener("change", (event) => setPath(event.target.value));
$("theme").addEventListener("click", turnTheme);
$("pause").addEventListener("click", pause);
$("reload").addEventListener("click", loadRuns);
$("show-keys").addEventListener("click", () => $("keys").showModal());
prefersDark.addEventListener("change", nameTheme);
new ResizeObserver(drawHistory).observe($("history"));
document.querySelector("details.all").addEventListener("toggle", () => state.view && showNics(state.view));

nameTheme();
loadRuns();
connect();
