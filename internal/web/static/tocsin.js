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
})();
