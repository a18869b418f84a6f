// Puts it all together, and listens.
"use strict";

function showValues() {
  showChart();
  showTables();
  remember();
}

function showAll() {
  showArms();
  showValues();
}

function showControls() {
  const chips = [...experiments.values()].map((experiment) => {
    const change = (on) => {
      put(state.experiments, experiment.name, on);
      showAll();
    };
    return chip(state.experiments.has(experiment.name), change, experiment.name);
  });
  at("experiments").replaceChildren(...chips);
  at("measure").value = state.measure;
  at("after-measure").value = state.after;
  document.querySelectorAll("[name=x]").forEach((input) => (input.checked = input.value === state.x));
  ["band", "seeds", "log"].forEach((id) => (at(id).checked = state[id]));
}

function onPaper(on) {
  printing = on;
  document.documentElement.classList.toggle("print", on);
  showAll();
}

function listen(node, key, of) {
  node.addEventListener("change", () => {
    state[key] = of(node);
    showValues();
  });
}

const offered = (list) => [...list.values()].map(({ name, label }) => make("option", { value: name }, label));
at("measure").append(...offered(measures));
at("after-measure").append(...offered(after));
listen(at("measure"), "measure", (node) => node.value);
listen(at("after-measure"), "after", (node) => node.value);
document.querySelectorAll("[name=x]").forEach((node) => listen(node, "x", () => node.value));
["band", "seeds", "log"].forEach((id) => listen(at(id), id, (node) => node.checked));
at("controls").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", () => {
  state = fromAddress();
  showControls();
  showAll();
});
window.addEventListener("beforeprint", () => onPaper(true));
window.addEventListener("afterprint", () => onPaper(false));
dark.addEventListener("change", showAll);
chart.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  readOn(step);
});
chart.addEventListener("blur", () => Plotly.Fx.unhover(chart));
showControls();
showAll();
chart.on("plotly_click", clicked);
