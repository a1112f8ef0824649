package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/reputation"
	"tocsin/internal/store"
)

// A hub keeps its things in a folder of its own within the state folder.
const (
	hubFolder = "hub"
	hubSocket = "hub.sock"
	hubStore  = "hub.db"
)

// HubSocket is where a hub answers its own people, given the state folder.
func HubSocket(state string) string { return filepath.Join(state, hubFolder, hubSocket) }

// The plans are AbuseIPDB's (https://docs.abuseipdb.com, API Daily Rate Limits).
const plainPlan = "standard"

var hubPlans = map[string]api.HubPlan{
	plainPlan: {Quota: quotaOf(1000, 100, 100, 5, 1000, 5, 5), ListLimit: 10_000, BlockBits: 24, BlockDays: 30},
	"basic":   {Quota: quotaOf(10_000, 5000, 1000, 100, 10_000, 100, 100), ListLimit: 100_000, AnyConfidence: true, BlockBits: 20, BlockDays: 60},
	"premium": {Quota: quotaOf(50_000, 25_000, 5000, 500, 50_000, 500, 500), ListLimit: 500_000, AnyConfidence: true, BlockBits: 16, BlockDays: 365},
}

func quotaOf(check, reports, block, blacklist, report, bulk, clear int) map[string]int {
	return map[string]int{api.EndpointCheck: check, api.EndpointReports: reports, api.EndpointBlock: block, api.EndpointBlacklist: blacklist,
		api.EndpointReport: report, api.EndpointBulk: bulk, api.EndpointClear: clear}
}

// planOf is a plan with what differs from it, written as it is kept: check=5,report=10.
func planOf(name, differs string) (*api.HubPlan, error) {
	p, ok := hubPlans[name]
	if !ok {
		return nil, api.Errorf(api.ExitUsage, "write one of standard, basic, premium", fmt.Sprintf("%.80q is no plan", name))
	}
	p.Quota = maps.Clone(p.Quota)
	if differs == "" {
		return &p, nil
	}
	for word := range strings.SplitSeq(differs, ",") {
		endpoint, text, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(text)
		if _, known := p.Quota[endpoint]; !known || err != nil || n < 0 {
			return nil, api.Errorf(api.ExitUsage, "write it like check=1000; the endpoints are "+strings.Join(api.HubEndpoints, ", "), fmt.Sprintf("%.80q is no quota", word))
		}
		p.Quota[endpoint] = n
	}
	return &p, nil
}

// hubScopes are what a key may be good for.
var hubScopes = []string{"read", "report", "admin"}

// hubPeople are the members of a hub and their keys.
type hubPeople struct {
	store *store.Hub
	mu    sync.Mutex // held while members change
	// changed is told of everything new. nil: no hub runs.
	orgCame func(store.Org)
	keyCame func(store.Key) error
	revoked func(id uint32)
}

func (h *hubPeople) operations() api.HubPeople {
	return api.HubPeople{AddOrg: h.addOrg, Orgs: h.orgs, AddKey: h.addKey, RevokeKey: h.revokeKey}
}

var orgName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[\pL\pN][\pL\pN _.,&'()-]{0,99}$`) })

func (h *hubPeople) addOrg(_ context.Context, r api.HubOrgRequest) (o api.HubOrg, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !orgName().MatchString(r.Name) || strings.HasSuffix(r.Name, " "):
		return o, api.Errorf(api.ExitUsage, "up to 100 letters, digits, spaces and _ . , & ' ( ) - behind the first", fmt.Sprintf("%.200q is no name for an organisation", r.Name))
	case isNumber(r.Name):
		return o, api.Errorf(api.ExitUsage, "add a letter", fmt.Sprintf("the name %q could be taken for an organisation's number", r.Name))
	case r.Country != "" && !isCountry(r.Country):
		return o, api.Errorf(api.ExitUsage, "write two capital letters, like FR", fmt.Sprintf("%.80q is no country", r.Country))
	}
	in := store.Org{Name: r.Name, Kind: uint8(reputation.Probation), ASN: r.ASN, Country: r.Country, Made: time.Now()}
	if r.Admitted {
		in.Kind = uint8(reputation.Admitted)
	}
	if r.Sponsor != "" {
		sponsor, err := h.find(r.Sponsor)
		if err != nil {
			return o, err
		}
		in.Sponsor, r.Sponsor = sponsor.ID, sponsor.Name
	}
	id, ok, err := h.store.AddOrg(in)
	switch {
	case err != nil:
		return o, err
	case !ok:
		return o, api.Errorf(api.ExitFindings, "tocsin hub org list shows which there are", fmt.Sprintf("there is an organisation %q already, or ten thousand in all", r.Name))
	}
	in.ID = id
	h.note(r.By, "add organisation", r.Name, "")
	if h.orgCame != nil {
		h.orgCame(in)
	}
	return hubOrgOf(in, r.Sponsor), nil
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 64)
	return err == nil
}

