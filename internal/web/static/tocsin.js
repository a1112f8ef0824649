// Everything works without this file. It brings "/" to the search, and pages that stay fresh while somebody looks at them.
(() => {
  "use strict";
  const typing = e => /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName) || e.target.isContentEditable;
  let after = "";
  document.addEventListener("keydown", e => {
    if (e.ctrlKey || e.metaKey || e.altKey || typing(e)) return;
    if (e.key === "/") {
      const q = document.getElementById("q");
      if (q) { e.preventDefault(); q.focus(); }
    } else if (after === "g" && e.key === "o") {
      location.href = "/";
    }
    after = e.key;
  });

  // What is marked with data-fresh is asked for again every 30 seconds, while the page is seen and nobody types in it.
  const fresh = document.querySelector("[data-fresh]");
  if (fresh) {
    setInterval(async () => {
      if (document.hidden || fresh.contains(document.activeElement) && document.activeElement !== document.body) return;
      try {
        const r = await fetch(location.href, {headers: {"X-Requested-With": "fetch"}, redirect: "error"});
        if (!r.ok) return;
        const page = new DOMParser().parseFromString(await r.text(), "text/html");
        for (const what of ["[data-fresh]", "footer"]) {
          const now = document.querySelector(what), then = page.querySelector(what);
          if (!now || !then) continue;
          const open = [...now.querySelectorAll("details")].map(d => d.open);
          now.replaceChildren(...then.childNodes);
          now.querySelectorAll("details").forEach((d, i) => { if (i < open.length) d.open = open[i]; });
        }
        document.title = page.title;
      } catch { /* the next time */ }
    }, 30000);
  }

  // Dragging over a graph draws a part of it anew, on the server: stacked and mirrored curves, gaps and limits stay right.
  const zoom = document.querySelector("[data-zoom]");
  if (zoom) {
    document.documentElement.classList.add("script");
    const plot = zoom.querySelector(".plot"), reset = zoom.querySelector("[data-reset]");
    const whole = plot.querySelector("svg").cloneNode(true), span = [zoom.dataset.left, zoom.dataset.right];
    const first = {from: +zoom.dataset.from, to: +zoom.dataset.to};
    let now = first, band = null, start = 0;
    // Where the curves begin and end in the picture, in its own units.
    const ends = () => {
      const pic = plot.querySelector("svg"), box = pic.getBoundingClientRect(), scale = box.width / pic.viewBox.baseVal.width;
      return {left: box.left + zoom.dataset.left * scale, right: box.left + zoom.dataset.right * scale};
    };
    const at = x => { const e = ends(); return Math.min(1, Math.max(0, (x - e.left) / (e.right - e.left))); };
    const show = async (want, push) => {
      const q = new URLSearchParams(location.search);
      for (const k of ["range", "from", "to"]) q.delete(k);
      if (want === first) {
        plot.replaceChildren(whole.cloneNode(true));
        [zoom.dataset.left, zoom.dataset.right] = span;
      } else {
        q.set("from", want.from); q.set("to", want.to);
        const r = await fetch(zoom.dataset.zoom + "?inline=1&" + q).catch(() => null);
        if (!r || !r.ok) return;
        const pic = new DOMParser().parseFromString(await r.text(), "image/svg+xml").documentElement;
        [zoom.dataset.left, zoom.dataset.right] = r.headers.get("X-Span").split(" ");
        plot.replaceChildren(document.importNode(pic, true));
      }
      now = want;
      reset.hidden = want === first;
      told(location.pathname + "?" + (want === first ? zoom.dataset.home.split("?")[1] || "" : q));
      if (push) history.pushState(want === first ? null : want, "", want === first ? zoom.dataset.home : location.pathname + "?" + q);
    };
    zoom.dataset.home = location.pathname + location.search;

    // The table below says what is drawn. It follows the picture, and tells the values under the pointer.
    let rows = [], names = [];
    const readout = zoom.querySelector(".readout"), line = document.createElement("div");
    line.className = "line";
    const learn = () => {
      const table = document.querySelector("[data-drawn]");
      names = [...table.querySelectorAll("thead th")].slice(1).map(c => c.textContent);
      rows = [...table.querySelectorAll("tbody tr")].reverse();
    };
    const told = async path => {
      const r = await fetch(path, {headers: {"X-Requested-With": "fetch"}, redirect: "error"}).catch(() => null);
      if (!r || !r.ok) return;
      const page = new DOMParser().parseFromString(await r.text(), "text/html");
      for (const what of ["[data-drawn]", "[data-saves]"]) {
        const then = page.querySelector(what);
        if (then) document.querySelector(what).replaceChildren(...then.childNodes);
      }
      learn();
    };
    learn();
    plot.addEventListener("pointermove", e => {
      const t = now.from + at(e.clientX) * (now.to - now.from);
      const row = rows.find(r => +r.dataset.t >= t);
      if (!row) return;
      const [when, ...values] = [...row.cells].map(c => c.textContent);
      readout.replaceChildren(Object.assign(document.createElement("b"), {textContent: when}),
        ...values.slice(0, 20).map((v, i) => Object.assign(document.createElement("span"), {textContent: names[i] + " " + v})));
      if (!line.isConnected) plot.append(line);
      line.style.left = e.clientX - plot.getBoundingClientRect().left + "px";
    });
    plot.addEventListener("pointerleave", () => { line.remove(); readout.replaceChildren(); });
    plot.addEventListener("pointerdown", e => {
      if (e.button || band) return;
      start = e.clientX;
      band = document.createElement("div");
      band.className = "band";
      plot.append(band);
      plot.setPointerCapture(e.pointerId);
      e.preventDefault();
    });
    plot.addEventListener("pointermove", e => {
      if (!band) return;
      const box = plot.getBoundingClientRect();
      band.style.left = Math.min(start, e.clientX) - box.left + "px";
      band.style.width = Math.abs(e.clientX - start) + "px";
    });
    const end = e => {
      if (!band) return;
      band.remove();
      band = null;
      if (e.type === "pointercancel" || Math.abs(e.clientX - start) < 8) return;
      const length = now.to - now.from, a = at(Math.min(start, e.clientX)), b = at(Math.max(start, e.clientX));
      const from = Math.round(now.from + a * length), to = Math.round(now.from + b * length);
      if (to - from >= 60) show({from, to}, true);
    };
    plot.addEventListener("pointerup", end);
    plot.addEventListener("pointercancel", end);
    plot.addEventListener("dblclick", () => { if (now !== first) show(first, true); });
    document.addEventListener("keydown", e => { if (e.key === "Escape" && now !== first) show(first, true); });
    reset.addEventListener("click", () => show(first, true));
    addEventListener("popstate", e => show(e.state || first, false));
  }
})();
