// Package fake is AbuseIPDB for tests: a strict server of APIv2, as its documentation tells and its users found it to be.
//
// It owns accounts, quotas by endpoint and day, the 15-minute rule, bulk reports, the daily list, and faults that a test
// asks for. It keeps a record of every request, and a Violation for each that breaks what the real one, or a person whose
// data it was, would not forgive. It scores nothing: scores are what the test says. It knows nothing of the client beside
// it, so that both do not share a mistake.
//
// The one thing to know: time is Options.Now, so that days pass as fast as a test likes. Only a Slow answer waits for real.
package fake

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Window is how long a second report of an address by the same account is refused.
const Window = 15 * time.Minute

// The endpoints.
const (
	Check        = "check"
	ReportOne    = "report"
	BulkReport   = "bulk-report"
	Blacklist    = "blacklist"
	ClearAddress = "clear-address"
)

// Plan is what an account may do in a day.
type Plan struct {
	Quota         map[string]int // requests a day, by endpoint
	ListLimit     int            // longest list; longer ones are cut without a word
	AnyConfidence bool           // confidenceMinimum counts; otherwise it is ignored without a word
}

// FreePlan is the one without money.
func FreePlan() Plan {
	return Plan{Quota: map[string]int{Check: 1000, ReportOne: 1000, BulkReport: 5, Blacklist: 5, ClearAddress: 5}, ListLimit: 10_000}
}

// BasicPlan is the first that costs.
func BasicPlan() Plan {
	return Plan{Quota: map[string]int{Check: 10_000, ReportOne: 10_000, BulkReport: 100, Blacklist: 100, ClearAddress: 100}, ListLimit: 100_000, AnyConfidence: true}
}

// PremiumPlan is the largest.
func PremiumPlan() Plan {
	return Plan{Quota: map[string]int{Check: 50_000, ReportOne: 50_000, BulkReport: 500, Blacklist: 500, ClearAddress: 500}, ListLimit: 500_000, AnyConfidence: true}
}

// Account is somebody with a key. Its name is for the test's eyes.
type Account struct {
	Name, Key string
	Plan      Plan
}

// Listed is one address of the daily list.
type Listed struct {
	Addr    netip.Addr
	Country string
	Score   int
}

// Options says what the server is.
type Options struct {
	Now      func() time.Time // nil: time.Now
	Midnight time.Duration    // when a day of quotas begins, after 00:00 UTC; 0: 5 h, as the documentation's example has it
	Accounts []Account
	List     []Listed

	// Canaries are words that no request may hold, whatever their case: user names, host names, pieces of log lines. The
	// accounts' keys are canaries everywhere but in the header Key.
	Canaries []string
	// Deaths says that the test kills its client: a report that is repeated within Window is then no violation even if its
	// answer was sent, since the client may not have lived to write it down. It is refused all the same.
	Deaths bool
	// Conditional gives the list an ETag, as a hub may.
	Conditional bool
}

// Report is one that was accepted.
type Report struct {
	Account    string
	Addr       netip.Addr
	Categories []int
	Comment    string
	At         time.Time // what the client claims
	Received   time.Time
	Bulk       bool
	Cleared    bool // taken back by clear-address
}

// Request is one that came, whatever became of it.
type Request struct {
	At       time.Time
	Account  string // "" if the key is nobody's
	Method   string
	Endpoint string
	Status   int // what was answered; 0: nothing
	Fault    Kind
}

// Violation is what a client may not do.
type Violation struct {
	At       time.Time
	Endpoint string
	What     string
}

// Kind is what goes wrong.
type Kind string

// What can go wrong. All but the last four happen before the request is looked at, so that it costs no quota.
const (
	Error500   Kind = "500"           // JSON with a message
	ErrorHTML  Kind = "503 as HTML"   // as from the machine before a server that is down
	PageHTML   Kind = "200 as HTML"   // a page in place of an answer
	Busy       Kind = "429 as text"   // as from the machine before a server, for whom there are too many requests
	Suspended  Kind = "403"           // JSON
	CutBefore  Kind = "cut before"    // the connection ends and nothing is done
	CutAfter   Kind = "cut after"     // everything is done, and the connection ends without an answer
	CutHalf    Kind = "cut half"      // everything is done, and the connection ends within the answer's body
	ErrorAfter Kind = "done, but 504" // everything is done, and something between gave up waiting for the answer
	Slow       Kind = "slow"          // everything is done, and the answer waits for Delay
)