func hubOrgOf(o store.Org, sponsor string) api.HubOrg {
	return api.HubOrg{Schema: api.SchemaHubOrg, Org: o.Name, ID: o.ID, Admitted: o.Kind == uint8(reputation.Admitted), ASN: o.ASN, Country: o.Country, Sponsor: sponsor, Made: o.Made.UTC()}
}

// note keeps who changed something. That it is kept is not worth failing for: the change is done.
func (h *hubPeople) note(by, what, about, note string) {
	_ = h.store.Note(store.Action{At: time.Now(), Who: by, What: what, About: about, Note: note})
}

// find looks for an organisation by name or number.
func (h *hubPeople) find(name string) (store.Org, error) {
	all, err := h.store.Orgs()
	if err != nil {
		return store.Org{}, err
	}
	i := slices.IndexFunc(all, func(o store.Org) bool { return o.Name == name || strconv.FormatUint(uint64(o.ID), 10) == name })
	if i < 0 {
		return store.Org{}, api.Errorf(api.ExitUsage, "tocsin hub org list shows which there are", fmt.Sprintf("there is no organisation %.200q", name))
	}
	return all[i], nil
}

func (h *hubPeople) orgs(context.Context) (out api.HubOrgs, err error) {
	out = api.HubOrgs{Schema: api.SchemaHubOrgs, Orgs: []api.HubOrgDetail{}}
	orgs, err := h.store.Orgs()
	if err != nil {
		return out, err
	}
	keys, err := h.store.Keys()
	if err != nil {
		return out, err
	}
	names := map[uint32]string{}
	for _, o := range orgs {
		names[o.ID] = o.Name
	}
	of := map[uint32][]api.HubKey{}
	for _, k := range keys {
		shown, err := hubKeyOf(k, names[k.Org])
		if err != nil {
			return out, err
		}
		of[k.Org] = append(of[k.Org], shown)
	}
	for _, o := range orgs {
		d := api.HubOrgDetail{HubOrg: hubOrgOf(o, names[o.Sponsor]), Keys: append([]api.HubKey{}, of[o.ID]...)}
		d.Schema = ""
		slices.SortFunc(d.Keys, func(a, b api.HubKey) int { return cmp.Compare(a.Name, b.Name) })
		out.Orgs = append(out.Orgs, d)
	}
	slices.SortFunc(out.Orgs, func(a, b api.HubOrgDetail) int { return cmp.Compare(a.Org, b.Org) })
	return out, nil
}

func hubKeyOf(k store.Key, org string) (api.HubKey, error) {
	plan, err := planOf(k.Plan, k.Quota)
	if err != nil {
		return api.HubKey{}, err
	}
	out := api.HubKey{Org: org, Name: k.Name, Scope: strings.Split(k.Scope, ","), Plan: k.Plan, Quota: plan.Quota, Reporter: k.Pseudonym, Made: k.Made.UTC()}
	if !k.Revoked.IsZero() {
		at := k.Revoked.UTC()
		out.Revoked = &at
	}
	return out, nil
}

// hubKeySize is how many random bytes a key is made of; written in hexadecimal it is as long as AbuseIPDB's, which some
// clients insist on.
const hubKeySize = 40

// maxPseudonym bounds the number that others see: clients read it as a small integer.
const maxPseudonym = 1_000_000_000

