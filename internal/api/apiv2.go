package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin/internal/abuseipdb"
)

// This file serves APIv2, the language of AbuseIPDB, for a hub (https://docs.abuseipdb.com). What clients send is read in
// apiv2params.go. Answers have the fields, the words and the headers that published clients look for, and no other fields at
// the places that strict ones decode.

// The endpoints of APIv2.
const (
	EndpointCheck     = "check"
	EndpointReports   = "reports"
	EndpointBlock     = "check-block"
	EndpointBlacklist = "blacklist"
	EndpointReport    = "report"
	EndpointBulk      = "bulk-report"
	EndpointClear     = "clear-address"
)

// HubEndpoints are all endpoints of APIv2.
var HubEndpoints = []string{EndpointCheck, EndpointReports, EndpointBlock, EndpointBlacklist, EndpointReport, EndpointBulk, EndpointClear}

// Bounds of what is asked and answered.
const (
	maxHubBody      = 64 << 10
	maxBulkCSV      = 2_000_000
	maxBulkBody     = maxBulkCSV + 64<<10
	maxBulkLines    = 10_000
	maxBulkAtOnce   = 4 // bulk reports that are held in memory
	maxVerbose      = 10_000
	maxHubRetry     = 86_340 // seconds; a client sleeps for ever where it is told more
	hubReadTime     = 30 * time.Second
	hubWriteTime    = 2 * time.Minute
	maxHubConns     = 4096
	widestBlock     = 16
	widestBlock6    = 48
	defaultListSize = 10_000
)

// HubPlan is what a key may ask.
type HubPlan struct {
	Quota         map[string]int // requests a day, by endpoint
	ListLimit     int            // longest blacklist; longer ones are cut
	AnyConfidence bool           // confidenceMinimum counts; otherwise it is ignored without a word
	BlockBits     int            // the widest IPv4 network of check-block
	BlockDays     int            // how far back it looks
}

// HubMember is who asks.
type HubMember struct {
	ID           uint32
	Plan         *HubPlan
	Read, Report bool // what its key is good for
}

// HubSpent is what is left of a day behind a request.
type HubSpent struct {
	Limit, Left int
	Refused     bool // there was nothing left
	Reset       time.Time
}

// HubCheck is what a hub knows of an address.
type HubCheck struct {
	Score             int
	Whitelisted       bool
	Country, Land     string // two letters and a name, "" if unknown
	Reports, Distinct int
	Last              time.Time // zero: never
}

// HubTold is a report as others may read it.
type HubTold struct {
	At            time.Time
	Comment       string
	Categories    []int
	Reporter      uint32 // a pseudonym
	Country, Land string // of the reporter
}

// HubListed is an address of the blacklist or of a network.
type HubListed struct {
	Addr    netip.Addr
	Country string
	Score   int
	Reports int // of a network only
	Last    time.Time
}

// HubListQuery asks for the blacklist.
type HubListQuery struct {
	Least        int // score
	Limit        int
	Version      int // 4 or 6; 0: both
	Only, Except []string
}

// HubReport is one report that came in.
type HubReport struct {
	Addr       netip.Addr
	Categories []int
	Comment    string
	At         time.Time // zero: now
}

// HubOperations are what the handlers of a hub call. Every field must be set but URL.
type HubOperations struct {
	URL       string // of the hub as its clients see it, for links to other pages; "": as they ask
	Now       func() time.Time
	Down      func() error // why nothing can be answered; nil: it can
	Who       func(key string) *HubMember
	Spend     func(m *HubMember, endpoint string) HubSpent
	Left      func(m *HubMember, endpoint string) HubSpent
	Check     func(a netip.Addr, since time.Time) (HubCheck, error)
	Reports   func(a netip.Addr, since time.Time, limit, offset int) (page []HubTold, total int, err error)
	Block     func(p netip.Prefix, since time.Time) ([]HubListed, error)
	Blacklist func(HubListQuery) (list []HubListed, made time.Time, err error)
	// Report keeps reports and says which of them are duplicates. They are on the disk when it returns.
	Report func(m *HubMember, reports []HubReport) (duplicate []bool, err error)
	Clear  func(m *HubMember, a netip.Addr) (int, error)
}