// Fault is one thing that goes wrong.
type Fault struct {
	Kind        Kind
	Endpoint    string    // "": any
	From, Until time.Time // zero: open
	Times       int       // how often; 0: always
	Delay       time.Duration
}

// Server answers like AbuseIPDB. It is an http.Handler for /api/v2/; its methods may be called while it serves.
type Server struct {
	o Options

	mu         sync.Mutex
	list       []Listed
	scores     map[netip.Addr]int // of the list
	generated  time.Time
	faults     []Fault
	used       map[usage]int
	last       map[reported]seen
	reports    []Report
	requests   []Request
	violations []Violation
}

type usage struct {
	account, endpoint string
	day               int64 // since 1970
}

type reported struct {
	account string
	addr    netip.Addr
}

// seen is the last report of an address by an account.
type seen struct {
	at       time.Time
	answered bool // the account was told that it was taken
}

// New makes a server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Midnight == 0 {
		o.Midnight = 5 * time.Hour
	}
	s := &Server{o: o, used: map[usage]int{}, last: map[reported]seen{}}
	s.SetList(o.List)
	return s
}

// SetList takes another list, from now on.
func (s *Server) SetList(list []Listed) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Listed) int { return b.Score - a.Score })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.generated, s.scores = list, s.o.Now(), map[netip.Addr]int{}
	for _, l := range list {
		s.scores[l.Addr] = l.Score
	}
}

// Inject lets something go wrong. Of several faults that fit, the first one injected happens.
func (s *Server) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = -1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
}

// UseUp spends what is left of an account's day at an endpoint, as another program with the same key would.
func (s *Server) UseUp(account, endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.o.Accounts {
		if a.Name == account {
			s.used[usage{account, endpoint, s.day(s.o.Now())}] = a.Plan.Quota[endpoint]
		}
	}
}

// Remember puts a report there as if it had been sent and answered at r.Received.
func (s *Server) Remember(r Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, r)
	s.last[reported{r.Account, r.Addr}] = seen{r.Received, true}
}

// Reports are those accepted, in their order.
func (s *Server) Reports() []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reports)
}

// Requests are all that came, in their order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Violations are what a client did that it may not, in their order. A test that is not about them wants none.
func (s *Server) Violations() []Violation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// Left is what is left of an account's day at an endpoint.
func (s *Server) Left(account, endpoint string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.o.Accounts {
		if a.Name == account {
			return a.Plan.Quota[endpoint] - s.used[usage{account, endpoint, s.day(s.o.Now())}]
		}
	}
	return 0
}

// day is the number of the day of quotas that t lies in.
func (s *Server) day(t time.Time) int64 {
	return (t.Unix() - int64(s.o.Midnight/time.Second)) / 86400
}

// reset is when the day of quotas that t lies in ends.
func (s *Server) reset(t time.Time) time.Time {
	return time.Unix((s.day(t)+1)*86400+int64(s.o.Midnight/time.Second), 0).UTC()
}

// answer is what is sent.
type answer struct {
	status int
	header map[string]string
	json   any    // what is sent, if text is empty
	text   string // of the kind that header says
}

// apiError is an error in APIv2's form.
func apiError(status int, parameter, detail string) answer {
	e := map[string]any{"detail": detail, "status": status}
	if parameter != "" {
		e["source"] = map[string]string{"parameter": parameter}
	}
	return answer{status: status, json: map[string]any{"errors": []any{e}}}
}

func granted(v any) answer { return answer{status: http.StatusOK, json: map[string]any{"data": v}} }

const htmlPage = "<!DOCTYPE html>\n<html><head><title>AbuseIPDB</title></head><body><h1>Something is wrong</h1></body></html>\n"

// maxBody is what the server reads of a request.
const maxBody = 8 << 20

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return // the client went away while it asked
	}
	a, f := s.serve(r, body)
	switch f.Kind {
	case CutBefore, CutAfter:
		panic(http.ErrAbortHandler)
	case Slow:
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		}
	}
	text := a.text
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	if text == "" && a.json != nil {
		js, err := json.Marshal(a.json)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		text = strings.ReplaceAll(string(js), "/", `\/`) // as PHP writes it
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Date", s.o.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(a.status)
	if f.Kind == CutHalf {
		io.WriteString(w, text[:len(text)/2])
		http.NewResponseController(w).Flush() // an error means that the client has less than half
		panic(http.ErrAbortHandler)
	}
	io.WriteString(w, text) // an error means that the client went away, which is its own affair
}

