package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of a password: OWASP's least for argon2id, some 30 ms and 19 MiB
// (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html).
const (
	argonTime    = 2
	argonMemory  = 19 << 10 // KiB
	argonThreads = 1
	saltSize     = 16
	keySize      = 32
)

// atATime is how many passwords are worked on at once: whoever tries many gets no more than half of the machine.
func atATime() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// Passwords hashes and checks passwords, few at a time. Make it with NewPasswords.
type Passwords struct {
	slots chan struct{}
	dummy string // the hash of nobody's password, so that an unknown name takes as long as a known one
}

// NewPasswords makes a checker of passwords.
func NewPasswords() *Passwords {
	p := &Passwords{slots: make(chan struct{}, atATime())}
	text, _ := NewSecret()
	p.dummy = encode(argonTime, argonMemory, argonThreads, []byte(text)[:saltSize], make([]byte, keySize))
	return p
}

// Hash makes what is kept of a password. The error is that of ctx, where it ends before there is room.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	if err := p.enter(ctx); err != nil {
		return "", err
	}
	defer p.leave()
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // it never fails (crypto/rand)
	return encode(argonTime, argonMemory, argonThreads, salt, argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, keySize)), nil
}

// Check says whether a password is the one that hash was made of. With the hash "" it takes as long, and says no. The error
// is that of ctx, or tells that the hash is none of ours.
func (p *Passwords) Check(ctx context.Context, hash, password string) (bool, error) {
	known := hash != ""
	if !known {
		hash = p.dummy
	}
	if len(password) > MostPassword {
		password, known = "", false
	}
	time, memory, threads, salt, key, err := decode(hash)
	if err != nil {
		return false, err
	}
	if err := p.enter(ctx); err != nil {
		return false, err
	}
	defer p.leave()
	got := argon2.IDKey([]byte(password), salt, time, memory, threads, uint32(len(key)))
	return subtle.ConstantTimeCompare(got, key) == 1 && known, nil
}

func (p *Passwords) enter(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("too many passwords are tried: %w", ctx.Err())
	}
}

func (p *Passwords) leave() { <-p.slots }

// encode writes a hash as everybody does (https://github.com/P-H-C/phc-string-format).
func encode(time, memory uint32, threads uint8, salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, time, threads, b64.EncodeToString(salt), b64.EncodeToString(key))
}

var errHash = errors.New("a password is kept in a form that is not known here")

// decode reads what encode writes, within bounds: a file that somebody tampered with must not cost all memory.
func decode(hash string) (time, memory uint32, threads uint8, salt, key []byte, err error) {
	parts := strings.Split(hash, "$")
	var version int
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return 0, 0, 0, nil, nil, errHash
	}
	_, err1 := fmt.Sscanf(parts[2], "v=%d", &version)
	_, err2 := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &threads)
	salt, err3 := base64.RawStdEncoding.DecodeString(parts[4])
	key, err4 := base64.RawStdEncoding.DecodeString(parts[5])
	if errors.Join(err1, err2, err3, err4) != nil || version != argon2.Version || memory > 256<<10 || memory < 8 || time < 1 || time > 16 || threads < 1 || threads > 4 ||
		len(salt) < 8 || len(key) < 16 || len(key) > 64 {
		return 0, 0, 0, nil, nil, errHash
	}
	return time, memory, threads, salt, key, nil
}
