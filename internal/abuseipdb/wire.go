package abuseipdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// wireError is one entry of an answer's "errors".
type wireError struct {
	Detail string `json:"detail"`
	Status int    `json:"status"`
	Source struct {
		Parameter string `json:"parameter"`
	} `json:"source"`
}

// wireErrors is the body of an answer that grants nothing. The fields are read one by one, since servers differ in what
// they send beside them.
type wireErrors struct {
	Errors []json.RawMessage `json:"errors"`
}

// firstError reads the first error of a body; ok is false if the body holds none in APIv2's form.
func firstError(body []byte) (e wireError, ok bool) {
	var w wireErrors
	if json.Unmarshal(body, &w) != nil || len(w.Errors) == 0 {
		return e, false
	}
	var f map[string]json.RawMessage
	if json.Unmarshal(w.Errors[0], &f) != nil {
		return e, false
	}
	// A field of another type stays empty: the status of HTTP tells the kind of the error.
	_ = json.Unmarshal(f["detail"], &e.Detail)
	_ = json.Unmarshal(f["status"], &e.Status)
	_ = json.Unmarshal(f["source"], &e.Source)
	return e, true
}

type wireCheck struct {
	IPAddress            string   `json:"ipAddress"`
	IsPublic             bool     `json:"isPublic"`
	IsWhitelisted        *bool    `json:"isWhitelisted"`
	AbuseConfidenceScore *int     `json:"abuseConfidenceScore"`
	CountryCode          string   `json:"countryCode"` // null leaves it empty, as with every text here
	UsageType            string   `json:"usageType"`
	ISP                  string   `json:"isp"`
	Domain               string   `json:"domain"`
	Hostnames            []string `json:"hostnames"`
	IsTor                bool     `json:"isTor"`
	TotalReports         int      `json:"totalReports"`
	NumDistinctUsers     int      `json:"numDistinctUsers"`
	LastReportedAt       string   `json:"lastReportedAt"`
}

type wireReport struct {
	IPAddress            string `json:"ipAddress"`
	AbuseConfidenceScore *int   `json:"abuseConfidenceScore"`
}

type wireBulk struct {
	SavedReports   *int `json:"savedReports"`
	InvalidReports []struct {
		Error     string `json:"error"`
		Input     any    `json:"input"` // the address or category; a number where it looked like one
		RowNumber int    `json:"rowNumber"`
	} `json:"invalidReports"`
}

type wireClear struct {
	NumReportsDeleted *int `json:"numReportsDeleted"`
}

type wireMeta struct {
	GeneratedAt string `json:"generatedAt"`
}

type wireListed struct {
	IPAddress            string `json:"ipAddress"`
	CountryCode          string `json:"countryCode"`
	AbuseConfidenceScore int    `json:"abuseConfidenceScore"`
	LastReportedAt       string `json:"lastReportedAt"`
}

// data reads the "data" of a granted answer into v.
func data(body []byte, v any) error {
	var w struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return fmt.Errorf("not an answer of APIv2 but %s", kind(body))
	}
	if len(w.Data) == 0 || string(w.Data) == "null" {
		return errors.New("an answer without data")
	}
	if err := json.Unmarshal(w.Data, v); err != nil {
		return errors.New("an answer in a form that APIv2 does not have")
	}
	return nil
}

// kind says in a few words what a body is that should have been something else. The key is out of it already.
func kind(body []byte) string {
	text := strings.TrimSpace(string(body[:min(len(body), 512)]))
	switch {
	case text == "":
		return "nothing"
	case text[0] == '<':
		return "a page of HTML"
	case text[0] == '{', text[0] == '[':
		return "JSON that is cut off or broken"
	}
	text, _ = cut(strings.ToValidUTF8(text, "\uFFFD"), 60)
	return fmt.Sprintf("text that begins %q", printable(text))
}

func (w *wireCheck) meaning() (Check, error) {
	addr, err := netip.ParseAddr(w.IPAddress)
	if err != nil || w.AbuseConfidenceScore == nil || *w.AbuseConfidenceScore < 0 || *w.AbuseConfidenceScore > 100 {
		return Check{}, errors.New("an answer without an address and a score from 0 to 100")
	}
	c := Check{
		Addr: addr, Public: w.IsPublic, Score: *w.AbuseConfidenceScore,
		Country: printable(w.CountryCode), Usage: printable(w.UsageType), ISP: printable(w.ISP), Domain: printable(w.Domain),
		Tor: w.IsTor, Reports: max(w.TotalReports, 0), Reporters: max(w.NumDistinctUsers, 0),
	}
	if w.IsWhitelisted != nil {
		c.Whitelisted, c.WhitelistKnown = *w.IsWhitelisted, true
	}
	for _, h := range w.Hostnames[:min(len(w.Hostnames), maxHostnames)] {
		c.Hostnames = append(c.Hostnames, printable(h))
	}
	if w.LastReportedAt != "" {
		if c.Last, err = parseTime(w.LastReportedAt); err != nil {
			return Check{}, fmt.Errorf("lastReportedAt: %w", err)
		}
	}
	return c, nil
}

// maxHostnames bounds the names of one address that a Check keeps.
const maxHostnames = 20

func (w *wireListed) meaning() (Listed, error) {
	addr, err := netip.ParseAddr(w.IPAddress)
	if err != nil || addr.Zone() != "" {
		return Listed{}, errors.New("ipAddress: no address")
	}
	l := Listed{Addr: addr.Unmap(), Country: printable(w.CountryCode), Score: w.AbuseConfidenceScore}
	if w.LastReportedAt != "" {
		if l.Last, err = parseTime(w.LastReportedAt); err != nil {
			return Listed{}, fmt.Errorf("lastReportedAt: %w", err)
		}
	}
	return l, nil
}

// Check is what a server knows of an address. Its texts are a stranger's, cut and printable.
type Check struct {
	Addr           netip.Addr
	Public         bool
	Whitelisted    bool // meaningless unless WhitelistKnown
	WhitelistKnown bool // the server looked; it does not always
	Score          int  // 0 to 100
	Country        string
	Usage          string // "Data Center/Web Hosting/Transit"
	ISP            string
	Domain         string
	Hostnames      []string // at most 20
	Tor            bool
	Reports        int       // inside the asked age
	Reporters      int       // how many different accounts they come from
	Last           time.Time // zero: never
}

// Listed is one address of the daily list. A plain list carries nothing but the address.
type Listed struct {
	Addr    netip.Addr
	Country string
	Score   int
	Last    time.Time
}
