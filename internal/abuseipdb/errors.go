package abuseipdb

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// What a server answers to a call it does not grant. They are wrapped: ask with errors.Is.
var (
	// ErrDuplicate: the account reported the address less than DuplicateWindow ago. The first report stands.
	ErrDuplicate = errors.New("the address was reported by this account less than 15 minutes ago")
	// ErrKey: 401, the key is missing, wrong or revoked.
	ErrKey = errors.New("the API key is missing or refused: store one with `tocsin reputation key`")
	// ErrPlan: 402, the account's plan does not cover the call.
	ErrPlan = errors.New("the account's plan does not cover this")
	// ErrForbidden: 403, the account is suspended, or something before the server does not let this machine through.
	ErrForbidden = errors.New("the server forbids it: look at the account on its web page")
)

// QuotaError is a day's quota used up: the endpoint answers nothing else until it is reset.
type QuotaError struct {
	Quota  Quota
	Date   time.Time // the server's clock, zero if it did not tell
	Detail string    // the server's words, printable
}

func (e *QuotaError) Error() string {
	if e.Quota.Limit > 0 {
		return fmt.Sprintf("the day's quota of %d requests is used up", e.Quota.Limit)
	}
	return "the day's quota is used up"
}

// Until is when the endpoint may be asked again, on the clock that reads now. It takes what the server says as a span, so
// that a wrong clock here does not matter. It is 1 minute to 25 hours away; an hour if the server does not tell.
func (e *QuotaError) Until(now time.Time) time.Time {
	wait := time.Hour
	switch {
	case e.Quota.RetryAfter > 0:
		wait = e.Quota.RetryAfter
	case !e.Quota.Reset.IsZero() && !e.Date.IsZero():
		wait = e.Quota.Reset.Sub(e.Date)
	case !e.Quota.Reset.IsZero():
		wait = e.Quota.Reset.Sub(now)
	}
	return now.Add(min(max(wait, time.Minute), 25*time.Hour))
}

// ParameterError is a 422: what was sent will be refused however often it is sent.
type ParameterError struct {
	Parameter string // which one, "" if the server does not say; printable
	Detail    string // the server's words, printable
}

func (e *ParameterError) Error() string {
	text := "the server refuses what was sent"
	if e.Parameter != "" {
		text += " as " + e.Parameter
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// ServerError is an answer that is none: a 5xx, a page of HTML, a redirect, something that is not APIv2.
type ServerError struct {
	Status int    // of HTTP; 200 if only the body was wrong
	Detail string // what was wrong, printable
}

func (e *ServerError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("the server answered with status %d", e.Status)
	}
	return fmt.Sprintf("the server answered with status %d: %s", e.Status, e.Detail)
}

// NetworkError is a call without an answer, or with half of one.
type NetworkError struct {
	// Sent says that a connection stood, so that the server may have done what was asked. If it is false the request did
	// not leave this machine.
	Sent bool
	Err  error
}

func (e *NetworkError) Error() string {
	if e.Sent {
		return "the answer was lost: " + e.Err.Error()
	}
	return "the server cannot be reached: " + e.Err.Error()
}

// Unwrap gives the cause; a context's end can be told by it.
func (e *NetworkError) Unwrap() error { return e.Err }

// Uncertain says that the server may have done what was asked although err is not nil: the answer was lost or cannot be
// read, or something between gave up waiting for it. Such a report may be repeated within DuplicateWindow of the call, and
// not later. Other answers of 5xx count as not done.
func Uncertain(err error) bool {
	if e, ok := errors.AsType[*NetworkError](err); ok {
		return e.Sent
	}
	if e, ok := errors.AsType[*ServerError](err); ok {
		const cloudflareEmpty, cloudflareTimeout = 520, 524
		switch e.Status {
		case http.StatusGatewayTimeout, cloudflareEmpty, cloudflareTimeout:
			return true
		}
		return e.Status < 300
	}
	return false
}
