package probe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tocsin/internal/exec"
	"tocsin/internal/munin"
)

// Times of plugins.
const (
	pluginInterval = time.Minute
	pluginsAgain   = 5 * time.Minute  // between two looks at what plugins there are
	runnerAgain    = 10 * time.Second // the same where the runner could not be asked
	describeAgain  = time.Hour        // between two descriptions of a plugin that prints no values with them
	describeSoon   = 5 * time.Minute  // the same if values do not fit
	pluginLongest  = 25 * time.Minute // for one turn: waiting, and a description and values as long as the runner lets them be
)

// Bounds of plugins.
const (
	pluginsAtOnce = 8
	maxPlugins    = 2000
)

// PluginsOptions are what Plugins needs.
type PluginsOptions struct {
	// Do asks the runner.
	Do func(context.Context, exec.Job) (exec.Result, error)
	// Deliver takes what was read, one call at a time. Everything waits for it, so it should only hand on.
	Deliver  func([]Reading)
	Interval time.Duration // 0: a minute; a plugin with a longer update_rate comes as often as that says
}

// Plugins runs Munin's plugins through the runner, each in its turns.
type Plugins struct {
	o     PluginsOptions
	slots chan struct{}

	handing sync.Mutex // held while Deliver runs

	mu       sync.Mutex
	running  map[string]*plugin
	problems []string // of the whole, as the runner told
	err      error    // why the runner cannot tell what plugins there are; nil if it can
}

// plugin is one plugin and what is known of it. All but the state and the rate belongs to the turn that is being taken.
type plugin struct {
	turns
	p    *Plugins
	stop context.CancelFunc
	rate atomic.Int64 // update_rate, 0 for none
	conf atomic.Int64 // the same of plugin-conf.d

	described time.Time                 // when services were told last
	dirty     bool                      // the description comes with the values: they are not asked for
	unfit     bool                      // some value fitted no service
	services  map[string]*munin.Service // as described
	texted    texted
	order     []string
}

// NewPlugins checks the options. It asks nothing yet.
func NewPlugins(o PluginsOptions) (*Plugins, error) {
	if o.Interval == 0 {
		o.Interval = pluginInterval
	}
	switch {
	case o.Do == nil || o.Deliver == nil:
		return nil, errors.New("plugins need a runner, and somebody to deliver to")
	case o.Interval < time.Second || o.Interval > time.Hour:
		return nil, errors.New("the interval of plugins is not within 1s and 1h")
	}
	return &Plugins{o: o, slots: make(chan struct{}, pluginsAtOnce), running: map[string]*plugin{}}, nil
}

// Run runs the plugins until ctx ends. Which ones there are is looked up every five minutes.
func (p *Plugins) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		again := pluginsAgain
		if err := p.look(ctx, &all); err != nil {
			again = runnerAgain
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}

