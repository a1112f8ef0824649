package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"tocsin/e2e/lab"
)

// screens is where pictures of the pages are kept, to be looked at; git ignores it.
const screens = "../bin/screens"

// forward opens a port of this machine behind which the host's address answers: the browser runs here, and the pages there.
func forward(t *testing.T, h *lab.Host, to netip.AddrPort) (base string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() {
				defer from.Close()
				conn, err := h.Dial(to, answer)
				if err != nil {
					return // the browser says so
				}
				defer conn.Close()
				mu.Lock()
				open[from], open[conn] = true, true
				mu.Unlock()
				var both sync.WaitGroup
				for _, way := range [][2]net.Conn{{from, conn}, {conn, from}} {
					both.Go(func() {
						io.Copy(way[1], way[0])
						way[0].Close()
						way[1].Close()
					})
				}
				both.Wait()
				mu.Lock()
				delete(open, from)
				delete(open, conn)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + l.Addr().String()
}

// browse starts a real browser. Its windows are made of what it returns.
func browse(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed (scripts/setup.sh): no page is looked at in a real browser")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU,
		chromedp.Flag("accept-lang", "fr-FR,fr"), chromedp.Flag("lang", "fr"), chromedp.WSURLReadTimeout(2*time.Minute))
	t.Cleanup(stop)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return ctx
}

// window is one person's browser, with cookies of its own.
type window struct {
	t    *testing.T
	ctx  context.Context
	base string
	*heard
}

// heard is what a browser told of a window.
type heard struct {
	mu      sync.Mutex
	strange []string // what must not happen on any page
	paths   map[network.RequestID]string
	bytes   map[string]int // of what was loaded, by path
	refused int            // answers of 400 and more that are expected
}

// in is the same window for a part of the test, which what happens meanwhile belongs to.
func (w *window) in(t *testing.T) *window {
	part := &window{t: t, ctx: w.ctx, base: w.base, heard: w.heard}
	t.Cleanup(part.tell)
	return part
}

// tell fails the test for what happened that must not.
func (w *window) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, what := range w.strange {
		w.t.Error(what)
	}
	w.strange = nil
}

func newWindow(t *testing.T, browser context.Context, base string) *window {
	t.Helper()
	w := &window{t: t, base: base, heard: &heard{paths: map[network.RequestID]string{}, bytes: map[string]int{}}}
	var cancel context.CancelFunc
	w.ctx, cancel = chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(func() {
		cancel()
		w.tell()
	})
	if err := chromedp.Listen(w.ctx, w.hear); err != nil {
		t.Fatal(err)
	}
	w.size(1280, 900)
	return w
}

// hear notes what was loaded, and what must not happen: a request to elsewhere, an exception, a word on the console, something
// that the policy of the page forbids.
func (w *window) hear(ev any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		path, ours := strings.CutPrefix(ev.Request.URL, w.base)
		w.paths[ev.RequestID] = path
		if !ours && !strings.HasPrefix(path, "about:") && !strings.HasPrefix(path, "data:") {
			w.strange = append(w.strange, "request to "+path)
		}
	case *network.EventLoadingFinished:
		w.bytes[w.paths[ev.RequestID]] += int(ev.EncodedDataLength)
	case *runtime.EventExceptionThrown:
		w.strange = append(w.strange, "exception: "+ev.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		w.strange = append(w.strange, "the console says "+string(ev.Type))
	case *log.EventEntryAdded:
		switch {
		case ev.Entry.Level == "info": // that the cache was cleared, as we asked for
			return
		case ev.Entry.Source == "network" && w.refused > 0:
			w.refused--
			return
		}
		w.strange = append(w.strange, fmt.Sprintf("log: %s %s %s %s", ev.Entry.Source, ev.Entry.Level, ev.Entry.Text, ev.Entry.URL))
	}
}

func (w *window) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 2*answer)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		w.shoot("failed")
		w.t.Fatalf("%s: %v; the page says: %s", what, err, eval[string](w, "location.href + ' ' + document.body.innerText"))
	}
}