// serve decides what is answered, and does what was asked for.
func (s *Server) serve(r *http.Request, body []byte) (answer, Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	endpoint := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/api/v2/"), "/")
	c := &call{s: s, now: now, endpoint: endpoint, r: r}
	c.account = s.account(r)
	f := s.fault(endpoint, now)
	c.answered = !slices.Contains([]Kind{CutAfter, CutHalf, ErrorAfter, Slow}, f.Kind)
	values, file, err := parameters(r, body)
	c.values, c.csv = values, file
	c.watch(err)

	var a answer
	switch f.Kind {
	case Error500:
		a = answer{status: http.StatusInternalServerError, json: map[string]string{"message": "Server Error"}}
	case ErrorHTML:
		a = html(http.StatusServiceUnavailable)
	case PageHTML:
		a = html(http.StatusOK)
	case Busy:
		a = answer{status: http.StatusTooManyRequests, text: "error code: 1015", header: map[string]string{"Content-Type": "text/plain"}}
	case Suspended:
		a = apiError(http.StatusForbidden, "", "This account is suspended.")
	case CutBefore:
	default:
		a = c.do()
		if a.status >= 400 && !strings.Contains(r.Header.Get("Accept"), "application/json") {
			a.json, a.text = nil, htmlPage
			a.header = maps.Clone(a.header)
			if a.header == nil {
				a.header = map[string]string{}
			}
			a.header["Content-Type"] = "text/html; charset=UTF-8"
		}
	}
	if f.Kind == ErrorAfter {
		a = html(http.StatusGatewayTimeout)
	}
	q := Request{At: now, Method: r.Method, Endpoint: endpoint, Status: a.status, Fault: f.Kind}
	if c.account != nil {
		q.Account = c.account.Name
	}
	if f.Kind == CutAfter || f.Kind == CutHalf {
		q.Status = 0
	}
	s.requests = append(s.requests, q)
	return a, f
}

func html(status int) answer {
	return answer{status: status, text: htmlPage, header: map[string]string{"Content-Type": "text/html; charset=UTF-8"}}
}

// account is whose key a request brings: in its header, or else in its query.
func (s *Server) account(r *http.Request) *Account {
	key := r.Header.Get("Key")
	if key == "" {
		key = r.URL.Query().Get("key")
	}
	for i, a := range s.o.Accounts {
		if a.Key == key {
			return &s.o.Accounts[i]
		}
	}
	return nil
}

// fault is what goes wrong with a request.
func (s *Server) fault(endpoint string, now time.Time) Fault {
	for i, f := range s.faults {
		if f.Times == 0 || f.Endpoint != "" && f.Endpoint != endpoint || now.Before(f.From) || !f.Until.IsZero() && !now.Before(f.Until) {
			continue
		}
		if f.Times > 0 {
			s.faults[i].Times--
		}
		return f
	}
	return Fault{}
}

// call is one request while it is answered. The server's mutex is held.
type call struct {
	s        *Server
	now      time.Time
	endpoint string
	r        *http.Request
	account  *Account // nil: nobody's
	values   url.Values
	csv      []byte // of the part "csv"; nil: there is none
	answered bool   // the client will be told what became of it
}

func (c *call) violate(format string, args ...any) {
	c.s.violations = append(c.s.violations, Violation{c.now, c.endpoint, fmt.Sprintf(format, args...)})
}

// watch looks at a request for what no client may do. broken is what was wrong with its body.
func (c *call) watch(broken error) {
	if broken != nil {
		c.violate("the body cannot be read: %v", broken)
	}
	accept := c.r.Header.Get("Accept")
	if !strings.Contains(accept, "application/json") && !(c.endpoint == Blacklist && strings.Contains(accept, "text/plain")) {
		c.violate("Accept is %q: errors would come as HTML", accept)
	}
	if c.r.URL.Query().Has("key") {
		c.violate("the key stands in the URL")
	}
	texts := []string{c.r.URL.String(), string(c.csv)}
	for name, values := range c.r.Header {
		if name != "Key" {
			texts = append(texts, values...)
		}
	}
	for name, values := range c.values {
		texts = append(append(texts, name), values...)
	}
	all := strings.ToLower(strings.Join(texts, "\n"))
	for _, word := range c.s.o.Canaries {
		if strings.Contains(all, strings.ToLower(word)) {
			c.violate("the request holds %q", word)
		}
	}
	for _, a := range c.s.o.Accounts {
		if strings.Contains(all, strings.ToLower(a.Key)) {
			c.violate("the request holds the key of %s outside its header", a.Name)
		}
	}
}

