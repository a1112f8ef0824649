package account

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"time"
)

// The parameters of a signed link.
const (
	linkUntil = "until"
	linkMark  = "sign"
)

// Signer signs links to pictures: whoever has one may see that picture, and nothing else. It seals too what a browser keeps
// for us.
type Signer struct{ Key [32]byte }

// Sign is the query that makes a path good until a time; zero: without end.
func (s *Signer) Sign(path string, until time.Time) string {
	v := url.Values{}
	if !until.IsZero() {
		v.Set(linkUntil, strconv.FormatInt(until.Unix(), 10))
	}
	v.Set(linkMark, s.mark(path, v.Get(linkUntil)))
	return v.Encode()
}

// Good says whether a path was asked for with a link that is signed, and has not ended at now.
func (s *Signer) Good(path string, query url.Values, now time.Time) bool {
	until := query.Get(linkUntil)
	if !hmac.Equal([]byte(query.Get(linkMark)), []byte(s.mark(path, until))) {
		return false
	}
	if until == "" {
		return true
	}
	end, err := strconv.ParseInt(until, 10, 64)
	return err == nil && now.Unix() < end
}

// Seal makes a text of plain that nobody else can read or make, for a purpose: what is sealed for one opens for no other.
func (s *Signer) Seal(purpose string, plain []byte) string {
	return base64.RawURLEncoding.EncodeToString(s.sealer(purpose).Seal(nil, nil, plain, nil))
}

// Open is what Seal made a text of; ok is false if it did not.
func (s *Signer) Open(purpose, text string) (plain []byte, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	plain, err = s.sealer(purpose).Open(nil, nil, sealed, nil)
	return plain, err == nil
}

// sealer is AES-GCM under a key of the purpose's own.
func (s *Signer) sealer(purpose string) cipher.AEAD {
	h := hmac.New(sha256.New, s.Key[:])
	h.Write([]byte("seal\x00" + purpose))
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		panic("BUG: " + err.Error()) // a key of 32 bytes is good
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return aead
}

// mark is a picture's path and the end of its link under the key. A path holds no zero byte.
func (s *Signer) mark(path, until string) string {
	h := hmac.New(sha256.New, s.Key[:])
	h.Write([]byte("picture\x00" + path + "\x00" + until))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}
