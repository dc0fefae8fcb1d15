// Adds what the pointer is at. The page is complete without it. Texts are set as text, never as markup.
"use strict";
(() => {
  const LEFT = 66, RIGHT = 948;
  const numbers = text => text.split(" ").map(n => n === "-" ? null : +n);
  const pad = n => String(n).padStart(2, "0");
  const clock = s => {
    s = Math.round(s);
    const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
    return (h ? h + ":" + pad(m) : m) + ":" + pad(s % 60);
  };
  const show = v => v.toLocaleString("en", v >= 100 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 });
  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (low < high) { const mid = (low + high) >> 1; if (xs[mid] < x) low = mid + 1; else high = mid; }
    return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
  };
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const read = new Map();
  const lines = plot => {
    if (!read.has(plot)) {
      read.set(plot, [...plot.querySelectorAll("path[data-y]")].map(path => ({
        name: path.dataset.name, look: path.getAttribute("class"),
        x: numbers(path.dataset.x || plot.dataset.x), y: numbers(path.dataset.y),
        low: numbers(path.dataset.low || ""), high: numbers(path.dataset.high || ""),
      })));
    }
    return read.get(plot);
  };
  const cursor = (plot, at) => {
    let line = plot.querySelector(".cursor");
    if (!line) {
      line = document.createElementNS(plot.namespaceURI, "path");
      line.setAttribute("class", "cursor");
      plot.append(line);
    }
    line.setAttribute("d", at === null ? "" : `M${at} 20V${plot.viewBox.baseVal.height - 24}`);
  };
  const together = plot => {
    const group = plot.closest(".timeline");
    return group ? group.querySelectorAll(".plot") : [plot];
  };
  for (const plot of document.querySelectorAll(".plot")) {
    // As a label, or the browser would lay the title over what is shown here.
    const title = plot.querySelector("title");
    plot.setAttribute("aria-label", title.textContent);
    title.remove();
    plot.addEventListener("pointermove", event => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
      const until = +plot.dataset.until, share = (point.x - LEFT) / (RIGHT - LEFT);
      if (share < 0 || share > 1) return leave();
      const x = share * until, all = lines(plot);
      const xs = all.map(line => line.x).reduce((a, b) => b.length > a.length ? b : a);
      const at = xs[nearest(xs, x)];
      const head = document.createElement("b");
      head.textContent = plot.dataset.along === "time" ? clock(at)
        : (100 - 100 * 10 ** -at).toFixed(Math.max(0, Math.ceil(at) - 1)) + " % are faster";
      const body = document.createElement("div");
      for (const line of all) {
        const i = nearest(line.x, x), value = line.x[line.x.length - 1] < at ? null : line.y[i];
        if (value === null) continue;
        const swatch = document.createElementNS(plot.namespaceURI, "svg"), stroke = document.createElementNS(plot.namespaceURI, "path");
        swatch.setAttribute("viewBox", "0 0 22 8");
        stroke.setAttribute("class", line.look);
        stroke.setAttribute("d", "M1 4H21");
        swatch.append(stroke);
        const name = document.createElement("span"), number = document.createElement("i");
        name.textContent = line.name;
        const band = line.high[i] ? ` (${show(line.low[i])} – ${show(line.high[i])})` : "";
        number.textContent = show(value) + (plot.dataset.unit === "ms" ? " ms" : "") + band;
        body.append(swatch, name, number);
      }
      tip.replaceChildren(head, body);
      tip.hidden = false;
      const right = event.clientX + 16 + tip.offsetWidth > innerWidth;
      tip.style.left = (right ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16) + "px";
      tip.style.top = Math.max(4, Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 4)) + "px";
      for (const other of together(plot)) cursor(other, LEFT + at / until * (RIGHT - LEFT));
    });
    const leave = () => {
      tip.hidden = true;
      for (const other of together(plot)) cursor(other, null);
    };
    plot.addEventListener("pointerleave", leave);
  }
  const unfold = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const folded = target && target.closest("details");
    if (folded) { folded.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", unfold);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(details => { details.open = true; }));
  unfold();
})();
