// Draws a run from the data in the page and, if the page is live, from later answers of the server. Texts of the run
// become text nodes and numbers of the run become numbers; nothing of it is read as HTML.
"use strict";
(() => {
  // Its own legend sets styles and HTML, which the page's policy forbids. `legend` below replaces it.
  if (window.Dygraph) Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);
  const run = JSON.parse(document.getElementById("data").textContent);
  const charts = {};  // by name
  const element = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)");
  // From violet to green and yellow, as far as the colours are visible on the background.
  const scale = (share) => `hsl(${270 - 215 * share} ${dark.matches ? "75% 66%" : "65% 42%"})`;

  // ---- numbers as texts ----
  const number = (x, digits = 4) =>
    x === null || x === undefined || Number.isNaN(x) ? "–" : String(Number(x.toPrecision(digits)));
  const percent = (x) => (x === null || x === undefined ? "–" : (100 * x).toFixed(1) + " %");
  const duration = (s) => {
    if (s === null || s === undefined) return "–";
    if (s < 60) return Math.round(s) + " s";
    const minutes = Math.floor(s / 60), two = (x) => String(Math.floor(x)).padStart(2, "0");
    if (minutes < 60) return minutes + ":" + two(s % 60) + " min";
    return Math.floor(minutes / 60) + ":" + two(minutes % 60) + " h";
  };

  // ---- the records, with their position on the axis of steps ----
  const lines = (part) => (run[part].newest ? run[part].lines.concat([run[part].newest]) : run[part].lines);
  function place(metrics, diagnostics) {
    // A penalty that is part of a training step is not a separate step.
    const joint = metrics.some((r) => r.kind === "training" && "floss_loss" in r);
    let x = 0, step = 0, floss = 0;
    const stretches = [];
    const all = metrics.concat(diagnostics).sort((a, b) => a.step - b.step || a.floss_step - b.floss_step);
    for (const r of all) {
      const steps = r.step - step, flosses = r.floss_step - floss, before = x;
      step = r.step; floss = r.floss_step;
      x += joint ? Math.max(steps, flosses) : steps + flosses;
      r.x = x;
      if (joint || flosses <= steps) continue;
      const last = stretches[stretches.length - 1];
      if (last && last[1] === before && steps === 0) last[1] = x; else stretches.push([x - flosses, x]);
    }
    return stretches.length > 40 ? [] : stretches;  // more would be a grid of stripes
  }

  // A new element with a class and a text, or with other elements inside.
  function made(tag, className, ...inside) {
    const box = document.createElement(tag);
    if (className) box.className = className;
    box.append(...inside.map((one) => (one instanceof Node ? one : document.createTextNode(one))));
    return box;
  }

  // ---- charts ----
  function card(name, title, missing) {
    let box = element(name);
    if (!box) {
      box = made("section", "card", made("h2", ""), made("div", "legend"), made("div", "chart"));
      box.id = name;
      element("charts").append(box);
    }
    box.querySelector("h2").textContent = title;
    box.querySelector(".legend").style.display = missing ? "none" : "";
    if (missing) {
      if (charts[name]) { charts[name].destroy(); delete charts[name]; }
      box.querySelector(".chart").replaceChildren(made("p", "missing", missing));
    }
    return box;
  }

  // Decades. If there are few, also 2 and 5 between them.
  function decades(low, high) {
    const ticks = [], first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const each = Math.max(1, Math.ceil((last - first) / 7));
    for (let e = first; e <= last; ++e)
      for (const m of last - first > 3 ? [1] : [1, 2, 5]) {
        const v = m * 10 ** e;
        if ((e - first) % each === 0 && v >= low && v <= high)
          ticks.push({ v, label: v >= 0.001 && v < 1e4 ? String(Number(v.toPrecision(1))) : m + "e" + e });
      }
    return ticks;
  }

  // rows: [x, y1, y2, ...]; series: [{label, colour, width, dots}]. to: the end of the axis that begins at 0. still:
  // the x axis is not time, so the last value is not the newest.
  function chart(name, title, xlabel, rows, series, options = {}) {
    if (!rows.length || !series.length) { card(name, title, options.missing || "No records yet."); return; }
    const box = card(name, title), place = box.querySelector(".chart");
    if (options.to) {
      const none = series.map(() => null);
      rows = [[0, ...none], ...rows.filter((row) => row[0] > 0 || row.some((y, i) => i && y !== null)), [options.to, ...none]];
    }
    const format = options.format || number;
    const each = {};
    for (const s of series)
      each[s.label] = { color: s.colour, strokeWidth: s.width ?? 1.4, drawPoints: !!s.dots, pointSize: s.dots || 1,
                        connectSeparatedPoints: !!s.connect };
    const marks = (canvas, area, graph) => {
      canvas.fillStyle = colour("shade");
      for (const [from, to] of options.stretches || []) {
        const a = Math.max(area.x, graph.toDomXCoord(from)), b = Math.min(area.x + area.w, graph.toDomXCoord(to));
        if (b > a) canvas.fillRect(a, area.y, Math.max(1, b - a), area.h);
      }
      canvas.strokeStyle = colour("grey");
      canvas.setLineDash([5, 4]);
      for (const level of options.levels || []) {
        const y = Math.round(graph.toDomYCoord(level)) + .5;
        if (y < area.y || y > area.y + area.h) continue;
        canvas.beginPath(); canvas.moveTo(area.x, y); canvas.lineTo(area.x + area.w, y); canvas.stroke();
      }
      canvas.setLineDash([]);
    };
    // With x: the values there. Without x: the newest values.
    const legend = (x, points) => {
      const parts = [];
      series.forEach((s, i) => {
        let y = points ? (points.find((point) => point.name === s.label) || {}).yval : null;
        for (let row = rows.length - 1; !points && row >= 0 && (y === undefined || y === null); --row) y = rows[row][i + 1];
        if (y === undefined || y === null) return;
        const part = made("i", "", `${s.label} ${points || !options.still ? format(y) : ""}`);
        part.style.setProperty("--mark", s.colour);
        parts.push(part, " ");
      });
      if (points) parts.push(made("span", "", `${xlabel} ${x}`));
      box.querySelector(".legend").replaceChildren(...parts);
    };
    const settings = {
      file: rows, labels: [xlabel].concat(series.map((s) => s.label)), series: each, xlabel,
      highlightCallback: (event, x, points) => legend(x, points), unhighlightCallback: () => legend(),
      underlayCallback: marks,
      gridLineColor: colour("line"), axisLineColor: colour("line"), gridLineWidth: 1, xLabelHeight: 16,
      logscale: !!options.log, highlightCircleSize: 3, rightGap: 8, xRangePad: options.pad || 3, yRangePad: 8,
      axes: { y: { axisLabelWidth: 52, axisLabelFormatter: (v) => (options.axis || ((x) => number(x, 3)))(v) },
              x: { pixelsPerLabel: 50 } },
      includeZero: !!options.zero, valueRange: options.range || null,
    };
    if (options.log) settings.axes.y.ticker = decades;
    // A finger scrolls the page and does not select a rectangle.
    if (touch.matches) settings.interactionModel = {};
    legend();
    if (charts[name]) { charts[name].updateOptions(settings); return; }
    place.replaceChildren();
    const { file, ...rest } = settings;
    charts[name] = new Dygraph(place, file, rest);
  }

  // No line crosses the flossing between two records.
  const gaps = (rows, stretches) => rows.flatMap((row, i) => {
    const cut = i && stretches.find(([from, to]) => from >= rows[i - 1][0] && to <= row[0]);
    return cut ? [[(cut[0] + cut[1]) / 2, ...row.slice(1).map(() => null)], row] : [row];
  });

  function exponents(name, title, records, on, missing) {
    const count = Math.max(0, ...records.map((r) => r.exponents.length));
    const series = [];
    for (let j = 0; j < count; ++j)
      series.push({ label: "λ" + (j + 1), colour: scale(count > 1 ? j / (count - 1) : 0), width: j ? 1.1 : 2,
                    dots: records.length < 40 && !j ? 2.5 : 0 });
    const rows = records.map((r) => [r.x].concat(series.map((s, j) => r.exponents[j] ?? null)));
    chart(name, title, "step", name === "exponents" ? gaps(rows, on.stretches) : rows, series,
          { ...on, missing, levels: run.targets.slice(0, count) });
  }

  // A chart that only some runs have: one line for each name in an object of the records. The colon after a name keeps
  // it apart from the axis.
  function byName(name, title, records, field, on, options) {
    const found = records.filter((r) => r[field]), names = [...new Set(found.flatMap((r) => Object.keys(r[field])))];
    if (!names.length) return;
    const rows = found.map((r) => [r.x, ...names.map((one) => r[field][one] ?? null)]);
    const series = names.map((one, i) => ({ label: one + ":", colour: scale(names.length > 1 ? i / (names.length - 1) : 0),
                                            dots: found.length < 40 ? 2.5 : 0 }));
    chart(name, title, "step", rows, series, { ...on, zero: true, ...options });
  }

  function lags() {
    const most = 6, all = run.lags, picks = [];
    for (let i = 0; i < Math.min(most, all.length); ++i)
      picks.push(all[Math.round(i * (all.length - 1) / Math.max(1, Math.min(most, all.length) - 1))]);
    const length = Math.max(0, ...picks.map((p) => p.norms.length)), rows = [];
    for (let lag = 0; lag < length; ++lag) rows.push([lag].concat(picks.map((p) => (p.norms[lag] > 0 ? p.norms[lag] : null))));
    const series = picks.map((p, i) => ({
      label: "step " + p.step, width: i === picks.length - 1 ? 2 : 1.1,
      colour: scale(picks.length > 1 ? 1 - i / (picks.length - 1) : 0) }));
    chart("lags", "Gradient norm against lag", "steps before the end", rows, series,
          { log: true, still: true, missing: "diagnostics.every is 0: no gradient was recorded at every lag." });
  }

  function raster() {
    const r = run.raster;
    const box = card("raster", "Spikes of one sequence" + (r ? `, step ${r.step}` : ""),
                     r ? "" : "diagnostics.every is 0: no spikes were recorded.");
    if (!r) return;
    const count = r.spikes.reduce((sum, steps) => sum + steps.length, 0), populations = r.populations || [];
    const tint = (i) => scale(populations.length > 1 ? i / (populations.length - 1) : 0);
    const of = r.shown.map((neuron) => populations.findIndex((p) => neuron >= p.begin && neuron < p.begin + p.size));
    box.querySelector(".legend").replaceChildren(
      (r.shown.length < r.neurons ? `${r.shown.length} of ${r.neurons} neurons` : `${r.neurons} neurons`) +
      `, ${r.steps} steps, ${count} spikes `, ...populations.flatMap((p, i) => {
        const part = made("i", "", `${p.name} (${p.size > 1 ? `neurons ${p.begin}–${p.begin + p.size - 1}` : `neuron ${p.begin}`})`);
        part.style.setProperty("--mark", tint(i));
        return [part, " "];
      }));
    let canvas = box.querySelector("canvas");
    if (!canvas) { canvas = document.createElement("canvas"); box.querySelector(".chart").replaceChildren(canvas); }
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio; canvas.height = height * ratio;
    const c = canvas.getContext("2d");
    c.scale(ratio, ratio);
    const left = 34, bottom = 20, w = width - left - 6, h = height - bottom - 4;
    c.strokeStyle = colour("line"); c.strokeRect(left + .5, 4.5, w, h);
    const rowAt = (i) => 5 + (h - 2) * i / r.spikes.length;
    c.fillStyle = colour("shade");  // every second population has a band
    of.forEach((one, i) => { if (one % 2 === 1) c.fillRect(left + 1, rowAt(i), w - 1, rowAt(i + 1) - rowAt(i)); });
    c.fillStyle = colour("text");
    const dot = { x: Math.max(1, Math.min(3, w / r.steps)), y: Math.max(1, Math.min(4, .8 * h / r.shown.length)) };
    r.spikes.forEach((steps, i) => {
      const y = rowAt(i + .5) - dot.y / 2;
      if (of[i] >= 0) c.fillStyle = tint(of[i]);
      for (const t of steps) c.fillRect(left + (w - dot.x) * t / r.steps, y, dot.x, dot.y);
    });
    c.fillStyle = colour("dim"); c.font = "11.5px system-ui, sans-serif";
    c.textAlign = "right"; c.fillText("0", left - 5, 13); c.fillText(String(r.neurons - 1), left - 5, h + 4);
    c.textAlign = "left"; c.fillText("0", left, height - 5);
    c.textAlign = "center"; c.fillText("step of the sequence", left + w / 2, height - 5);
    c.textAlign = "right"; c.fillText(String(r.steps), left + w, height - 5);
  }

  // ---- around the charts ----
  function numbers(training, flossing, diagnostics) {
    const t = training[training.length - 1] || {}, f = flossing[flossing.length - 1] || {};
    const d = diagnostics[diagnostics.length - 1], newest = lines("metrics").slice(-1)[0] || {};
    const test = training.filter((r) => "test_accuracy" in r).pop() || {};
    const validation = training.filter((r) => "validation_accuracy" in r).pop() || {};
    const step = run.status ? run.status.step : newest.step ?? 0;
    const floss = run.status ? run.status.floss_step : newest.floss_step ?? 0;
    const first = (d && d.exponents) || f.exponents || t.exponents || [];
    const tiles = [
      ["step", `${step} / ${run.steps}`, "training step"], ["floss", floss || null, "flossing steps"],
      ["loss", number(t.loss), "loss"], ["accuracy", percent(t.running_accuracy), "running accuracy"],
      ["validation", "validation_accuracy" in validation ? percent(validation.validation_accuracy) : null, "validation accuracy"],
      ["test", "test_accuracy" in test ? percent(test.test_accuracy) : null,
       "best_step" in test ? `test accuracy of the network of step ${test.best_step}, chosen by validation` : "test accuracy"],
      ["lambda", first.length ? number(first[0]) : null, "λ1 per step"],
      ["dimension", d ? number(d.kaplan_yorke_dimension, 3) : null, "Kaplan–Yorke dimension"],
      ["rate", number(newest.rate, 3), "spikes / neuron / step"],
      ["speed", number(newest.sequences_per_second, 3), "sequences / s"],
      ["seconds", duration(newest.seconds), "time taken"],
      ["left", run.status ? duration(run.status.seconds_left) : null, "time left"]];
    element("numbers").replaceChildren(...tiles.filter((tile) => tile[1] !== null).map(([id, value, label]) => {
      const box = made("div", "", made("b", "", value), made("span", "", label));
      box.id = "number-" + id;
      return box;
    }));
    element("progress").firstElementChild.style.width = run.steps ? Math.min(100, 100 * step / run.steps) + "%" : "0";
    return step;
  }

  // A row for each label, a column for each class that the network names.
  function confusion() {
    const box = element("confusion"), c = run.confusion;
    box.style.display = c ? "" : "none";
    if (!c) return;
    const names = c.classes || c.counts.map((row, k) => String(k)), table = document.createElement("table");
    table.insertRow().append(made("th", "", "class"), ...names.map((name) => made("th", "", name)), made("th", "", "right"));
    let right = 0, all = 0;
    c.counts.forEach((counts, k) => {
      const sum = counts.reduce((a, b) => a + b, 0), row = table.insertRow();
      right += counts[k]; all += sum;
      row.append(made("th", "", names[k]), ...counts.map((count) => {
        const cell = made("td", "", count ? String(count) : "");
        cell.style.setProperty("--share", sum ? count / sum : 0);
        return cell;
      }), made("th", "", sum ? percent(counts[k] / sum) : "–"));
    });
    box.querySelector("div").replaceChildren(
      made("p", "", `${right} of ${all} sequences of the ${c.data} data are right, with the network of step ${c.step}. ` +
        "A row has the sequences of one class, a column those that the network names so."), made("div", "scroll", table));
  }

  function ranks() {
    const place = element("ranks").querySelector("div"), session = run.session;
    if (!session) { place.textContent = "The run directory has no session.json that can be read."; return; }
    const text = made("p", "", `${session.ranks.length} rank${session.ranks.length > 1 ? "s" : ""}, grid ${session.grid}, ` +
      `${session.threads} thread${session.threads > 1 ? "s" : ""} a rank, backend ${session.backend} (${session.precision}), ` +
      `communicator ${session.communicator}, started ${session.started}` +
      (session.version ? `, ${session.version}` : ""));
    const table = document.createElement("table");
    table.insertRow().append(...["ranks", "host", "device"].map((title) => made("th", "", title)));
    // Neighbouring ranks with the same host and device share a row.
    for (let i = 0; i < session.ranks.length;) {
      let end = i + 1;
      const { host, device } = session.ranks[i];
      while (end < session.ranks.length && session.ranks[end].host === host && session.ranks[end].device === device) ++end;
      const row = table.insertRow();
      for (const cell of [end - 1 > i ? `${i}–${end - 1}` : String(i), host, device]) row.insertCell().textContent = cell;
      i = end;
    }
    place.replaceChildren(text, made("div", "scroll", table));
    if (session.warning) text.after(made("p", "warning", session.warning));
  }

  function settings() {
    const place = element("settings").querySelector("div");
    place.replaceChildren();
    for (const [section, keys] of Object.entries(run.settings)) {
      place.append(made("h3", "", section));
      for (const [key, [value, changed]] of Object.entries(keys))
        place.append(made("p", changed ? "changed" : "", made("code", "", `${key} = ${value}`)));
    }
  }

  // ---- the whole page ----
  function draw() {
    const metrics = lines("metrics"), diagnostics = lines("diagnostics"), stretches = place(metrics, diagnostics);
    const training = metrics.filter((r) => r.kind === "training"), flossing = metrics.filter((r) => r.kind === "flossing");
    const blue = colour("blue"), grey = colour("grey");
    const on = { stretches, to: Math.max(0, ...metrics.slice(-1).map((r) => r.x), ...diagnostics.slice(-1).map((r) => r.x)) };
    const step = numbers(training, flossing, diagnostics);
    // All cards are made first: a chart takes the present width of its card.
    const names = ["loss", "accuracy", "exponents", "flossed", "spectrum", "lags", "raster", "gradient", "rate", "speed"];
    for (const name of names) if (name !== "flossed" || metrics.some((r) => r.exponents)) card(name, "");
    for (const [name, field] of [["rates", "rate_by_population"], ["zeros", "zero_share_by_projection"]])
      if (diagnostics.some((r) => r[field])) card(name, "");
    document.title = `${run.name} – spikefloss`;
    element("name").textContent = run.name;
    element("damage").textContent = run.damage && `${run.damage}.`;
    if (!run.lost) {
      element("state").className = "";
      element("state").textContent = run.status ? "running" :
        step >= run.steps ? `finished: ${step} training steps` : `step ${step} of ${run.steps} at the last record`;
    }
    // Data that the network is not trained on: [field of the record, series] for each kind that there is.
    const held = (field) => [["validation", "green"], ["test", "orange"]]
      .filter(([name]) => name === "test" || training.some((r) => `validation_${field}` in r))
      .map(([name, mark]) => [`${name}_${field}`, { label: name, colour: colour(mark), width: 0, dots: 3 }]);
    const of = (r, kinds) => kinds.map(([field]) => r[field] ?? null), series = (kinds) => kinds.map((kind) => kind[1]);
    const losses = held("loss"), accuracies = held("accuracy");
    chart("loss", "Loss", "step", training.map((r) => [r.x, r.loss, ...of(r, losses)]),
          [{ label: "batch", colour: blue }, ...series(losses)], { ...on, zero: true });
    chart("accuracy", "Accuracy", "step",
          training.map((r) => [r.x, r.accuracy, r.running_accuracy, ...of(r, accuracies)]),
          [{ label: "batch", colour: grey, width: .7 }, { label: "running", colour: blue, width: 1.8 },
           ...series(accuracies)], { ...on, format: percent, axis: (v) => Math.round(100 * v) + " %" });
    exponents("exponents", "Leading exponents over training", diagnostics.filter((r) => r.exponents), on,
              "diagnostics.every is 0: no exponents were measured beside training.");
    const flossed = metrics.filter((r) => r.exponents);
    if (flossed.length) exponents("flossed", "Leading exponents while flossing", flossed, on);
    const spectrum = run.spectrum ? run.spectrum.exponents.map((value, j) => [j + 1, value]) : [];
    chart("spectrum", "Spectrum" + (run.spectrum ? `, step ${run.spectrum.step}` : ""), "exponent", spectrum,
          [{ label: "λ", colour: blue, width: 1, dots: 2.5 }],
          { pad: 10, still: true, zero: true, levels: [0], missing: "diagnostics.every is 0: no spectrum was measured." });
    confusion();
    lags();
    raster();
    chart("gradient", "Gradient norm", "step", metrics.map((r) => [r.x, r.gradient_norm > 0 ? r.gradient_norm : null]),
          [{ label: "all parameters", colour: blue }], { ...on, log: true });
    chart("rate", "Firing rate", "step", metrics.map((r) => [r.x, r.rate]),
          [{ label: "spikes per neuron and step", colour: blue }], { ...on, zero: true });
    byName("rates", "Firing rate by population", diagnostics, "rate_by_population", on, {});
    byName("zeros", "Weights at 0 by projection", diagnostics, "zero_share_by_projection", on,
           { format: percent, axis: (v) => Math.round(100 * v) + " %" });
    chart("speed", "Throughput", "step", metrics.map((r) => [r.x, r.sequences_per_second]),
          [{ label: "sequences per second", colour: blue }], { ...on, zero: true });
    ranks();
    settings();
    element("log").querySelector("pre").textContent = run.log.join("\n");
    const pre = element("log").querySelector("pre");
    pre.scrollTop = pre.scrollHeight;
  }

  // ---- live ----
  function merge(more) {
    for (const part of ["metrics", "diagnostics"]) {
      const known = more.generation === run.generation ? run[part].lines.slice(0, more[part].from) : [];
      more[part].lines = known.concat(more[part].lines);
    }
    Object.assign(run, more);
  }
  async function follow() {
    const query = new URLSearchParams(location.search);
    query.set("generation", run.generation);
    query.set("metrics", run.metrics.lines.length);
    query.set("diagnostics", run.diagnostics.lines.length);
    try {
      const answer = await fetch("data?" + query, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      merge(await answer.json());
      run.lost = false;
      draw();
    } catch (fault) {
      run.lost = true;
      element("state").className = "lost";
      element("state").textContent = "no answer: the run has ended, or cannot be reached";
    }
    setTimeout(follow, run.lost ? 10000 : 2000);
  }

  try {
    draw();
  } catch (fault) {
    element("state").className = "lost";
    element("state").textContent = `this page could not be drawn: ${fault.message}`;
    throw fault;
  }
  dark.addEventListener("change", draw);
  // The size of the window has changed, or a scroll bar has appeared.
  new ResizeObserver(() => {
    for (const graph of Object.values(charts)) graph.resize();
    raster();
  }).observe(element("charts"));
  if (run.status) setTimeout(follow, 2000);
  window.spikefloss = { run, charts };  // for the console of the browser, and for the tests
})();
