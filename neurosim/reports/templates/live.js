"use strict";
// Asks for the numbers of the run every second, and draws them.
(() => {
  const [wide, high, left, right, top, below] = [460, 240, 52, 20, 8, 24];
  const node = (parent, name, attributes = {}, text = "") => {
    const made = document.createElementNS(parent.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return parent.appendChild(made);
  };
  const written = (value, digits = 4) => {
    const size = Math.abs(value);
    if (size && size < 1e-3) return value.toExponential(1);
    const units = [[1e12, 1e12, " T"], [1e9, 1e9, " G"], [1e6, 1e6, " M"], [1e4, 1e3, " k"], [0, 1, ""]];
    const [, unit, sign] = units.find(([least]) => size >= least); // as the report writes them
    return +(value / unit).toPrecision(digits) + sign;
  };
  const axis = (values, from, to, whole) => {
    let [low, most] = [Math.min(...values), Math.max(...values)];
    const margin = whole ? 1 : Math.abs(low) / 10 || 0.5;
    if (low === most) [low, most] = [low - margin, most + margin];
    const raw = Math.max((most - low) / 6, whole ? 1 : 0), ten = 10 ** Math.floor(Math.log10(raw));
    const step = ten * [1, 2, 5, 10].find((part) => part * ten >= raw * 0.999), ticks = [];
    const size = Math.max(Math.abs(low), Math.abs(most)); // of which neighbouring ticks differ
    const digits = Math.min(15, Math.max(4, 1 + Math.ceil(Math.log10(size / step))));
    for (let n = Math.ceil(low / step); n * step <= most; n++) ticks.push(+(n * step).toPrecision(12));
    return {ticks, digits, place: (value) => from + (value - low) / (most - low) * (to - from)};
  };
  const draw = (parent, title, curves) => {
    const figure = node(parent, "figure"), percent = title === "Accuracy";
    const scaled = ([x, y]) => [x, percent ? 100 * y : y];
    const all = Object.entries(curves).map(([key, one]) => [key, one.map(scaled)]);
    node(figure, "h3", {}, percent ? `${title} (%)` : title);
    const svg = figure.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
    const points = all.flatMap(([, one]) => one), last = (one) => written(one[one.length - 1][1]);
    const name = (key) => key.replaceAll("_", " ");
    const said = all.map(([key, one]) => `${name(key)} ${last(one)}`).join(", ");
    for (const [key, value] of [["viewBox", `0 0 ${wide} ${high}`], ["role", "img"],
      ["aria-label", `${title} by step: ${said}`]]) svg.setAttribute(key, value);
    const x = axis(points.map((point) => point[0]), left, wide - right, true);
    const y = axis(points.map((point) => point[1]), high - below, top, false);
    const ticks = node(svg, "g", {class: "ticks"});
    for (const at of x.ticks) {
      node(ticks, "path", {d: `M${x.place(at)} ${top}V${high - below}`});
      node(ticks, "text", {x: x.place(at), y: high - 8, "text-anchor": "middle"}, written(at, x.digits));
    }
    for (const at of y.ticks) {
      node(ticks, "path", {d: `M${left} ${y.place(at)}H${wide - right}`});
      node(ticks, "text", {x: left - 5, y: y.place(at) + 3, "text-anchor": "end"}, written(at, y.digits));
    }
    const legend = node(node(figure, "figcaption"), "ul", {class: "legend"});
    all.forEach(([key, one], i) => {
      const colour = `var(--q${i})`, places = one.map(([a, b]) => [x.place(a), y.place(b)]);
      const line = node(svg, "path", {d: `M${places.map((pair) => pair.join(" ")).join("L")}`});
      line.style.cssText = `fill:none;stroke:${colour};stroke-width:1.5`;
      const end = places[places.length - 1];
      node(svg, "circle", {cx: end[0], cy: end[1], r: 2.5}).style.fill = colour;
      const entry = node(legend, "li"), sign = node(entry, "i");
      sign.style.borderTop = `3px solid ${colour}`;
      entry.append(`${name(key)} ${last(one)}`);
    });
  };
  const status = document.getElementById("status"), where = document.getElementById("where");
  const show = (data) => {
    status.textContent = data.status;
    status.className = data.status;
    const of = data.steps < 1e12 ? ` of ${data.steps.toLocaleString("en")}` : ""; // no end: none
    where.textContent = "step" in data
      ? `, epoch ${data.epoch.toLocaleString("en")}, step ${data.step.toLocaleString("en")}${of}` : "";
    const drawn = document.createElement("div");
    for (const [title, curves] of Object.entries(data.charts))
      if (Object.keys(curves).length) draw(drawn, title, curves);
    document.getElementById("charts").replaceChildren(...drawn.childNodes);
  };
  const ask = async () => {
    try {
      show(await (await fetch("data")).json());
    } catch {
      status.textContent = "over: it answers no more, see its report";
      status.className = "";
    }
    setTimeout(ask, 1000);
  };
  ask();
})();
