// Where the curves end, and what was measured after training.
"use strict";

const HEADINGS = ["arm", "mean", "95 % interval", "n", "minus baseline", "95 % interval"];
const opened = new Set(); // lists of runs

function row(experiment, arm, { mean, low, high, n, reached, difference }, digits, last) {
  const cell = (kind, content) => make("td", { class: kind }, content);
  const base = arm.name === experiment.baseline;
  const { mean: by, low: from, high: to, digits: finer } = difference ?? { mean: null, low: null, high: null };
  const made = make(
    "tr",
    {},
    make("th", { scope: "row" }, sample(arm, experiment), arm.label),
    cell("mean", number(mean, digits)),
    cell("interval", interval(low, high, digits)),
    cell("n", reached ?? String(n)),
    cell(base ? "difference quiet" : "difference", base ? "baseline" : number(by, finer, true)),
    cell("paired", base ? "" : interval(from, to, finer, true)),
    last,
  );
  made.dataset.arm = keyOf(experiment, arm);
  return made;
}

function runsOf(experiment, arm) {
  const links = arm.runs.map(({ seed, digest, status }) => {
    const link = make("a", { class: "digest", href: `../runs/${encodeURIComponent(digest)}/` }, digest);
    return make("li", {}, `seed ${seed} `, link, status === "finished" ? "" : ` ${status}`);
  });
  const summary = make("summary", {}, `${links.length} run${links.length === 1 ? "" : "s"}`);
  const details = make("details", {}, summary, make("ul", {}, ...links));
  const key = keyOf(experiment, arm);
  details.dataset.runs = key;
  details.open = opened.has(key);
  details.addEventListener("toggle", () => put(opened, key, details.open));
  return make("td", { class: "text runs" }, details);
}

function showRuns(key) {
  const details = [...document.querySelectorAll("details")].find((node) => node.dataset.runs === key);
  details.open = true;
  details.scrollIntoView({ block: "center" });
  details.firstChild.focus({ preventScroll: true });
}

function verdictOf(experiment, arm, { verdicts }) {
  const said = verdicts.map(({ verdict, detail }) =>
    make("div", {}, make("b", { title: shown.verdicts[verdict] }, verdict), make("small", {}, detail)),
  );
  return make("td", { class: "text verdict" }, ...said);
}

function table(kind, measure, lastHeading, last) {
  const heads = [...HEADINGS, lastHeading].map((text) => make("th", { scope: "col" }, text));
  heads[0].className = "text";
  heads[6].className = kind === "ends" ? "text runs" : "text";
  const bodies = chosen().map((experiment) => {
    const found = experiment[kind][measure.name];
    const arms = found ? visible(experiment) : [];
    const rows = arms.map((arm) => {
      const values = found[arm.name];
      return row(experiment, arm, values, measure.digits, last(experiment, arm, values));
    });
    const title = make("th", { scope: "rowgroup", colspan: heads.length }, experiment.title);
    return make("tbody", {}, ...(crowded() ? [make("tr", {}, title)] : []), ...rows);
  });
  at(kind).replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...heads)), ...bodies));
}

function showTables() {
  const measure = measures.get(state.measure);
  at("ends-measure").textContent = measure?.label ?? "none yet";
  if (measure) table("ends", measure, "runs", runsOf);
  if (after.has(state.after)) table("after", after.get(state.after), "verdict of the stated contrast", verdictOf);
  const given = new Set([...document.querySelectorAll(".verdict b")].map((node) => node.textContent));
  const explained = Object.entries(shown.verdicts).filter(([verdict]) => given.has(verdict));
  const words = explained.flatMap(([verdict, text]) => [make("dt", {}, verdict), make("dd", {}, text)]);
  at("verdicts").replaceChildren(...words);
}