func (h *hubPeople) addKey(_ context.Context, r api.HubKeyRequest) (out api.HubKey, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !tokenName().MatchString(r.Name) {
		return out, api.Errorf(api.ExitUsage, "up to 64 letters, digits, and _ . - behind the first", fmt.Sprintf("%.80q is no name for a key", r.Name))
	}
	if len(r.Scope) == 0 {
		return out, api.Errorf(api.ExitUsage, "write some of read, report, admin", "a key must be good for something")
	}
	for _, s := range r.Scope {
		if !slices.Contains(hubScopes, s) {
			return out, api.Errorf(api.ExitUsage, "write some of read, report, admin", fmt.Sprintf("%.80q is no scope", s))
		}
	}
	var differs []string
	for _, endpoint := range slices.Sorted(maps.Keys(r.Quota)) {
		differs = append(differs, fmt.Sprintf("%.80s=%d", endpoint, r.Quota[endpoint]))
	}
	k := store.Key{Name: r.Name, Scope: strings.Join(slices.Compact(slices.Sorted(slices.Values(r.Scope))), ","), Plan: cmp.Or(r.Plan, plainPlan),
		Quota: strings.Join(differs, ","), Made: time.Now(), Day: uint16(time.Now().Unix() / 86400)}
	if _, err := planOf(k.Plan, k.Quota); err != nil {
		return out, err
	}
	org, err := h.find(r.Org)
	if err != nil {
		return out, err
	}
	secret := make([]byte, hubKeySize)
	_, _ = rand.Read(secret) // it never fails (crypto/rand)
	text := hex.EncodeToString(secret)
	k.Org, k.Hash = org.ID, sha256.Sum256([]byte(text))
	ok := false
	for tries := 0; !ok && tries < 3; tries++ { // a pseudonym may be somebody's
		n, err := rand.Int(rand.Reader, big.NewInt(maxPseudonym))
		if err != nil {
			return out, err
		}
		k.Pseudonym = uint32(n.Int64()) + 1
		if k.ID, ok, err = h.store.AddKey(k); err != nil {
			return out, err
		}
	}
	if !ok {
		return out, api.Errorf(api.ExitFindings, "tocsin hub org list shows which there are; the name of a key that was revoked is not given again", fmt.Sprintf("%s has a key %q already, or there are a hundred thousand in all", org.Name, r.Name))
	}
	h.note(r.By, "add key", org.Name+"/"+k.Name, k.Scope)
	if h.keyCame != nil {
		if err := h.keyCame(k); err != nil {
			return out, err
		}
	}
	out, err = hubKeyOf(k, org.Name)
	out.Schema, out.Key = api.SchemaHubKey, text
	return out, err
}

func (h *hubPeople) revokeKey(_ context.Context, r api.HubKeyRequest) (api.Change, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	org, err := h.find(r.Org)
	if err != nil {
		return api.Change{}, err
	}
	keys, err := h.store.Keys()
	if err != nil {
		return api.Change{}, err
	}
	i := slices.IndexFunc(keys, func(k store.Key) bool { return k.Org == org.ID && k.Name == r.Name })
	if i < 0 {
		return api.Change{}, api.Errorf(api.ExitUsage, "tocsin hub org list shows which there are", fmt.Sprintf("%s has no key %.80q", org.Name, r.Name))
	}
	what := org.Name + "/" + r.Name
	ok, err := h.store.RevokeKey(keys[i].ID, time.Now())
	switch {
	case err != nil:
		return api.Change{}, err
	case !ok:
		return api.Change{Schema: api.SchemaChange, Changed: []string{}, Text: "key " + what + " was revoked before"}, nil
	}
	h.note(r.By, "revoke key", what, "")
	if h.revoked != nil {
		h.revoked(keys[i].ID)
	}
	return api.Change{Schema: api.SchemaChange, Changed: []string{what}, Text: "key " + what + " is good for nothing any more; what was reported with it stays"}, nil
}

// HubPeople gives a hub's members and keys to do: through the hub that runs on the state folder, or on its file where none
// does. done must be called.
func HubPeople(ctx context.Context, state string) (op api.HubPeople, done func() error, err error) {
	op = api.NewHubClient(HubSocket(state))
	_, err = op.Orgs(ctx)
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Exit != api.ExitUnreachable {
		return op, func() error { return nil }, err
	}
	dir, err := makeHubFolder(state)
	if err != nil {
		return op, nil, err
	}
	unlock, err := lock(dir)
	if err != nil {
		if errors.Is(err, errInUse) {
			err = api.Errorf(api.ExitTryLater, "try again", "a hub uses "+dir+" and does not answer yet")
		}
		return op, nil, err
	}
	s, err := store.OpenHub(filepath.Join(dir, hubStore), nil)
	if err != nil {
		unlock()
		return op, nil, err
	}
	people := &hubPeople{store: s}
	return people.operations(), func() error {
		err := s.Close()
		unlock()
		if mayGive() {
			u := watchUser()
			err = errors.Join(err, giveTree(dir, int(u.UID), int(u.GID)))
		}
		return err
	}, nil
}

// makeHubFolder makes the folder of a hub. As root it gives it to the user that hubs run as, and lets that user through the state
// folder, and through folders for temporary things above it, where people try things out.
func makeHubFolder(state string) (dir string, err error) {
	if state, err = filepath.Abs(state); err != nil {
		return "", err
	}
	dir = filepath.Join(state, hubFolder)
	if err := os.MkdirAll(state, 0o750); err != nil {
		return dir, fmt.Errorf("make state folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return dir, fmt.Errorf("make folder of the hub: %w", err)
	}
	if !mayGive() {
		return dir, nil
	}
	u := watchUser()
	for way := state; ; way = filepath.Dir(way) {
		if err := letThrough(way, u.GID); err != nil {
			return dir, err
		}
		if up := filepath.Dir(way); !strings.HasPrefix(up, filepath.Clean(os.TempDir())+"/") {
			break
		}
	}
	return dir, giveTree(dir, int(u.UID), int(u.GID))
}
