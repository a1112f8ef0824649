package web

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// shots is where pictures of the pages are kept, to be looked at; git ignores it.
const shots = "../../bin/pages"

// screen is a real browser that looks at a site.
type screen struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu      sync.Mutex
	strange []string // requests to elsewhere, errors on the console
}

func newScreen(t *testing.T, s *site) *screen {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed (scripts/setup.sh): no page is looked at in a real browser")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU, chromedp.WSURLReadTimeout(2*time.Minute))
	t.Cleanup(stop)
	b := &screen{t: t, base: s.http.URL}
	b.ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(b.ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	if err := chromedp.Listen(b.ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	return b
}

// hear notes what must not happen on any page.
func (b *screen) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		if url := ev.Request.URL; !strings.HasPrefix(url, b.base) && !strings.HasPrefix(url, "about:") && !strings.HasPrefix(url, "data:") {
			b.strange = append(b.strange, "request to "+url)
		}
	case *runtime.EventExceptionThrown:
		b.strange = append(b.strange, "exception: "+ev.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if ev.Type == "error" || ev.Type == "warning" {
			b.strange = append(b.strange, "console "+string(ev.Type))
		}
	}
}

func (b *screen) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// until waits for something to be true in the page.
func until(js string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		for {
			// While one page gives way to another there is nobody to ask.
			if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](js)); err == nil && ok {
				return nil
			}
			if err := chromedp.Do(ctx, chromedp.Sleep(50*time.Millisecond)); err != nil {
				return fmt.Errorf("%s: %w", js, err)
			}
		}
	})
}

func (b *screen) goTo(path string) { b.t.Helper(); b.do(path, chromedp.Navigate(b.base+path)) }

func eval[T any](b *screen, js string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](js))
	if err != nil {
		b.t.Fatalf("%s: %v", js, err)
	}
	return v
}

// shoot keeps a picture of the whole page.
func (b *screen) shoot(name string) {
	b.t.Helper()
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		if err = os.MkdirAll(shots, 0o755); err == nil {
			err = os.WriteFile(filepath.Join(shots, name+".png"), picture, 0o644)
		}
	}
	if err != nil {
		b.t.Errorf("picture %s: %v", name, err)
	}
}

// fits wants a page that is no wider than the screen.
func (b *screen) fits(name string) {
	b.t.Helper()
	if wide := eval[float64](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
		b.t.Errorf("%s is %v pixels wider than the screen", name, wide)
	}
}

func (b *screen) login(name string) {
	b.t.Helper()
	b.goTo("/login")
	b.do("login", chromedp.SendKeys(chromedp.CSS("#name"), name), chromedp.SendKeys(chromedp.CSS("#password"), password+kb.Enter), chromedp.WaitReady(chromedp.CSS(".me")))
}

func (b *screen) theme(name string) {
	b.t.Helper()
	b.do("theme "+name, chromedp.Click(chromedp.CSS(`button[name=theme][value=`+name+`]`)), chromedp.WaitReady(chromedp.CSS(`html[data-theme=`+name+`]`)))
}

// looked are the pages that are looked at.
var looked = []struct{ name, path string }{
	{"overview", "/"}, {"server", "/server/OVH/web3"}, {"graph", "/graph/OVH/web3/cpu"}, {"large", "/graph/OVH/web3/cpu?range=week&behind=7"}, {"compare", "/compare/OVH/cpu"},
	{"alerts", "/alerts"}, {"alert", "/alert/1038"}, {"reputation", "/reputation"},
	{"bans", "/bans"}, {"bans-week", "/bans?when=week"}, {"address", "/address/192.0.2.7"}, {"address-print", "/address/192.0.2.7?print=1"}, {"address-free", "/address/198.51.100.4"},
	{"users", "/users"}, {"account", "/account"}, {"actions", "/actions"}, {"error", "/nothing"},
}

// TestPagesInABrowser opens every page in both themes, wide and narrow: nothing is asked of elsewhere, nothing goes wrong on
// the console, nothing is wider than the screen.
func TestPagesInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("a real browser takes its time")
	}
	s := newSite(t)
	b := newScreen(t, s)
	b.do("size", chromedp.EmulateViewport(1280, 900))
	b.goTo("/login")
	b.shoot("login")
	b.login("marie")
	for _, theme := range []string{"light", "dark"} {
		b.goTo("/")
		b.theme(theme)
		for _, size := range []struct {
			name  string
			width int64
		}{{"", 1280}, {"-narrow", 390}} {
			b.do("size", chromedp.EmulateViewport(size.width, 900))
			for _, p := range looked {
				b.goTo(p.path)
				eval[bool](b, `document.querySelectorAll("img").forEach(i => i.loading = "eager"); true`)
				b.do("pictures", until(`[...document.images].every(i => i.complete && i.naturalWidth > 0)`))
				b.fits(p.name + size.name)
				b.shoot(p.name + size.name + "-" + theme)
			}
		}
		b.do("size", chromedp.EmulateViewport(1280, 900))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, what := range b.strange {
		t.Error(what)
	}
}

