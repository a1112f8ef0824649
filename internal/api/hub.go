package api

import (
	"context"
	"net/http"
	"time"
)

// This file holds what a hub answers to its own people, on its socket.

// Schemas of a hub's members.
const (
	SchemaHubOrg  = "tocsin.hub-org/1"
	SchemaHubOrgs = "tocsin.hub-orgs/1"
	SchemaHubKey  = "tocsin.hub-key/1"
)

// HubOrgRequest makes a member.
type HubOrgRequest struct {
	Name     string `json:"name"`
	Admitted bool   `json:"admitted"` // somebody knows it as a body of its own
	ASN      uint32 `json:"asn"`      // of the network that it reports from; 0: unknown
	Country  string `json:"country"`  // of that network, two letters; "": unknown
	Sponsor  string `json:"sponsor"`  // the member that brought it; "": none
	By       string `json:"by"`
}

// HubOrg is one member, as it was made.
type HubOrg struct {
	Schema   string    `json:"schema,omitempty"`
	Org      string    `json:"org"` // its name
	ID       uint32    `json:"id"`
	Admitted bool      `json:"admitted"` // false: on probation
	ASN      uint32    `json:"asn"`
	Country  string    `json:"country"`
	Sponsor  string    `json:"sponsor"`
	Made     time.Time `json:"made"`
}

// HubOrgs are all members.
type HubOrgs struct {
	Schema string         `json:"schema"`
	Orgs   []HubOrgDetail `json:"orgs"` // by name
}

// HubOrgDetail is one member with its keys.
type HubOrgDetail struct {
	HubOrg
	Keys []HubKey `json:"keys"` // by name
}

// HubKeyRequest makes a key of a member, or revokes one.
type HubKeyRequest struct {
	Org   string         `json:"org"` // name or number
	Name  string         `json:"name"`
	Scope []string       `json:"scope"`
	Plan  string         `json:"plan"`
	Quota map[string]int `json:"quota"` // requests a day by endpoint, where they differ from the plan
	By    string         `json:"by"`
}

// HubKey is one key. The key itself is told once, when it is made.
type HubKey struct {
	Schema   string         `json:"schema,omitempty"`
	Key      string         `json:"key,omitempty"`
	Org      string         `json:"org"`
	Name     string         `json:"name"`
	Scope    []string       `json:"scope"`
	Plan     string         `json:"plan"`
	Quota    map[string]int `json:"quota"`    // requests a day by endpoint
	Reporter uint32         `json:"reporter"` // what others see in its place
	Made     time.Time      `json:"made"`
	Revoked  *time.Time     `json:"revoked"` // null: it is good
}

// HubPeople are what the handler of a hub's socket calls. Every field must be set.
type HubPeople struct {
	AddOrg    func(context.Context, HubOrgRequest) (HubOrg, error)
	Orgs      func(context.Context) (HubOrgs, error)
	AddKey    func(context.Context, HubKeyRequest) (HubKey, error)
	RevokeKey func(context.Context, HubKeyRequest) (Change, error)
}

// HubPeopleHandler serves a hub's own people. It must be reached through a server made by Serve.
func HubPeopleHandler(op HubPeople) http.Handler {
	mux := http.NewServeMux()
	look(mux, "GET /v1/hub/orgs", func(r *http.Request) (any, error) {
		if err := mayChange(r.Context()); err != nil { // who is a member is not for everybody's eyes
			return nil, err
		}
		return op.Orgs(r.Context())
	})
	change(mux, "POST /v1/hub/orgs/add", op.AddOrg)
	change(mux, "POST /v1/hub/keys/add", op.AddKey)
	change(mux, "POST /v1/hub/keys/revoke", op.RevokeKey)
	return mux
}

// NewHubClient asks the hub whose socket is at path. Where none runs every call says so with ExitUnreachable.
func NewHubClient(path string) HubPeople {
	c := NewClient(path)
	c.who = "hub"
	c.start = "start it with tocsin hub"
	return HubPeople{
		AddOrg: func(ctx context.Context, r HubOrgRequest) (HubOrg, error) {
			return postFor[HubOrg](ctx, c, "/v1/hub/orgs/add", r)
		},
		Orgs: func(ctx context.Context) (HubOrgs, error) { return get[HubOrgs](ctx, c, "/v1/hub/orgs", nil) },
		AddKey: func(ctx context.Context, r HubKeyRequest) (HubKey, error) {
			return postFor[HubKey](ctx, c, "/v1/hub/keys/add", r)
		},
		RevokeKey: func(ctx context.Context, r HubKeyRequest) (Change, error) {
			return post(ctx, c, "/v1/hub/keys/revoke", r)
		},
	}
}
