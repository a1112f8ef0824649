package jail

import (
	"testing"
	"time"

	"net/netip"
	"tocsin"
)

func TestSmoke(t *testing.T) {
	j, err := New(Options{Name: "sshd", MaxRetry: 3, FindTime: 10 * time.Minute, BanTime: 15 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		f := &tocsin.Failure{ID: "192.0.2.1", Prefix: netip.MustParsePrefix("192.0.2.1/32"), User: "root", At: time.Unix(1e9+int64(i), 0), Line: tocsin.Line{Source: "x", Text: "hello"}}
		t.Logf("%+v", j.Failure(nil, f))
	}
}
