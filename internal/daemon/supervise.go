package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/exec"
	"tocsin/internal/munin"
	telling "tocsin/internal/notify"
	"tocsin/internal/probe"
	"tocsin/internal/remotewrite"
	"tocsin/internal/tsdb"
	"tocsin/internal/web"
)

// samplesFolder is where the samples lie, in the folder of the watch process.
const samplesFolder = "samples"

// storePatience is how long everything waits for the store to be opened. After a crash a big one takes longer.
const storePatience = 3 * time.Second

// supervisor is the part of a session that reads what happens on servers and keeps it.
type supervisor struct {
	w     *watcher
	conf  *config.Config
	log   *slog.Logger
	own   serverKey // this machine
	began time.Time
	db    *tsdb.DB
	known *catalogue
	rates *probe.Rates
	set   *probe.Set
	nodes *probe.Nodes
	// master is Munin's configuration; nil: none is read.
	master *munin.MasterConf
	// plugins are Munin's; nil: none is run.
	plugins *probe.Plugins
	runner  *exec.Runner
	remotes []*remote // the other stores that everything is written to
	people  *telling.Notifier
	keys    *tokens
	alerts  *alerter
	pages   *web.Server

	mu      sync.Mutex
	builtIn map[string]bool // the services of this machine that a built-in probe delivers
	samples []tocsin.Sample // of one delivery, used again
	lost    uint64          // samples that could not be kept
	told    throttle
	open    atomic.Bool // somebody listens on the network
}

// newSupervisor opens the store of samples. Nothing is read before run.
func newSupervisor(ctx context.Context, w *watcher, conf *config.Config, host string) (*supervisor, error) {
	s := &supervisor{w: w, conf: conf, log: w.log, began: time.Now(), builtIn: map[string]bool{}, own: serverKey{conf.Watch.Group, nodeName(conf.Watch.Name, host)}}
	s.rates = probe.NewRates(probe.RatesOptions{Group: s.own.group, Node: s.own.name})
	// The runner listens where the guard's socket lies, or did not start: then what only root may read is off, and says so.
	s.runner = exec.NewRunner(exec.DialSocket(RunnerSocket(conf.Socket)))
	h := probe.NewHost()
	h.Capacity, h.Country, h.Sites, h.Domains = conf.Watch.Capacity, conf.Watch.Country, conf.Watch.Sites, conf.Watch.Domains
	h.Interval, h.Guard = conf.Watch.Interval, s.guardNumbers
	var err error
	if s.set, err = probe.NewSet(probe.SetOptions{Host: h, Deliver: s.takeBuiltIn, Root: s.asRoot}); err != nil {
		return nil, err
	}
	nodes := s.nodesOf(&conf.Watch)
	if s.nodes, err = probe.NewNodes(probe.NodesOptions{Host: h, Nodes: nodes, Deliver: s.take, Newest: s.newestOf}); err != nil {
		return nil, err
	}
	if conf.Watch.MuninPlugins != "" {
		if s.plugins, err = probe.NewPlugins(probe.PluginsOptions{Do: s.runner.Do, Deliver: s.takeOfPlugins}); err != nil {
			return nil, err
		}
	}
	if s.known, err = loadCatalogue(ctx, w.store, w.log); err != nil {
		return nil, err
	}
	asked := make([]serverKey, len(nodes))
	for i := range nodes {
		asked[i] = serverKey{nodes[i].Group, nodes[i].Name}
	}
	s.known.asksOnly(asked)
	s.known.use(s.master)
	if s.keys, err = loadTokens(ctx, w.store); err != nil {
		return nil, err
	}
	if s.pages, err = s.newPages(ctx); err != nil {
		return nil, err
	}
	s.db, err = tsdb.Open(ctx, tsdb.Options{
		Dir: filepath.Join(w.dir, samplesFolder), Log: w.log, Patience: storePatience,
		Raw: conf.Retention.Samples, FiveMinutes: conf.Retention.Samples5m, Hours: conf.Retention.Samples1h,
	})
	if err != nil {
		_ = s.runner.Close()
		return nil, err
	}
	if s.alerts, err = newAlerter(ctx, s); err != nil {
		s.close()
		return nil, err
	}
	for i := range conf.Watch.Remotes {
		s.remotes = append(s.remotes, s.newRemote(&conf.Watch.Remotes[i]))
	}
	s.known.asked(s.own, "", time.Time{}, "")
	if s.people, err = s.newNotifier(ctx, host); err != nil {
		s.close()
		return nil, err
	}
	s.alerts.tell = s.people.Tell
	return s, nil
}

// nodeName is what this machine is called: as the operator says, or by its host name with what Munin would not take left out.
func nodeName(set, host string) string {
	if set != "" {
		return set
	}
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, host), "-.")
	if name == "" {
		return "localhost"
	}
	return name
}

