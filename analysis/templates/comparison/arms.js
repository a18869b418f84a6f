// Words, numbers and nodes; and the arms to choose from.
"use strict";

const WIDTH = 2; // pixels of a curve
const BETWEEN = ["", "8px,4px", "2px,3px", "10px,3px,2px,3px"];
const dark = window.matchMedia("(prefers-color-scheme: dark)");
let printing = false;

function number(value, digits, signed = false) {
  if (value === null) return "—";
  const form = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  form.signDisplay = signed ? "exceptZero" : "negative";
  return new Intl.NumberFormat("en-GB", form).format(value).replace("-", "−");
}

const interval = (low, high, digits, signed) =>
  low === null ? "—" : `[${number(low, digits, signed)}, ${number(high, digits, signed)}]`;

// Text only ever becomes text: no name can turn into markup.
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "line"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  node.append(...children);
  return node;
}

const keyOf = (experiment, arm) => `${experiment.name}/${arm.name}`;
const chosen = () => [...experiments.values()].filter((experiment) => state.experiments.has(experiment.name));
const visible = (experiment) => experiment.arms.filter((arm) => !state.off.has(keyOf(experiment, arm)));
const crowded = () => state.experiments.size > 1;
const night = () => dark.matches && !printing;
const colourOf = (arm) => (night() ? arm.dark : arm.colour);

// Within one experiment a dash helps to tell arms apart; among several it tells the experiments apart.
function dashOf(arm, experiment) {
  return crowded() ? BETWEEN[chosen().indexOf(experiment) % BETWEEN.length] : arm.dash;
}

function sample(arm, experiment) {
  const line = { x1: 0, x2: 26, y1: 4, y2: 4, stroke: colourOf(arm), "stroke-width": WIDTH + 0.5 };
  line["stroke-dasharray"] = dashOf(arm, experiment).replace(/px/g, "") || "none";
  return make("svg", { width: 26, height: 8, "aria-hidden": "true" }, make("line", line));
}

function chip(checked, change, ...content) {
  const input = make("input", { type: "checkbox" });
  input.checked = checked;
  input.addEventListener("change", () => change(input.checked));
  return make("label", { class: "chip" }, input, make("span", {}, ...content));
}

function armChip(experiment, arm) {
  const key = keyOf(experiment, arm);
  const change = (on) => {
    put(state.off, key, !on);
    showValues();
  };
  const made = chip(!state.off.has(key), change, sample(arm, experiment), arm.label);
  if (arm.name === experiment.baseline) made.lastChild.append(make("small", {}, "baseline"));
  made.dataset.arm = key;
  made.addEventListener("mouseenter", () => emphasise(key));
  made.addEventListener("mouseleave", () => emphasise(null));
  return made;
}

function everyArm(experiment, text, on) {
  const made = make("button", { type: "button", "aria-label": `${text} arms of ${experiment.title}` }, text);
  made.addEventListener("click", () => {
    experiment.arms.forEach((arm) => put(state.off, keyOf(experiment, arm), !on));
    made.parentNode.querySelectorAll("input").forEach((input) => (input.checked = on));
    showValues();
  });
  return made;
}

function showArms() {
  const fields = chosen().map((experiment) => {
    const chips = experiment.arms.map((arm) => armChip(experiment, arm));
    const buttons = [everyArm(experiment, "All", true), everyArm(experiment, "None", false)];
    return make(
      "fieldset",
      {},
      make("legend", {}, experiment.title),
      make("p", {}, experiment.question),
      ...(experiment.mark ? [make("p", { class: "mark" }, experiment.mark)] : []),
      make("div", { class: "chips" }, ...chips, ...buttons),
    );
  });
  at("arms").replaceChildren(...fields);
}