// apiError is an answer that grants nothing.
type apiError struct {
	status            int
	parameter, detail string
}

func (e *apiError) Error() string { return e.detail }

func refuse(status int, parameter, detail string, args ...any) error {
	if len(args) > 0 {
		detail = fmt.Sprintf(detail, args...)
	}
	return &apiError{status, parameter, detail}
}

const unprocessable = http.StatusUnprocessableEntity

type apiv2 struct {
	op   HubOperations
	bulk chan struct{}
}

// hubCall is one request that is being answered.
type hubCall struct {
	*apiv2
	w      http.ResponseWriter
	r      *http.Request
	member *HubMember
	params
}

type hubEndpoint struct {
	method  string
	report  bool // it needs a key that may report
	maxBody int64
	do      func(*hubCall) (any, error) // nil and nil: it has answered
}

var hubEndpoints = map[string]hubEndpoint{
	EndpointCheck:     {http.MethodGet, false, maxHubBody, (*hubCall).check},
	EndpointReports:   {http.MethodGet, false, maxHubBody, (*hubCall).reports},
	EndpointBlock:     {http.MethodGet, false, maxHubBody, (*hubCall).block},
	EndpointBlacklist: {http.MethodGet, false, maxHubBody, (*hubCall).blacklist},
	EndpointReport:    {http.MethodPost, true, maxHubBody, (*hubCall).report},
	EndpointBulk:      {http.MethodPost, true, maxBulkBody, (*hubCall).bulkReport},
	EndpointClear:     {http.MethodDelete, true, maxHubBody, (*hubCall).clear},
}

// HubHandler serves APIv2 under /api/v2/.
func HubHandler(op HubOperations) http.Handler {
	a := &apiv2{op: op, bulk: make(chan struct{}, maxBulkAtOnce)}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v2/", a.serve)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { hubAnswer(w, nil, noEndpoint()) })
	return mux
}

func noEndpoint() error {
	return refuse(http.StatusNotFound, "", "The requested endpoint does not exist.")
}

// ServeHub answers clients on l until ctx ends. They are strangers: connections, headers and times are bounded.
func ServeHub(ctx context.Context, l net.Listener, h http.Handler) error {
	return serveUntil(ctx, &limited{Listener: l, slots: make(chan struct{}, maxHubConns)}, &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       hubReadTime,
		WriteTimeout:      hubWriteTime,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          silent(),
	})
}

func (a *apiv2) serve(w http.ResponseWriter, r *http.Request) {
	v, err := a.answer(w, r)
	if v != nil || err != nil {
		hubAnswer(w, v, err)
	}
}