// run reads until ctx ends.
func (s *supervisor) run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.set.Run(ctx) })
	wg.Go(func() { s.nodes.Run(ctx) })
	if s.plugins != nil {
		wg.Go(func() { s.plugins.Run(ctx) })
	}
	wg.Go(func() { s.noteNodes(ctx) })
	wg.Go(func() { _ = s.known.run(ctx) })
	wg.Go(func() { s.alerts.run(ctx) })
	wg.Go(func() { s.compare(ctx) })
	wg.Go(func() { _ = s.people.Run(ctx) })
	for _, r := range s.remotes {
		wg.Go(func() { r.run(ctx) })
	}
	if s.conf.Watch.MuninNode != "" {
		wg.Go(func() { s.beNode(ctx) })
	}
	if s.conf.Listen != "" {
		wg.Go(func() { s.serve(ctx) })
	}
	wg.Wait()
	return nil
}

// close ends what newSupervisor began.
func (s *supervisor) close() {
	_ = s.runner.Close() // it only asked
	if err := s.db.Close(); err != nil {
		s.log.Error("close the store of samples", "err", err)
	}
}

// takeBuiltIn takes what a built-in probe read.
func (s *supervisor) takeBuiltIn(readings []probe.Reading) {
	s.mu.Lock()
	for i := range readings {
		s.builtIn[readings[i].Service.Name] = true
	}
	s.mu.Unlock()
	s.take(readings)
}

// takeOfPlugins takes what Munin's plugins read, but for what a built-in probe delivers under the same name: two would write
// one curve.
func (s *supervisor) takeOfPlugins(readings []probe.Reading) {
	var ours []probe.Reading // who delivers them reads on in the slice
	s.mu.Lock()
	for _, r := range readings {
		if r.Service.Host != "" || !s.builtIn[r.Service.Name] {
			ours = append(ours, r)
		}
	}
	s.mu.Unlock()
	s.take(ours)
}

// take makes samples of what was read, and keeps them. It is called by one goroutine at a time for the built-in probes, by
// others for plugins and nodes.
func (s *supervisor) take(readings []probe.Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = s.samples[:0]
	for i := range readings {
		r, before := &readings[i], len(s.samples)
		s.samples = s.rates.Samples(s.samples, r)
		key := s.serverOf(r)
		s.alerts.take(key, s.known.take(key, r), r, s.samples[before:])
	}
	if _, err := s.db.Append(context.Background(), s.samples); err != nil {
		s.lost += uint64(len(s.samples))
		if !errors.Is(err, tsdb.ErrFull) && !errors.Is(err, tsdb.ErrOpening) { // the store tells of these itself
			s.told.say(time.Now(), func(int) { s.log.Error("samples could not be kept", "n", s.lost, "err", err) })
		}
		return
	}
	s.noteLate(s.samples)
}

// serverOf is whose reading it is.
func (s *supervisor) serverOf(r *probe.Reading) serverKey {
	key := serverKey{r.Group, r.Node}
	if key == (serverKey{}) {
		key = s.own
	}
	if r.Service.Host != "" {
		key.name = r.Service.Host
	}
	return key
}

// asRoot has the runner read a probe that only root may.
func (s *supervisor) asRoot(ctx context.Context, name string) ([]probe.Reading, time.Duration, error) {
	r, err := s.runner.Do(ctx, exec.Job{Entry: "probe/" + name, Do: "read"})
	switch {
	case errors.Is(err, exec.ErrUnreachable):
		return nil, 0, &probe.Off{Why: "only root may read it, and no runner listens at " + RunnerSocket(s.conf.Socket)}
	case err != nil:
		return nil, 0, err
	case r.Problem != "":
		return nil, 0, errors.New(r.Problem)
	}
	rs, err := probe.DecodeReadings(r.Out)
	return rs, time.Duration(r.CPU), err
}

// serve answers programs and people over the network, and tries again where it cannot.
func (s *supervisor) serve(ctx context.Context) {
	for ctx.Err() == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.conf.Listen)
		if err == nil {
			s.open.Store(true)
			err = api.ServeSamples(ctx, l, s.conf.Web.Proxies, s.handler())
			s.open.Store(false)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Error("there are no pages, and programs cannot ask over the network", "err", err)
			pause(ctx, sessionAgain)
		}
	}
}

// questions are Prometheus's, asked of our store.
func (s *supervisor) questions() *api.Samples {
	return &api.Samples{
		Version: s.w.o.Version,
		Query: func(ctx context.Context, expr string, at time.Time) (parser.Value, error) {
			return valueOf(s.db.Query(ctx, expr, at))
		},
		QueryRange: func(ctx context.Context, expr string, from, to time.Time, step time.Duration) (parser.Value, error) {
			return valueOf(s.db.QueryRange(ctx, expr, from, to, step))
		},
		Series: func(ctx context.Context, selectors [][]*labels.Matcher, from, to time.Time) ([]labels.Labels, error) {
			found, _, err := s.db.Series(ctx, selectors, from, to, 0)
			return found, asked(err)
		},
		LabelNames: func(ctx context.Context, selectors [][]*labels.Matcher, from, to time.Time) ([]string, error) {
			all, err := s.db.LabelNames(ctx, selectors, from, to)
			return all, asked(err)
		},
		LabelValues: func(ctx context.Context, name string, selectors [][]*labels.Matcher, from, to time.Time) ([]string, error) {
			all, err := s.db.LabelValues(ctx, name, selectors, from, to)
			return all, asked(err)
		},
		Last:    s.last,
		Write:   s.write,
		Metrics: s.metrics,
		Healthy: func() error {
			switch st := s.db.Stats(); {
			case st.Full:
				return api.ErrFull
			case st.Opening:
				return api.ErrNotYet
			}
			return nil
		},
		Admits: s.keys.scope,
	}
}