// look asks what plugins there are, begins the new ones and ends those that are gone.
func (p *Plugins) look(ctx context.Context, all *sync.WaitGroup) error {
	list, err := p.list(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err = err; err != nil {
		return err
	}
	p.problems = list.Problems
	if len(list.Plugins) > maxPlugins {
		p.problems = append(p.problems, fmt.Sprintf("there are %d plugins; %d are run", len(list.Plugins), maxPlugins))
		list.Plugins = list.Plugins[:maxPlugins]
	}
	there := map[string]bool{}
	for _, one := range list.Plugins {
		there[one.Name] = true
		t := p.running[one.Name]
		if t == nil {
			t = p.begin(ctx, one.Name, all)
		}
		t.conf.Store(int64(one.Rate))
	}
	for name, t := range p.running {
		if !there[name] {
			t.stop()
			delete(p.running, name)
		}
	}
	return nil
}

func (p *Plugins) list(ctx context.Context) (PluginList, error) {
	result, err := p.o.Do(ctx, exec.Job{Entry: "munin", Do: "list"})
	if err == nil && result.Problem != "" {
		err = errors.New(result.Problem)
	}
	if err != nil {
		return PluginList{}, err
	}
	return DecodePlugins(result.Out)
}

func (p *Plugins) begin(ctx context.Context, name string, all *sync.WaitGroup) *plugin {
	ctx, stop := context.WithCancel(ctx)
	t := &plugin{p: p, stop: stop, turns: turns{
		name: name, interval: p.o.Interval, timeout: pluginLongest, elsewhere: true,
		state: State{Name: name, Interval: p.o.Interval},
	}}
	t.take, t.every = t.look, t.due
	p.running[name] = t
	all.Go(func() {
		defer stop()
		t.run(ctx, p.hand)
	})
	return t
}

func (p *Plugins) hand(rs []Reading) {
	p.handing.Lock()
	defer p.handing.Unlock()
	p.o.Deliver(rs)
}

// due is how often the plugin's turn comes.
func (t *plugin) due() time.Duration {
	rate := t.conf.Load()
	if rate == 0 {
		rate = t.rate.Load()
	}
	return max(t.p.o.Interval, time.Duration(rate))
}

// look takes one turn: the values, and the description where it is time for that.
func (t *plugin) look(ctx context.Context) ([]Reading, error) {
	select {
	case t.p.slots <- struct{}{}:
		defer func() { <-t.p.slots }()
	case <-ctx.Done():
		return nil, errors.New("it waited too long for its turn: the others take all the time")
	}
	old := time.Since(t.described)
	if t.services == nil || t.dirty || old >= describeAgain || t.unfit && old >= describeSoon {
		values, at, since, err := t.describe(ctx)
		if err != nil || t.dirty {
			return t.readings(values, nil, at, since), err
		}
	}
	at, since := time.Now(), Boot()
	text, err := t.ask(ctx, "fetch")
	if err != nil {
		return nil, err
	}
	a := munin.ParseFetch(t.name, text)
	rs := t.readings(a.Values, a.Extinfo, at, since)
	if len(rs) == 0 {
		return nil, errors.New("it printed no value that fits its description" + first(a.Problems))
	}
	return rs, nil
}

// describe asks for the description, and takes the values that come with it.
func (t *plugin) describe(ctx context.Context) (values []munin.Value, at time.Time, since time.Duration, err error) {
	at, since = time.Now(), Boot()
	text, err := t.ask(ctx, "config")
	if err != nil {
		return nil, at, since, err
	}
	a := munin.ParseConfig(t.name, text)
	if len(a.Services) == 0 {
		return nil, at, since, errors.New("it printed no description" + first(a.Problems))
	}
	old := t.services
	t.services, t.order = map[string]*munin.Service{}, nil
	t.described, t.unfit, t.dirty = time.Now(), false, len(a.Values) > 0
	rate := time.Duration(0)
	for i := range a.Services {
		s := &a.Services[i]
		if was := old[s.Name]; was != nil && was.Host == s.Host && was.Same(s) {
			s = was // so that whoever holds the old one need not compare
		}
		if t.services[s.Name] == nil {
			t.order = append(t.order, s.Name)
		}
		t.services[s.Name] = s
		if text, ok := s.Get("update_rate"); ok {
			if d, ok := munin.ParseUpdateRate(text); ok && (rate == 0 || d < rate) {
				rate = d
			}
		}
	}
	t.rate.Store(int64(min(rate, 24*time.Hour)))
	maps.DeleteFunc(t.texted, func(name string, _ *munin.Service) bool { return t.services[name] == nil })
	return a.Values, at, since, nil
}

// ask has the plugin run.
func (t *plugin) ask(ctx context.Context, do string) ([]byte, error) {
	result, err := t.p.o.Do(ctx, exec.Job{Entry: "munin/" + t.name, Do: do})
	t.spent.Add(result.CPU)
	if err == nil && !result.OK() {
		err = fmt.Errorf("%s: %s", do, result.Problem)
	}
	if err != nil {
		return nil, err
	}
	return UnpackText(result.Out)
}

// readings sorts values by their services, in the order in which those were described. Values that fit none are left out.
func (t *plugin) readings(values []munin.Value, texts []munin.Extinfo, at time.Time, since time.Duration) (rs []Reading) {
	of := map[string][]munin.Value{}
	for _, v := range values {
		if s := t.services[v.Service]; s == nil || s.Field(v.Field) == nil {
			t.unfit = true
			continue
		}
		of[v.Service] = append(of[v.Service], v)
	}
	for _, name := range t.order {
		if len(of[name]) > 0 {
			rs = append(rs, Reading{Service: t.texted.with(t.services[name], texts), At: at, Since: since, Values: of[name]})
		}
	}
	return rs
}

// texted are the services that had texts with their values, with these, by name.
type texted map[string]*munin.Service

// with is s with those of the texts that are its own: the same as before if nothing has changed.
func (t *texted) with(s *munin.Service, texts []munin.Extinfo) *munin.Service {
	own := withTexts(s, texts)
	if own == s {
		return s
	}
	if was := (*t)[s.Name]; was != nil && was.Host == own.Host && was.Same(own) {
		return was
	}
	if *t == nil {
		*t = texted{}
	}
	(*t)[s.Name] = own
	return own
}

// withTexts is s with the texts in the place of those that its fields had, which is s itself if they are the same.
func withTexts(s *munin.Service, texts []munin.Extinfo) *munin.Service {
	own := s
	for _, x := range texts {
		f := own.Field(x.Field)
		if x.Service != s.Name || f == nil {
			continue
		}
		if was, _ := f.Get("extinfo"); was == x.Text {
			continue
		}
		if own == s { // what was handed on is not changed
			own = new(munin.Service)
			*own = *s
			own.Fields = slices.Clone(s.Fields)
			f = own.Field(x.Field)
		}
		f.Attrs = slices.DeleteFunc(slices.Clone(f.Attrs), func(a munin.Attr) bool { return a.Name == "extinfo" })
		f.Attrs = append(f.Attrs, munin.Attr{Name: "extinfo", Value: x.Text})
	}
	return own
}

// first is the first problem, for a message.
func first(problems []munin.Problem) string {
	if len(problems) == 0 {
		return ""
	}
	return " (" + problems[0].String() + ")"
}

// States says how each plugin does, by name. err is why nobody knows what plugins there are, problems what is wrong with
// how they are to be run.
func (p *Plugins) States() (states []State, problems []string, err error) {
	p.mu.Lock()
	running := make([]*plugin, 0, len(p.running))
	for _, t := range p.running {
		running = append(running, t)
	}
	problems, err = slices.Clone(p.problems), p.err
	p.mu.Unlock()
	for _, t := range running {
		s := t.State()
		s.Services = slices.Clone(s.Services)
		states = append(states, s)
	}
	slices.SortFunc(states, func(a, b State) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return states, problems, err
}
