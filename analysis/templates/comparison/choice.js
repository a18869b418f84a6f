// What the page has, and what is chosen of it; the choice is kept in the address.
"use strict";

const shown = JSON.parse(document.getElementById("shown").textContent);
const at = (id) => document.getElementById(id);
const put = (set, item, on) => (on ? set.add(item) : set.delete(item));
const named = (list) => new Map(list.map((item) => [item.name, item]));
const AXES = {
  tokens: { title: "training tokens", of: (curve) => curve.tokens, read: "%{x:,.0f} tokens" },
  flops: { title: "training FLOPs", of: (curve) => curve.flops, read: "%{x:.4s} FLOPs" },
  seconds: { title: "training seconds", of: inSeconds, read: "%{x:,.1f} seconds" },
};
const measures = named(shown.measures);
const after = named(shown.after);
const experiments = named(shown.experiments);
let state = fromAddress();

// A run's own seconds, or the mean of an arm; null where they were not recorded.
function inSeconds(curve, { seconds_per_token: each }) {
  return each === null ? null : curve.tokens.map((tokens) => tokens * each);
}

// What the address asks for, and the usual for what it does not say or the page does not have.
function fromAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const one = (key, allowed, unless) => (allowed.has(said.get(key)) ? said.get(key) : unless);
  const names = said.getAll("experiment").filter((name) => experiments.has(name));
  const chosen = names.length ? names : [...experiments.keys()].slice(0, 1);
  const primary = chosen.map((name) => experiments.get(name).primary).find((name) => after.has(name));
  return {
    experiments: new Set(chosen),
    off: new Set(said.getAll("off")),
    measure: one("measure", measures, shown.first),
    after: one("after", after, primary ?? [...after.keys()][0]),
    x: one("x", new Map(Object.entries(AXES)), "tokens"),
    log: said.get("log") === "1",
    band: said.get("band") !== "0",
    seeds: said.get("seeds") === "1",
  };
}

function remember() {
  const said = new URLSearchParams();
  state.experiments.forEach((name) => said.append("experiment", name));
  if (state.measure) said.set("measure", state.measure);
  if (state.after) said.set("after", state.after);
  said.set("x", state.x);
  if (state.log) said.set("log", "1");
  if (!state.band) said.set("band", "0");
  if (state.seeds) said.set("seeds", "1");
  state.off.forEach((key) => said.append("off", key));
  history.replaceState(null, "", `#${said}`);
}