// do answers a request that reached the server.
func (c *call) do() answer {
	if c.account == nil {
		return apiError(http.StatusUnauthorized, "", "Authentication failed. Your API key is either missing, incorrect, or revoked. Note: The APIv2 key differs from the APIv1 key.")
	}
	endpoints := map[string]struct {
		method string
		do     func() answer
	}{
		Check:        {http.MethodGet, c.check},
		ReportOne:    {http.MethodPost, c.report},
		BulkReport:   {http.MethodPost, c.bulkReport},
		Blacklist:    {http.MethodGet, c.blacklist},
		ClearAddress: {http.MethodDelete, c.clearAddress},
	}
	e, ok := endpoints[c.endpoint]
	if !ok {
		return apiError(http.StatusNotFound, "", "The requested endpoint does not exist.")
	}
	limit := c.account.Plan.Quota[c.endpoint]
	day := usage{c.account.Name, c.endpoint, c.s.day(c.now)}
	var a answer
	switch {
	case c.r.Method != e.method:
		a = apiError(http.StatusMethodNotAllowed, "", "The "+c.r.Method+" method is not supported for this endpoint. Supported methods: "+e.method+".")
	case c.s.used[day] >= limit:
		a = c.quota(limit)
	default:
		c.s.used[day]++
		a = e.do()
	}
	if a.header == nil {
		a.header = map[string]string{}
	}
	a.header["X-RateLimit-Limit"] = strconv.Itoa(limit)
	a.header["X-RateLimit-Remaining"] = strconv.Itoa(max(limit-c.s.used[day], 0))
	return a
}

// quota is the answer when the day's requests are used up.
func (c *call) quota(limit int) answer {
	reset := c.s.reset(c.now)
	a := apiError(http.StatusTooManyRequests, "", fmt.Sprintf("Daily rate limit of %d requests exceeded for this endpoint. See headers for additional details.", limit))
	wait := int64(reset.Sub(c.now).Seconds())
	a.header = map[string]string{
		"Retry-After":       strconv.FormatInt(min(max(wait, 1), 86340), 10),
		"X-RateLimit-Reset": strconv.FormatInt(reset.Unix(), 10),
	}
	return a
}

// address reads the parameter that names an address. Its error is the server's.
func (c *call) address(parameter string) (netip.Addr, *answer) {
	a, err := netip.ParseAddr(c.values.Get(parameter))
	if err != nil || a.Zone() != "" {
		e := apiError(http.StatusUnprocessableEntity, parameter, "The ip address must be a valid IPv4 or IPv6 address (e.g. 8.8.8.8 or 2001:4860:4860::8888).")
		return a, &e
	}
	return a.Unmap(), nil
}

func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

func (c *call) check() answer {
	addr, refused := c.address("ipAddress")
	if refused != nil {
		return *refused
	}
	days := 30
	if text := c.values.Get("maxAgeInDays"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 365 {
			return apiError(http.StatusUnprocessableEntity, "maxAgeInDays", "The max age in days must be between 1 and 365.")
		}
		days = n
	}
	who := map[string]bool{}
	rows := []any{}
	var last any
	for _, r := range slices.Backward(c.s.reports) {
		if r.Addr != addr || r.Cleared || r.At.Before(c.now.AddDate(0, 0, -days)) {
			continue
		}
		who[r.Account] = true
		if last == nil {
			last = stamp(r.At)
		}
		rows = append(rows, map[string]any{"reportedAt": stamp(r.At), "comment": r.Comment, "categories": r.Categories,
			"reporterId": 1, "reporterCountryCode": nil, "reporterCountryName": nil})
	}
	version := 4
	if addr.Is6() {
		version = 6
	}
	d := map[string]any{
		"ipAddress": addr.String(), "isPublic": public(addr), "ipVersion": version, "isWhitelisted": nil,
		"abuseConfidenceScore": c.score(addr), "countryCode": nil, "usageType": nil, "isp": nil, "domain": nil,
		"hostnames": []string{}, "isTor": false, "totalReports": len(rows), "numDistinctUsers": len(who), "lastReportedAt": last,
	}
	if !public(addr) {
		d["usageType"], d["isWhitelisted"] = "Reserved", false
	}
	if c.values.Has("verbose") {
		d["reports"], d["countryName"] = rows, nil
	}
	return granted(d)
}