func (a *apiv2) answer(w http.ResponseWriter, r *http.Request) (any, error) {
	if err := a.op.Down(); err != nil {
		return nil, err
	}
	member := a.op.Who(cmp.Or(r.Header.Get("Key"), r.URL.Query().Get("key")))
	if member == nil {
		return nil, refuse(http.StatusUnauthorized, "", "Authentication failed. Your API key is either missing, incorrect, or revoked. Note: The APIv2 key differs from the APIv1 key.")
	}
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/api/v2/"), "/")
	e, ok := hubEndpoints[name]
	if !ok {
		return nil, noEndpoint()
	}
	c := &hubCall{apiv2: a, w: w, r: r, member: member}
	if r.Method != e.method && !(e.method == http.MethodGet && r.Method == http.MethodHead) {
		c.tell(a.op.Left(member, name))
		w.Header().Set("Allow", e.method)
		return nil, refuse(http.StatusMethodNotAllowed, "", "The %s method is not supported for this endpoint. Supported methods: %s.", r.Method, e.method)
	}
	if e.report && !member.Report || !e.report && !member.Read {
		c.tell(a.op.Left(member, name))
		return nil, refuse(http.StatusForbidden, "", "This API key is not good for this endpoint: ask the hub's people for another one.")
	}
	spent := a.op.Spend(member, name)
	c.tell(spent)
	if spent.Refused {
		wait := int64(spent.Reset.Sub(a.op.Now()).Seconds())
		w.Header().Set("Retry-After", strconv.FormatInt(min(max(wait, 1), maxHubRetry), 10))
		w.Header()["X-RateLimit-Reset"] = []string{strconv.FormatInt(spent.Reset.Unix(), 10)}
		return nil, refuse(http.StatusTooManyRequests, "", "Daily rate limit of %d requests exceeded for this endpoint. See headers for additional details.", spent.Limit)
	}
	if name == EndpointBulk {
		select {
		case a.bulk <- struct{}{}:
			defer func() { <-a.bulk }()
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, e.maxBody))
	if err != nil {
		if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
			return nil, refuse(http.StatusRequestEntityTooLarge, "", "The request may not be greater than %d bytes.", e.maxBody)
		}
		return nil, refuse(http.StatusBadRequest, "", "The request ended before it was complete.")
	}
	if c.params, err = readParams(r, body, name == EndpointBulk); err != nil {
		return nil, err
	}
	return e.do(c)
}

func (c *hubCall) tell(s HubSpent) {
	// Written as AbuseIPDB does, for scripts that look for the very letters.
	c.w.Header()["X-RateLimit-Limit"] = []string{strconv.Itoa(s.Limit)}
	c.w.Header()["X-RateLimit-Remaining"] = []string{strconv.Itoa(s.Left)}
}

// hubAnswer writes data, or an error. It is JSON also for who did not ask for it.
func hubAnswer(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	body := any(map[string]any{"data": v})
	if err != nil {
		e, ok := errors.AsType[*apiError](err)
		if !ok {
			e = &apiError{http.StatusServiceUnavailable, "", "The server cannot answer now. Please try again later."}
		}
		status = e.status
		body = map[string]any{"errors": []any{map[string]any{"detail": e.detail, "status": e.status, "source": map[string]string{"parameter": e.parameter}}}}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client is gone; there is nobody to tell
}

// hubTime is how a time is answered: one published client dies of any other form.
func hubTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }

func maybe(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func maybeTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return maybe(hubTime(t))
}

type wireHubCheck struct {
	IPAddress            string   `json:"ipAddress"`
	IsPublic             bool     `json:"isPublic"`
	IPVersion            int      `json:"ipVersion"`
	IsWhitelisted        bool     `json:"isWhitelisted"`
	AbuseConfidenceScore int      `json:"abuseConfidenceScore"`
	CountryCode          *string  `json:"countryCode"`
	UsageType            *string  `json:"usageType"`
	ISP                  *string  `json:"isp"`
	Domain               *string  `json:"domain"`
	Hostnames            []string `json:"hostnames"`
	IsTor                bool     `json:"isTor"`
	TotalReports         int      `json:"totalReports"`
	NumDistinctUsers     int      `json:"numDistinctUsers"`
	LastReportedAt       *string  `json:"lastReportedAt"`
}

type wireHubVerbose struct {
	wireHubCheck
	CountryName *string       `json:"countryName"`
	Reports     []wireHubTold `json:"reports"`
}

type wireHubTold struct {
	ReportedAt          string  `json:"reportedAt"`
	Comment             string  `json:"comment"`
	Categories          []int   `json:"categories"`
	ReporterID          uint32  `json:"reporterId"`
	ReporterCountryCode *string `json:"reporterCountryCode"`
	ReporterCountryName *string `json:"reporterCountryName"`
}

func toldOf(page []HubTold) []wireHubTold {
	all := make([]wireHubTold, len(page))
	for i, r := range page {
		all[i] = wireHubTold{hubTime(r.At), r.Comment, r.Categories, r.Reporter, maybe(r.Country), maybe(r.Land)}
	}
	return all
}

