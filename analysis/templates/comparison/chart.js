// The curves: Plotly draws, the numbers are those of the page.
"use strict";

const chart = at("chart");
const coarse = window.matchMedia("(pointer: coarse)");
const PRINT_WIDTH = 680; // pixels: the text of an A4 page
const FAINT = 0.4; // opacity of a single seed
const FEW = 30; // so many moments are marked on their curve
let read = -1; // which moment the keyboard reads

// Plotly reads a little HTML in its texts; names are only text.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// The traces of an arm: band, single seeds, and the mean, which alone answers to pointing.
function tracesOf(experiment, arm) {
  const { of } = AXES[state.x];
  const curve = arm.curves[state.measure];
  const across = curve ? of(curve, arm) : null;
  if (across === null) return [];
  const { digits } = measures.get(state.measure);
  const colour = colourOf(arm);
  const moments = curve.tokens.map((_, i) => i).filter((i) => !(state.log && curve.tokens[i] === 0));
  const pick = (values, indices) => indices.map((i) => values[i]);
  const quiet = { type: "scatter", mode: "lines", hoverinfo: "skip", meta: keyOf(experiment, arm) };
  const made = [];
  const bounded = moments.filter((i) => curve.low[i] !== null);
  if (state.band && bounded.length) {
    const back = [...bounded].reverse();
    const x = [...pick(across, bounded), ...pick(across, back)];
    const y = [...pick(curve.high, bounded), ...pick(curve.low, back)];
    const fillcolor = `${colour}${night() ? "33" : "24"}`;
    made.push({ ...quiet, x, y, fill: "toself", fillcolor, line: { width: 0 } });
  }
  for (const run of state.seeds ? arm.runs : []) {
    const own = of(curve, run);
    if (!curve.seeds[run.seed] || own === null) continue;
    const y = pick(curve.seeds[run.seed], moments);
    made.push({ ...quiet, x: pick(own, moments), y, opacity: FAINT, line: { color: colour, width: 1 } });
  }
  const label = plain(crowded() ? `${experiment.name} ${arm.label}` : arm.label);
  const text = moments.map((i) => {
    const bounds = interval(curve.low[i], curve.high[i], digits);
    return `<b>${label}</b>  ${number(curve.mean[i], digits)}  ${bounds}  n = ${curve.n[i]}`;
  });
  const width = arm.name === experiment.baseline ? WIDTH + 1 : WIDTH;
  made.push({
    type: "scatter",
    mode: moments.length > FEW ? "lines" : "lines+markers",
    meta: quiet.meta,
    x: pick(across, moments),
    y: pick(curve.mean, moments),
    customdata: pick(curve.tokens, moments),
    text,
    hovertemplate: "%{text}<extra></extra>",
    line: { color: colour, width, dash: dashOf(arm, experiment) || "solid" },
    marker: { size: 5 },
  });
  return made;
}

const isMean = (trace) => trace.text !== undefined;

function traces() {
  const all = chosen().flatMap((experiment) => visible(experiment).flatMap((arm) => tracesOf(experiment, arm)));
  return [...all.filter((trace) => !isMean(trace)), ...all.filter(isMean)];
}

// Round numbers across the curves: by itself Plotly writes the digits between powers of ten without their power.
function logarithmic(drawn) {
  const xs = drawn.filter(isMean).flatMap((trace) => trace.x);
  const [low, high] = [Math.min(...xs), Math.max(...xs)].map((x) => Math.floor(Math.log10(x)));
  const powers = Array.from({ length: Math.max(high - low + 1, 0) }, (_, i) => low + i);
  const tickvals = powers.flatMap((power) => [1, 2, 5].map((digit) => Number(`${digit}e${power}`)));
  return { type: "log", tickmode: "array", tickvals, tickformat: "~s" };
}

function layout(drawn) {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  const clear = "rgba(0,0,0,0)";
  const axis = { gridcolor: of("grid"), linecolor: of("line"), tickcolor: of("line"), zeroline: false, automargin: true };
  const made = {
    autosize: !printing,
    margin: { l: 52, r: 14, t: 12, b: 46 },
    paper_bgcolor: clear,
    plot_bgcolor: clear,
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: of("ink") },
    hovermode: "x unified",
    hoverdistance: -1, // anywhere reads the nearest moment
    hoverlabel: { bgcolor: of("card"), bordercolor: of("line"), font: { color: of("ink"), size: 12 } },
    showlegend: false,
    dragmode: coarse.matches ? false : "zoom",
    uirevision: [state.measure, state.x, state.log].join(),
    modebar: { bgcolor: clear, color: of("muted"), activecolor: of("ink") },
    xaxis: {
      ...axis,
      title: { text: AXES[state.x].title, standoff: 12 },
      ...(state.log ? logarithmic(drawn) : { type: "linear", exponentformat: "SI" }),
      showline: true,
      ticks: "outside",
      spikecolor: of("muted"),
      spikethickness: 1,
      unifiedhovertitle: { text: AXES[state.x].read },
    },
    yaxis: { ...axis, exponentformat: "power" },
  };
  if (printing) made.width = PRINT_WIDTH;
  if (!drawn.length) {
    const text = shown.first ? "Nothing is chosen" : "No curves yet";
    const middle = { xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false };
    made.annotations = [{ ...middle, text, font: { color: of("muted"), size: 15 } }];
  }
  return made;
}

function showChart() {
  at("title").textContent = measures.get(state.measure)?.label ?? "";
  const drawn = traces();
  read = -1;
  Plotly.react(chart, drawn, layout(drawn), {
    displaylogo: false,
    displayModeBar: coarse.matches ? false : "hover",
    responsive: true,
    // Nothing leaves the page: no upload, no address to upload to.
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: `${shown.scale}-${state.measure}` },
  });
}

// One arm before the others; null: all alike.
function emphasise(key) {
  const usual = (trace) => (isMean(trace) || trace.fill ? 1 : FAINT);
  const wanted = chart.data.map((trace) => usual(trace) * (key === null || trace.meta === key ? 1 : 0.15));
  if (wanted.length) Plotly.restyle(chart, { opacity: wanted });
}

// On to the next moment of any curve: said to a screen reader, and shown as by pointing.
function readOn(step) {
  const means = chart.data.filter(isMean);
  const moments = [...new Set(means.flatMap((trace) => trace.customdata))].sort((a, b) => a - b);
  if (!moments.length) return;
  read = Math.min(Math.max(read < 0 && step < 0 ? moments.length - 1 : read + step, 0), moments.length - 1);
  const there = means.map((trace) => [trace, trace.customdata.indexOf(moments[read])]).filter(([, i]) => i >= 0);
  const [low, high] = chart.layout.yaxis.range;
  Plotly.Fx.hover(chart, { xval: there[0][0].x[there[0][1]], yval: (low + high) / 2 }, ["xy"]);
  const said = there.map(([trace, i]) => trace.text[i].replace(/<\/?b>/g, "")).join("; ");
  at("readout").textContent = `${number(moments[read], 0)} training tokens: ${said}`;
}

// Of the curves at the moment that was clicked, the one nearest to the pointer.
function clicked({ points, event }) {
  const box = chart.querySelector(".nsewdrag").getBoundingClientRect();
  const [low, high] = chart.layout.yaxis.range;
  const y = high - ((event.clientY - box.top) / box.height) * (high - low);
  const [nearest] = [...points].sort((a, b) => Math.abs(a.y - y) - Math.abs(b.y - y));
  showRuns(nearest.data.meta);
}