// score is what the list says, and 0 for an address that is nobody's.
func (c *call) score(addr netip.Addr) int {
	if !public(addr) {
		return 0
	}
	return c.s.scores[addr]
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }

// generatedAt is when the list was made: once a day, and when it was set.
func (c *call) generatedAt() time.Time {
	if day := c.s.reset(c.now).Add(-24 * time.Hour); day.After(c.s.generated) {
		return day
	}
	return c.s.generated
}

func (c *call) blacklist() answer {
	plan := c.account.Plan
	limit := min(10_000, plan.ListLimit)
	if text := c.values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return apiError(http.StatusUnprocessableEntity, "limit", "The limit must be at least 1.")
		}
		limit = min(n, plan.ListLimit)
	}
	confidence := 100
	if text := c.values.Get("confidenceMinimum"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 25 || n > 100 {
			return apiError(http.StatusUnprocessableEntity, "confidenceMinimum", "The confidence minimum must be between 25 and 100.")
		}
		if plan.AnyConfidence {
			confidence = n
		}
	}
	only, except := countries(c.values, "onlyCountries"), countries(c.values, "exceptCountries")
	if len(only) > 0 && len(except) > 0 {
		return apiError(http.StatusUnprocessableEntity, "onlyCountries", "The only countries field and the except countries field cannot be used together.")
	}
	version := c.values.Get("ipVersion")
	if version != "" && version != "4" && version != "6" {
		return apiError(http.StatusUnprocessableEntity, "ipVersion", "The selected ip version is invalid.")
	}
	var list []Listed
	for _, l := range c.s.list {
		switch {
		case len(list) == limit, l.Score < confidence,
			version == "4" && l.Addr.Is6(), version == "6" && l.Addr.Is4(),
			plan.AnyConfidence && len(only) > 0 && !slices.Contains(only, l.Country),
			plan.AnyConfidence && slices.Contains(except, l.Country):
			continue
		}
		list = append(list, l)
	}
	return c.listAnswer(list)
}

// listAnswer puts a list into the form that was asked for.
func (c *call) listAnswer(list []Listed) answer {
	at := c.generatedAt()
	header := map[string]string{}
	if c.s.o.Conditional {
		header["ETag"] = fmt.Sprintf(`"%d-%d"`, at.Unix(), len(list))
		if c.r.Header.Get("If-None-Match") == header["ETag"] {
			return answer{status: http.StatusNotModified, header: header}
		}
	}
	if c.values.Has("plaintext") || strings.HasPrefix(c.r.Header.Get("Accept"), "text/plain") {
		header["Content-Type"], header["X-Generated-At"] = "text/plain; charset=UTF-8", stamp(at)
		var b strings.Builder
		for _, l := range list {
			b.WriteString(l.Addr.String() + "\n")
		}
		return answer{status: http.StatusOK, header: header, text: b.String()}
	}
	rows := []any{}
	for _, l := range list {
		rows = append(rows, map[string]any{"ipAddress": l.Addr.String(), "countryCode": l.Country, "abuseConfidenceScore": l.Score, "lastReportedAt": stamp(at.Add(-time.Hour))})
	}
	return answer{status: http.StatusOK, header: header, json: map[string]any{"meta": map[string]string{"generatedAt": stamp(at)}, "data": rows}}
}

// countries reads a list of countries, "FR,DE" or several parameters name[0], name[1].
func countries(values url.Values, name string) []string {
	var all []string
	for key, vs := range values {
		if key != name && !strings.HasPrefix(key, name+"[") {
			continue
		}
		for _, v := range vs {
			for word := range strings.SplitSeq(v, ",") {
				if word != "" {
					all = append(all, word)
				}
			}
		}
	}
	return all
}

func (c *call) clearAddress() answer {
	addr, refused := c.address("ipAddress")
	if refused != nil {
		return *refused
	}
	n := 0
	for i, r := range c.s.reports {
		if r.Account == c.account.Name && r.Addr == addr && !r.Cleared {
			c.s.reports[i].Cleared = true
			n++
		}
	}
	return granted(map[string]int{"numReportsDeleted": n})
}
