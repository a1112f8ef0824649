package api

import (
	"context"
	"net/http"
	"time"
)

// This file holds what the watch process answers about accounts, on its own socket.

// Schemas of accounts.
const (
	SchemaUserLink = "tocsin.user-link/1"
	SchemaUsers    = "tocsin.users/1"
)

// UserRequest names an account.
type UserRequest struct {
	Name string `json:"name"`
	Role string `json:"role,omitempty"` // board, support or admin, for a new one
	By   string `json:"by"`
}

// UserLink is a link that is good once. It is shown this once.
type UserLink struct {
	Schema string    `json:"schema"`
	Name   string    `json:"name"` // of the account whose password it lets its reader choose; "": it lets the reader in for a while
	Role   string    `json:"role"`
	URL    string    `json:"url"`
	Until  time.Time `json:"until"`
}

// Users are all accounts, by name.
type Users struct {
	Schema string `json:"schema"`
	Users  []User `json:"users"`
}

// User is one account.
type User struct {
	Name     string     `json:"name"`
	Role     string     `json:"role"`
	Made     time.Time  `json:"made"`
	Logged   *time.Time `json:"logged"`   // in last; null: never
	Waits    bool       `json:"waits"`    // it has no password yet
	Sessions int        `json:"sessions"` // that have not ended
}

// UserOperations are what the handler of accounts calls. Every field must be set.
type UserOperations struct {
	Users    func(context.Context) (Users, error)
	Add      func(context.Context, UserRequest) (UserLink, error)
	Reset    func(context.Context, UserRequest) (UserLink, error)
	Drop     func(context.Context, UserRequest) (Change, error)
	Terminal func(context.Context) (UserLink, error) // a link that lets its reader in for a while
}

// userHandlers serves them to root alone: who there is, is nobody else's business.
func userHandlers(mux *http.ServeMux, op *UserOperations) {
	look(mux, "GET /v1/users", func(r *http.Request) (any, error) {
		if err := mayChange(r.Context()); err != nil {
			return nil, err
		}
		return op.Users(r.Context())
	})
	change(mux, "POST /v1/users/add", op.Add)
	change(mux, "POST /v1/users/reset", op.Reset)
	change(mux, "POST /v1/users/drop", op.Drop)
	change(mux, "POST /v1/users/terminal", func(ctx context.Context, _ struct{}) (UserLink, error) { return op.Terminal(ctx) })
}

// Users asks which accounts there are.
func (w *WatchClient) Users(ctx context.Context) (Users, error) {
	return get[Users](ctx, w.c, "/v1/users", nil)
}

// AddUser makes an account, with a link for its password.
func (w *WatchClient) AddUser(ctx context.Context, r UserRequest) (UserLink, error) {
	return postFor[UserLink](ctx, w.c, "/v1/users/add", r)
}

// ResetUser gives an account a link for a new password.
func (w *WatchClient) ResetUser(ctx context.Context, r UserRequest) (UserLink, error) {
	return postFor[UserLink](ctx, w.c, "/v1/users/reset", r)
}

// DropUser removes an account.
func (w *WatchClient) DropUser(ctx context.Context, r UserRequest) (Change, error) {
	return post(ctx, w.c, "/v1/users/drop", r)
}

// Terminal asks for a link that lets its reader in for a while.
func (w *WatchClient) Terminal(ctx context.Context) (UserLink, error) {
	return postFor[UserLink](ctx, w.c, "/v1/users/terminal", struct{}{})
}
