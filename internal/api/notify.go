package api

import (
	"context"
	"net/http"
	"time"
)

// This file holds what the watch process answers about who is told, on its own socket.

// Schemas of who is told.
const (
	SchemaContacts   = "tocsin.contacts/1"
	SchemaNotifyTest = "tocsin.notify-test/1"
)

// Contacts are all who are told, with how each of their receivers does.
type Contacts struct {
	Schema    string     `json:"schema"`
	Receivers []Receiver `json:"receivers"`
}

// Receiver is one way to tell a contact.
type Receiver struct {
	Contact string     `json:"contact"`
	Via     string     `json:"via"` // mail:ADDRESS, ntfy, webhook, command
	To      string     `json:"to"`
	Waiting int        `json:"waiting"` // messages that are due or held back
	Lost    int        `json:"lost"`    // messages that found no room
	Sent    *time.Time `json:"sent"`    // the last success since the start
	Since   *time.Time `json:"since"`   // since when it fails; null: it does not
	Problem string     `json:"problem"` // why, or why a message was given up; a stranger's words
	GaveUp  *time.Time `json:"gave_up"` // when a message was given up last, since the start
}

// NotifyTestRequest asks for a test of a contact, or of all for "".
type NotifyTestRequest struct {
	Contact string `json:"contact"`
	By      string `json:"by"`
}

// NotifyTest is how a test went, one entry for each receiver.
type NotifyTest struct {
	Schema string        `json:"schema"`
	Trials []NotifyTrial `json:"trials"`
}

// NotifyTrial is how one receiver took the message of a test.
type NotifyTrial struct {
	Contact string   `json:"contact"`
	Via     string   `json:"via"`
	To      string   `json:"to"`
	Steps   []string `json:"steps"`
	Problem string   `json:"problem"` // "": it was taken
}

// NotifyOperations are what the watch process's handler calls about who is told. Every field must be set.
type NotifyOperations struct {
	Contacts func(context.Context) (Contacts, error)
	Test     func(context.Context, NotifyTestRequest) (NotifyTest, error)
}

// notifyHandlers serves them: addresses are shown to those who may change things.
func notifyHandlers(mux *http.ServeMux, op *NotifyOperations) {
	look(mux, "GET /v1/contacts", func(r *http.Request) (any, error) {
		if err := mayChange(r.Context()); err != nil {
			return nil, err
		}
		return op.Contacts(r.Context())
	})
	change(mux, "POST /v1/notify/test", op.Test)
}

// Contacts asks who is told.
func (w *WatchClient) Contacts(ctx context.Context) (Contacts, error) {
	return get[Contacts](ctx, w.c, "/v1/contacts", nil)
}

// TestNotify has a message of a test sent.
func (w *WatchClient) TestNotify(ctx context.Context, r NotifyTestRequest) (NotifyTest, error) {
	return postFor[NotifyTest](ctx, w.c, "/v1/notify/test", r)
}