// last is the newest values of the series that any of the selectors matches, each once.
func (s *supervisor) last(ctx context.Context, selectors [][]*labels.Matcher) (promql.Vector, error) {
	var all promql.Vector
	seen := map[string]bool{}
	for _, m := range selectors {
		found, err := s.db.Last(ctx, m...)
		if err != nil {
			return nil, asked(err)
		}
		for _, v := range found {
			if name := v.Labels.String(); !seen[name] {
				seen[name] = true
				all = append(all, promql.Sample{Metric: v.Labels, T: v.T, F: v.V})
			}
		}
	}
	return all, nil
}

// write keeps what another program measured. What of it cannot be kept is dropped as Prometheus drops it, and told.
func (s *supervisor) write(ctx context.Context, series []remotewrite.Series) error {
	taken, err := s.db.AppendLabels(ctx, series)
	if err == nil {
		s.noteLateSeries(series)
	}
	switch {
	case errors.Is(err, tsdb.ErrFull):
		return api.ErrFull
	case err != nil:
		return asked(err)
	case taken.Dropped() > taken.Double:
		return fmt.Errorf("%w: %d of them: %s", api.ErrSamples, taken.Dropped()-taken.Double, tocsin.Printable(taken.First))
	}
	return nil
}

func valueOf(r *tsdb.Result, err error) (parser.Value, error) {
	if err != nil {
		return nil, asked(err)
	}
	return r.Value, nil
}

// asked tells whose fault an error is.
func asked(err error) error {
	switch {
	case errors.Is(err, tsdb.ErrQuery), errors.Is(err, tsdb.ErrTooMuch):
		return fmt.Errorf("%w: %w", api.ErrQuestion, err)
	case errors.Is(err, tsdb.ErrOpening):
		return fmt.Errorf("%w: %w", api.ErrNotYet, err)
	}
	return err
}

// metrics counts what the watch process does.
func (s *supervisor) metrics(_ context.Context, to io.Writer) error {
	m := api.NewMetrics(to)
	st, rates := s.db.Stats(), s.rates.Stats()
	m.Gauge("tocsin_samples_series", "Series of the last hour and a half.", float64(st.Series))
	m.Gauge("tocsin_samples_bytes", "Size of the store of samples on the disk.", float64(st.Bytes))
	m.Gauge("tocsin_samples_full", "1 while there is no room on the disk, and samples are not taken.", truth(st.Full))
	m.Counter("tocsin_samples_total", "Samples that were kept.", float64(st.Appended))
	for why, n := range map[string]int64{"double": st.Double, "too_old": st.TooOld, "too_new": st.TooNew, "bad": st.Bad, "too_many": st.TooMany, "refused": st.Refused} {
		m.Counter("tocsin_samples_dropped_total", "Samples that were not kept.", float64(n), "why", why)
	}
	m.Counter("tocsin_samples_unknown_total", "Values read of which no sample could be made.", float64(rates.Unknown))
	m.Counter("tocsin_samples_maintenance_failed_total", "Rounds of maintenance that ended in an error.", float64(st.Failed))
	for i, r := range s.remotes {
		m.Counter("tocsin_remote_sent_total", "Samples that another store took, in the order of the configuration.", float64(r.sent.Load()), "remote", strconv.Itoa(i+1))
		m.Counter("tocsin_remote_late_dropped_total", "Samples that came too late for another store, and too many at a time to be sent after the others.", float64(r.late.lost()), "remote", strconv.Itoa(i+1))
		m.Counter("tocsin_remote_refused_total", "Samples that another store will never take.", float64(r.refuse.Load()), "remote", strconv.Itoa(i+1))
	}
	for _, p := range s.set.States() {
		m.Gauge("tocsin_probe_on", "1 if a probe has something to read.", truth(p.On), "probe", p.Name)
		m.Counter("tocsin_probe_readings_total", "How often a probe was read.", float64(p.Readings), "probe", p.Name)
		m.Counter("tocsin_probe_failures_total", "How many of these failed.", float64(p.Failures), "probe", p.Name)
	}
	m.Gauge("tocsin_info", "Always 1; the version is a label.", 1, "version", s.w.o.Version)
	return m.Flush()
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