// TestZoomByDrag: dragging over a graph draws that part of it, and Escape brings the whole back.
func TestZoomByDrag(t *testing.T) {
	if testing.Short() {
		t.Skip("a real browser takes its time")
	}
	b := newScreen(t, newSite(t))
	b.do("size", chromedp.EmulateViewport(1280, 900))
	b.login("bea")
	b.goTo("/graph/OVH/web3/cpu?range=day")
	type box struct{ X, Y, Width, Height float64 }
	at := eval[box](b, `(() => { const b = document.querySelector(".plot svg").getBoundingClientRect(); return {X: b.x, Y: b.y, Width: b.width, Height: b.height} })()`)
	y := at.Y + 100
	b.do("drag", chromedp.DragAndDropXY(at.X+at.Width*0.4, y, at.X+at.Width*0.6, y), until(`location.search.includes("from=")`))
	length := eval[float64](b, `(q => q.get("to") - q.get("from"))(new URLSearchParams(location.search))`)
	day := 2000 * 60.0
	if length < day*0.15 || length > day*0.3 {
		t.Errorf("a fifth of the picture is %v seconds of %v", length, day)
	}
	b.do("what is under the pointer", chromedp.MouseEvent("mouseMoved", at.X+at.Width*0.5, y), until(`document.querySelector(".readout").children.length > 1`))
	b.shoot("zoomed")
	b.do("the same page again", chromedp.Reload(), chromedp.WaitReady(chromedp.CSS(".plot svg")))
	b.do("back", chromedp.NavigateBack(), until(`!location.search.includes("from=") && document.querySelector(".plot svg") !== null`))
	if len(b.strange) > 0 {
		t.Error(b.strange)
	}
}

// emptied takes the slash out of the search: where a person presses the key it is not written there, but the protocol sends
// the letter apart from the key.
var emptied = until(`(document.getElementById("q").value = "", true)`)

// TestAcknowledgeByKeyboard uses no mouse.
func TestAcknowledgeByKeyboard(t *testing.T) {
	if testing.Short() {
		t.Skip("a real browser takes its time")
	}
	s := newSite(t)
	b := newScreen(t, s)
	b.login("paul")
	b.do("search", chromedp.KeyEvent("/"), until(`document.activeElement.id === "q"`), emptied, chromedp.KeyEvent("web3"+kb.Enter), until(`location.pathname === "/server/OVH/web3"`))
	b.goTo("/")
	b.do("the first key leads to the content", chromedp.KeyEvent(kb.Tab), until(`document.activeElement.className === "skip"`))
	b.goTo("/alert/1042")
	b.do("note", chromedp.Focus(chromedp.CSS("#note")), chromedp.KeyEvent("I am looking"+kb.Tab+kb.Tab+kb.Enter), chromedp.WaitReady(chromedp.CSS(".flash")))
	if text := eval[string](b, `document.querySelector("main").innerText`); !strings.Contains(text, "Acknowledged by paul") || !strings.Contains(text, "I am looking") {
		t.Errorf("after it: %s", text)
	}
}

// TestSeveralAreUnbanned chooses bans, is asked whether that is meant, and sees what was done.
func TestSeveralAreUnbanned(t *testing.T) {
	if testing.Short() {
		t.Skip("a real browser takes its time")
	}
	s, g := guarded(t, func(o *Options) { o.Language = "fr" })
	b := newScreen(t, s)
	b.do("size", chromedp.EmulateViewport(1280, 900))
	b.login("marie")
	b.goTo("/bans")
	b.shoot("bans-french")
	b.do("choose", chromedp.Click(chromedp.CSS("#b0")), chromedp.Click(chromedp.CSS("#b1")), chromedp.Click(chromedp.CSS(`.foot button[value=ban]`)), chromedp.WaitReady(chromedp.CSS(".ask")))
	b.shoot("bans-sure")
	b.do("size", chromedp.EmulateViewport(390, 900))
	b.fits("the question")
	b.shoot("bans-sure-narrow")
	b.do("sure", chromedp.Click(chromedp.CSS(".ask button[value=ban]")), chromedp.WaitReady(chromedp.CSS(".flash")))
	if got := g.changes(); got != "ban 192.0.2.7 1 marie banned on the pages; ban 203.0.113.9 1 marie banned on the pages" {
		t.Errorf("the guard was asked %q", got)
	}
	b.goTo("/address/192.0.2.7")
	b.shoot("address-french")
	b.do("unban", chromedp.Click(chromedp.CSS(`form[action$="/unban"] button`)), chromedp.WaitReady(chromedp.CSS(".flash")))
	if got := g.changes(); !strings.HasSuffix(got, "; unban 192.0.2.7 marie; allow 192.0.2.7 7 marie") {
		t.Errorf("the guard was asked %q", got)
	}
	if len(b.strange) > 0 {
		t.Error(b.strange)
	}
}

// TestWithoutJavaScript: everything is there, and forms work.
func TestWithoutJavaScript(t *testing.T) {
	if testing.Short() {
		t.Skip("a real browser takes its time")
	}
	b := newScreen(t, newSite(t))
	b.do("no scripts", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	b.login("paul")
	b.goTo("/graph/OVH/web3/cpu?range=week")
	text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("main")))
	if err != nil || !strings.Contains(text, "iowait") || strings.Contains(text, "Drag over") {
		t.Errorf("without JavaScript: %v %s", err, text)
	}
	b.goTo("/alerts")
	b.do("acknowledge", chromedp.Click(chromedp.CSS(".alert form button")), chromedp.WaitReady(chromedp.CSS(".flash")))
}