func css(s string) chromedp.CSS { return chromedp.CSS(s) }

// until waits for something to be true in the page.
func until(js string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		for {
			// While one page gives way to another there is nobody to ask.
			if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](js)); err == nil && ok {
				return nil
			}
			if err := chromedp.Do(ctx, chromedp.Sleep(50*time.Millisecond)); err != nil {
				return fmt.Errorf("wait for %s: %w", js, err)
			}
		}
	})
}

func eval[T any](w *window, js string) (v T) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 2*answer)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js))
	if err != nil {
		w.t.Errorf("%.60s: %v", js, err)
	}
	return v
}

func (w *window) goTo(path string) {
	w.t.Helper()
	w.do(path, chromedp.Navigate(w.base+path))
}

// refuses goes to a page that is not for whoever looks.
func (w *window) refuses(path string, code int) {
	w.t.Helper()
	w.mu.Lock()
	w.refused++
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(w.ctx, 2*answer)
	defer cancel()
	r, err := chromedp.Run(ctx, chromedp.NavigateResponse(w.base+path))
	if err != nil || int(r.Status) != code {
		w.t.Errorf("%s: %+v, %v, want code %d", path, r, err, code)
	}
}

func (w *window) size(width, height int64) {
	w.t.Helper()
	w.do("size", chromedp.EmulateViewport(width, height))
}

// theme makes the machine of whoever looks a dark or a light one.
func (w *window) theme(name string) {
	w.t.Helper()
	w.do("theme "+name, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
		return err
	}))
}