func (c *hubCall) check() (any, error) {
	addr, err := c.address("ipAddress")
	if err != nil {
		return nil, err
	}
	days, err := c.days()
	if err != nil {
		return nil, err
	}
	since := c.op.Now().AddDate(0, 0, -days)
	k, err := c.op.Check(addr, since)
	if err != nil {
		return nil, err
	}
	d := wireHubCheck{IPAddress: addr.String(), IsPublic: IsPublic(addr), IPVersion: version(addr), IsWhitelisted: k.Whitelisted, AbuseConfidenceScore: k.Score,
		CountryCode: maybe(k.Country), Hostnames: []string{}, TotalReports: k.Reports, NumDistinctUsers: k.Distinct, LastReportedAt: maybeTime(k.Last)}
	if !d.IsPublic {
		d.UsageType = maybe("Reserved")
	}
	if addr.IsLoopback() {
		d.Hostnames = []string{"localhost"}
	}
	if !c.has("verbose") {
		return d, nil
	}
	page, _, err := c.op.Reports(addr, since, maxVerbose, 0)
	return wireHubVerbose{d, maybe(k.Land), toldOf(page)}, err
}

func version(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

func (c *hubCall) reports() (any, error) {
	addr, err := c.address("ipAddress")
	if err != nil {
		return nil, err
	}
	days, err := c.days()
	if err != nil {
		return nil, err
	}
	page, err := c.number("page", 1, 1, 1_000_000, "The page must be at least 1.")
	if err != nil {
		return nil, err
	}
	per, err := c.number("perPage", 25, 1, 100, "The per page must be between 1 and 100.")
	if err != nil {
		return nil, err
	}
	rows, total, err := c.op.Reports(addr, c.op.Now().AddDate(0, 0, -days), per, (page-1)*per)
	if err != nil {
		return nil, err
	}
	last := max(1, (total+per-1)/per)
	link := func(page int) *string {
		if page < 1 || page > last {
			return nil
		}
		q := url.Values{"ipAddress": {addr.String()}, "maxAgeInDays": {strconv.Itoa(days)}, "perPage": {strconv.Itoa(per)}, "page": {strconv.Itoa(page)}}
		return maybe(c.base() + "/api/v2/reports?" + q.Encode())
	}
	return struct {
		Total           int           `json:"total"`
		Page            int           `json:"page"`
		Count           int           `json:"count"`
		PerPage         int           `json:"perPage"`
		LastPage        int           `json:"lastPage"`
		NextPageURL     *string       `json:"nextPageUrl"`
		PreviousPageURL *string       `json:"previousPageUrl"`
		Results         []wireHubTold `json:"results"`
	}{total, page, len(rows), per, last, link(page + 1), link(min(page, last+1) - 1), toldOf(rows)}, nil
}

// base is the beginning of links.
func (c *hubCall) base() string {
	if c.op.URL != "" {
		return strings.TrimRight(c.op.URL, "/")
	}
	if c.r.TLS != nil {
		return "https://" + c.r.Host
	}
	return "http://" + c.r.Host
}

func (c *hubCall) block() (any, error) {
	p, err := netip.ParsePrefix(c.get("network"))
	if err != nil || p.Addr().Is4In6() {
		return nil, refuse(unprocessable, "network", "The network must be a valid IPv4 or IPv6 network in CIDR notation (e.g. 127.0.0.1/24).")
	}
	days, err := c.days()
	if err != nil {
		return nil, err
	}
	p = p.Masked()
	plan := c.member.Plan
	switch {
	case p.Addr().Is4() && p.Bits() < widestBlock:
		return nil, refuse(unprocessable, "network", "Cannot accept bitmask wider than 255.255.0.0 (/16).")
	case p.Addr().Is6() && p.Bits() < widestBlock6:
		return nil, refuse(unprocessable, "network", "Cannot accept bitmask wider than ffff:ffff:ffff:: (/48).")
	case p.Addr().Is4() && p.Bits() < plan.BlockBits:
		return nil, refuse(http.StatusPaymentRequired, "network", "This API key may ask for networks of /%d and narrower.", plan.BlockBits)
	case days > plan.BlockDays:
		return nil, refuse(http.StatusPaymentRequired, "maxAgeInDays", "This API key may ask for the last %d days of a network.", plan.BlockDays)
	}
	found, err := c.op.Block(p, c.op.Now().AddDate(0, 0, -days))
	if err != nil {
		return nil, err
	}
	type reported struct {
		IPAddress            string  `json:"ipAddress"`
		NumReports           int     `json:"numReports"`
		MostRecentReport     string  `json:"mostRecentReport"`
		AbuseConfidenceScore int     `json:"abuseConfidenceScore"`
		CountryCode          *string `json:"countryCode"`
	}
	all := make([]reported, len(found))
	for i, f := range found {
		all[i] = reported{f.Addr.String(), f.Reports, hubTime(f.Last), f.Score, maybe(f.Country)}
	}
	first, last, hosts := hostsOf(p)
	return struct {
		NetworkAddress   string     `json:"networkAddress"`
		Netmask          string     `json:"netmask"`
		MinAddress       string     `json:"minAddress"`
		MaxAddress       string     `json:"maxAddress"`
		NumPossibleHosts float64    `json:"numPossibleHosts"` // a network of IPv6 has more than an integer holds
		AddressSpaceDesc string     `json:"addressSpaceDesc"`
		ReportedAddress  []reported `json:"reportedAddress"`
	}{p.Addr().String(), netmask(p), first.String(), last.String(), hosts, SpaceOf(p.Addr()), all}, nil
}

func (c *hubCall) blacklist() (any, error) {
	plan := c.member.Plan
	limit, err := c.number("limit", min(defaultListSize, plan.ListLimit), 1, 1<<31, "The limit must be at least 1.")
	if err != nil {
		return nil, err
	}
	q := HubListQuery{Least: 100, Limit: min(limit, plan.ListLimit), Only: c.countries("onlyCountries"), Except: c.countries("exceptCountries")}
	least, err := c.number("confidenceMinimum", 100, 25, 100, "The confidence minimum must be between 25 and 100.")
	if err != nil {
		return nil, err
	}
	if plan.AnyConfidence {
		q.Least = least
	}
	if len(q.Only) > 0 && len(q.Except) > 0 {
		return nil, refuse(unprocessable, "onlyCountries", "The only countries field and the except countries field cannot be used together.")
	}
	switch v := c.get("ipVersion"); v {
	case "":
	case "4", "6":
		q.Version = int(v[0] - '0')
	default:
		return nil, refuse(unprocessable, "ipVersion", "The selected ip version is invalid.")
	}
	list, made, err := c.op.Blacklist(q)
	if err != nil {
		return nil, err
	}
	c.w.Header().Set("Cache-Control", "private")
	if c.has("plaintext") || strings.HasPrefix(c.r.Header.Get("Accept"), "text/plain") {
		c.w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		c.w.Header().Set("X-Generated-At", hubTime(made))
		c.writeText(list)
		return nil, nil
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.writeList(list, made)
	return nil, nil
}

const listChunk = 32 << 10

func (c *hubCall) writeText(list []HubListed) {
	text := make([]byte, 0, listChunk+64)
	for i := range list {
		text = append(list[i].Addr.AppendTo(text), '\n')
		if len(text) >= listChunk {
			if _, err := c.w.Write(text); err != nil {
				return
			}
			text = text[:0]
		}
	}
	_, _ = c.w.Write(text) // the client is gone; there is nobody to tell
}

// writeList writes by hand: there may be half a million.
func (c *hubCall) writeList(list []HubListed, made time.Time) {
	text := make([]byte, 0, listChunk+256)
	text = append(text, `{"meta":{"generatedAt":"`+hubTime(made)+`"},"data":[`...)
	for i := range list {
		l := &list[i]
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, `{"ipAddress":"`...)
		text = l.Addr.AppendTo(text)
		text = append(text, `","countryCode":"`...)
		text = append(text, l.Country...)
		text = append(text, `","abuseConfidenceScore":`...)
		text = strconv.AppendInt(text, int64(l.Score), 10)
		text = append(text, `,"lastReportedAt":"`...)
		text = l.Last.UTC().AppendFormat(text, "2006-01-02T15:04:05+00:00")
		text = append(text, `"}`...)
		if len(text) >= listChunk {
			if _, err := c.w.Write(text); err != nil {
				return
			}
			text = text[:0]
		}
	}
	_, _ = c.w.Write(append(text, "]}"...)) // the client is gone; there is nobody to tell
}

func (c *hubCall) report() (any, error) {
	addr, err := c.address("ip")
	if err != nil {
		return nil, err
	}
	ids, ok := categoriesOf(c.get("categories"))
	if !ok {
		return nil, refuse(unprocessable, "categories", "The categories must be 1 to 30 numbers from https://www.abuseipdb.com/categories, with commas between.")
	}
	r := HubReport{Addr: addr, Categories: ids, Comment: CutComment(c.get("comment"))}
	if text := c.get("timestamp"); text != "" {
		if r.At, ok = when(text, time.UTC, c.op.Now()); !ok {
			return nil, refuse(unprocessable, "timestamp", "The timestamp is not a valid date in ISO 8601 format, or lies in the future.")
		}
	}
	again, err := c.take([]HubReport{r})
	switch {
	case err != nil:
		return nil, err
	case again[0]:
		return nil, refuse(http.StatusTooManyRequests, "ip", "You can only report the same IP address (`%s`) once in 15 minutes.", addr)
	}
	k, err := c.op.Check(addr, c.op.Now())
	return struct {
		IPAddress            string `json:"ipAddress"`
		AbuseConfidenceScore int    `json:"abuseConfidenceScore"`
	}{addr.String(), k.Score}, err
}

// alwaysDuplicate is refused however often it is reported, so that clients can be tested; 127.0.0.1 never is.
var alwaysDuplicate = netip.MustParseAddr("127.0.0.2")

// take keeps reports but those of the address that never can be.
func (c *hubCall) take(all []HubReport) (duplicate []bool, err error) {
	keep := slices.DeleteFunc(slices.Clone(all), func(r HubReport) bool { return r.Addr == alwaysDuplicate })
	var kept []bool
	if len(keep) > 0 {
		if kept, err = c.op.Report(c.member, keep); err != nil {
			return nil, err
		}
	}
	for _, r := range all {
		if r.Addr == alwaysDuplicate {
			duplicate = append(duplicate, true)
			continue
		}
		duplicate, kept = append(duplicate, kept[0]), kept[1:]
	}
	return duplicate, nil
}

func (c *hubCall) bulkReport() (any, error) {
	rows, invalid, err := bulkRows(c.csv, c.op.Now())
	if err != nil {
		return nil, err
	}
	reports := make([]HubReport, len(rows))
	for i := range rows {
		reports[i] = rows[i].HubReport
	}
	again, err := c.take(reports)
	if err != nil {
		return nil, err
	}
	saved := 0
	for i, dup := range again {
		if dup {
			invalid = append(invalid, bulkError{"Duplicate IP", rows[i].Addr.String(), rows[i].row})
		} else {
			saved++
		}
	}
	slices.SortFunc(invalid, func(a, b bulkError) int { return cmp.Compare(a.RowNumber, b.RowNumber) })
	return struct {
		SavedReports   int         `json:"savedReports"`
		InvalidReports []bulkError `json:"invalidReports"`
	}{saved, invalid}, nil
}

func (c *hubCall) clear() (any, error) {
	addr, err := c.address("ipAddress")
	if err != nil {
		return nil, err
	}
	n, err := c.op.Clear(c.member, addr)
	return map[string]int{"numReportsDeleted": n}, err
}

// CutComment is what is kept of a comment: valid UTF-8, as much as APIv2 keeps.
func CutComment(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= abuseipdb.MaxComment {
		return text
	}
	return strings.ToValidUTF8(text[:abuseipdb.MaxComment], "")
}
