// Package account knows who people are and what they may do: passwords, secrets that are shown once, roles, signed links,
// the address behind proxies, and OpenID Connect.
//
// It keeps nothing: what lasts lies in the store, and who asks is told by package web. Time comes in as an argument.
//
// The one thing to know: what a role may do is asked of [May] and of nobody else.
package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Role is what somebody is for the association. The zero Role is nobody's.
type Role uint8

// The roles, in rising order.
const (
	Nobody  Role = iota
	Board        // counts and graphs; addresses are cut
	Support      // helps members: one address at a time
	Admin
)

var roleNames = [...]string{"", "board", "support", "admin"}

// String is the role's name, as it is written in the configuration and kept; "" for Nobody.
func (r Role) String() string {
	if int(r) >= len(roleNames) {
		return fmt.Sprintf("role(%d)", r)
	}
	return roleNames[r]
}

// ParseRole reads what String writes, but for "".
func ParseRole(s string) (Role, error) {
	for i, name := range roleNames {
		if s == name && i > 0 {
			return Role(i), nil
		}
	}
	return Nobody, fmt.Errorf("%.40q is no role: there are board, support and admin", s)
}

// What is something that somebody wants to do.
type What uint8

// What there is to do.
const (
	See          What = iota // servers, graphs, alerts, how many bans; addresses are cut
	SeeAddress               // one address that was typed in, with the lines that led to a ban
	SeeAddresses             // lists of addresses
	Unban                    // one address
	AllowWeek                // let one address in whatever it does, for at most seven days
	Ban                      // or ban longer, allow for longer, several at once
	Acknowledge              // an alert; silence a server
	Embed                    // make a link to a picture that needs no account
	SeeActions               // who did what
	ManageUsers              // accounts, their roles and sessions
	endOfWhat                // how many there are
)

// may is the one table of who may do what: the least role.
var may = [endOfWhat]Role{
	See: Board, SeeAddress: Support, SeeAddresses: Admin, Unban: Support, AllowWeek: Support, Ban: Admin,
	Acknowledge: Support, Embed: Support, SeeActions: Admin, ManageUsers: Admin,
}

// May says whether a role may do something.
func May(r Role, w What) bool { return w < endOfWhat && r != Nobody && r <= Admin && r >= may[w] }

// Cut takes from an address what names somebody: the last byte of IPv4, all behind the first 48 bits of IPv6.
func Cut(p netip.Prefix) netip.Prefix {
	bits := 48
	if p.Addr().Is4() {
		bits = 24
	}
	if !p.IsValid() || p.Bits() <= bits {
		return p
	}
	return netip.PrefixFrom(p.Addr(), bits).Masked()
}

// Bounds of what people choose.
const (
	LeastPassword = 12   // characters
	MostPassword  = 1024 // bytes
)

// mostName is how long a name may be, in characters. It is checked by hand: a regular expression that counts letters of all
// languages so far costs two megabytes in each process.
const mostName = 64

func isName(name string) bool {
	if name == "" || !utf8.ValidString(name) || utf8.RuneCountInString(name) > mostName {
		return false
	}
	for i, c := range name {
		if !unicode.IsLetter(c) && !unicode.IsNumber(c) && (i == 0 || !strings.ContainsRune(" ._@+-", c)) {
			return false
		}
	}
	return name[len(name)-1] != ' '
}

// CheckName says whether a name can be an account's: letters and digits of any language, space and . _ @ + - behind the first.
func CheckName(name string) error {
	if !isName(name) {
		return fmt.Errorf("%.80q is no name for an account", name)
	}
	return nil
}

// Why a password is not taken.
var (
	ErrShort  = errors.New("the password is too short")
	ErrLong   = errors.New("the password is too long")
	ErrIsName = errors.New("the password is the name")
)

// CheckPassword says whether a password may be chosen: its length counts, not which signs are in it (NIST SP 800-63B).
func CheckPassword(name, password string) error {
	switch {
	case len(password) > MostPassword:
		return ErrLong
	case len([]rune(password)) < LeastPassword:
		return ErrShort
	case password == name:
		return ErrIsName
	}
	return nil
}

// NewSecret makes what only its owner knows: a session, a link that is good once. hash is what is kept of it.
func NewSecret() (text string, hash [32]byte) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // it never fails (crypto/rand)
	text = base64.RawURLEncoding.EncodeToString(secret)
	return text, HashOf(text)
}

// HashOf is what is kept of a secret. What is random cannot be guessed from its hash, so that a fast one is good.
func HashOf(text string) [32]byte { return sha256.Sum256([]byte(text)) }