func (w *window) noScripts() {
	w.t.Helper()
	w.do("no scripts", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
}

// text is what a person reads on the page.
func (w *window) text() string { w.t.Helper(); return eval[string](w, "document.body.innerText") }

// reads wants each of the texts on the page.
func (w *window) reads(texts ...string) {
	w.t.Helper()
	said := w.text()
	for _, text := range texts {
		if !strings.Contains(said, text) {
			w.t.Errorf("%s: no %q on the page:\n%s", eval[string](w, "location.href"), text, said)
		}
	}
}

// has says whether there is such an element.
func (w *window) has(selector string) bool {
	w.t.Helper()
	return eval[bool](w, fmt.Sprintf("document.querySelector(%q) !== null", selector))
}

// login logs in with the password of these tests.
func (w *window) login(name string) {
	w.t.Helper()
	w.goTo("/login")
	w.do("login", chromedp.SendKeys(css("#name"), name), chromedp.SendKeys(css("#password"), pagesPassword+kb.Enter), chromedp.WaitReady(css(".me")))
}

// borrow takes over the session of another window, and nothing that it has loaded.
func (w *window) borrow(from *window) {
	w.t.Helper()
	jar, err := chromedp.Call(from.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{w.base + "/"}})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range jar.Cookies {
		if _, err := chromedp.Call(w.ctx, network.SetCookie, network.SetCookieParams{Name: c.Name, Value: c.Value, URL: w.base + "/", HTTPOnly: &c.HTTPOnly}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// shoot keeps a picture of the whole page.
func (w *window) shoot(name string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 2*answer)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		if err = os.MkdirAll(screens, 0o755); err == nil {
			err = os.WriteFile(filepath.Join(screens, name+".png"), picture, 0o644)
		}
	}
	if err != nil {
		w.t.Errorf("picture %s: %v", name, err)
	}
}

// drawn waits for every picture of the page, the hidden ones too.
func (w *window) drawn() {
	w.t.Helper()
	eval[bool](w, `document.querySelectorAll("img").forEach(i => i.loading = "eager"); true`)
	w.do("pictures", until(`[...document.images].every(i => i.complete && i.naturalWidth > 0)`))
}

// audit wants of the page what everybody may expect of each.
func (w *window) audit(name string) {
	w.t.Helper()
	for _, what := range eval[[]string](w, auditScript) {
		w.t.Errorf("%s: %s", name, what)
	}
}

// auditScript lists what is wrong with a page: headings, labels, tables, pictures, colours (WCAG 2.1: 1.1.1, 1.3.1, 1.4.3, 1.4.10,
// 2.4.4, 3.1.1, 4.1.1, 4.1.2), and marks that strangers' text left.
const auditScript = `(() => {
  const wrong = [], all = s => [...document.querySelectorAll(s)];
  const seen = e => e.checkVisibility({visibilityProperty: true}) && !e.closest(".hidden, .skip");
  const show = e => e.outerHTML.replace(/\s+/g, " ").slice(0, 120);
  if (all("h1").length !== 1) wrong.push(all("h1").length + " h1");
  let level = 1;
  for (const h of all("h1, h2, h3, h4")) {
    const n = +h.tagName[1];
    if (n > level + 1) wrong.push("a heading of level " + n + " below one of level " + level);
    level = n;
  }
  if (!document.documentElement.lang) wrong.push("no language");
  if (all("main").length !== 1) wrong.push("no main");
  for (const e of all("input:not([type=hidden]):not([hidden]), select, textarea")) {
    if (!(e.labels && [...e.labels].some(l => l.textContent.trim())) && !e.getAttribute("aria-label")) wrong.push("no label: " + show(e));
  }
  for (const e of all("button, a[href], summary")) {
    if (!(e.textContent.trim() || e.getAttribute("aria-label") || e.querySelector("img[alt]:not([alt=''])"))) wrong.push("no name: " + show(e));
  }
  for (const e of all("img")) if (!e.alt) wrong.push("no alt: " + show(e));
  for (const e of all("svg")) if (!e.closest("[aria-hidden]") && !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby") && !e.querySelector("title")) wrong.push("nameless svg: " + show(e));
  for (const e of all("table")) {
    if (!e.caption || !e.caption.textContent.trim()) wrong.push("no caption: " + show(e));
    for (const th of e.querySelectorAll("th")) if (!th.scope) wrong.push("no scope: " + show(th));
  }
  const ids = all("[id]").map(e => e.id);
  for (const id of new Set(ids)) if (ids.filter(x => x === id).length > 1) wrong.push("two of id " + id);
  for (const e of all("[aria-labelledby], [aria-describedby]")) {
    const to = e.getAttribute("aria-labelledby") || e.getAttribute("aria-describedby");
    if (!document.getElementById(to)) wrong.push("nothing is called " + to);
  }
  if (all("[style], style").length) wrong.push("a style within the page: " + show(all("[style], style")[0]));
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) {
    const far = all("body *").filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 3).map(show);
    wrong.push("the page is " + wide + " pixels wider than the screen: " + far.join(" "));
  }

  // What strangers wrote is text, and turns nothing around.
  if (all("script:not([src]), iframe, object, embed, [onerror], [onload], [onclick]").length) wrong.push("strangers' markup");
  if (window.hacked) wrong.push("strangers' script ran");
  const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
  const words = document.documentElement.innerText + document.title + all("[alt], [title], [aria-label], [value]").map(e => [e.alt, e.title, e.ariaLabel, e.getAttribute("value")].join(" ")).join(" ");
  if (controls.test(words)) wrong.push("control characters: " + JSON.stringify(words.slice(Math.max(0, words.search(controls) - 30)).slice(0, 60)));

  // The contrast of text with what is behind it.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgb = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const lum = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => {
    const layers = [];
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c[3] > 0) layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reduceRight((low, c) => over(c, low), [255, 255, 255, 1]);
  };
  const told = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; n = walk.nextNode();) {
    const e = n.parentElement;
    if (!n.textContent.trim() || e.closest("svg, option") || !seen(e)) continue;
    const style = getComputedStyle(e), size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    const back = behind(e), front = over(rgb(style.color), back), [x, y] = [lum(front), lum(back)];
    const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
    if (ratio < (large ? 3 : 4.5) && !told.has(e.className + style.color)) {
      told.add(e.className + style.color);
      wrong.push("contrast " + ratio.toFixed(2) + ": " + show(e));
    }
  }
  return wrong;
})()`
