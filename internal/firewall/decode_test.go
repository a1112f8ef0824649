package firewall

import (
	"encoding/binary"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a batch writes, the decoder reads.
func TestDecodeWhatWeEncode(t *testing.T) {
	b := newBatch("tocsin")
	b.add("ports_22_v4", element{key: []byte{192, 0, 2, 1}, timeout: 5000, comment: "sshd"})
	b.add("ports_22_v4", element{key: []byte{192, 0, 2, 2}, end: true})
	wire, last := b.seal(7, true)
	if last != 8 {
		t.Errorf("the last message has number %d, want 8", last)
	}
	var got []found
	var kinds []uint16
	for m := range messages(wire) {
		kinds = append(kinds, m.typ)
		if _, ok := m.kind(); ok {
			if !belongs(m, "tocsin") || belongs(m, "other") {
				t.Error("the message belongs to another table")
			}
			decodeElements(m, func(e found) { got = append(got, e) })
		}
	}
	if len(kinds) != 3 || kinds[0] != unix.NFNL_MSG_BATCH_BEGIN || kinds[2] != unix.NFNL_MSG_BATCH_END {
		t.Errorf("messages %x, want begin, elements, end", kinds)
	}
	if len(got) != 2 || string(got[0].key) != "\xc0\x00\x02\x01" || got[0].comment != "sshd" || got[0].end || !got[1].end {
		t.Errorf("elements %+v", got)
	}
}

// A list of elements is closed before its length overflows sixteen bits.
func TestListsAreSplit(t *testing.T) {
	b := newBatch("tocsin")
	comment := strings.Repeat("x", maxComment+50)
	const n = 10_000
	for i := range n {
		b.add("s", element{key: binary.BigEndian.AppendUint32(nil, uint32(i)), timeout: 1, comment: comment})
	}
	wire, _ := b.seal(1, true)
	count := 0
	for m := range messages(wire) {
		if len(m.data) > 1<<16 {
			t.Errorf("a message of %d bytes", len(m.data))
		}
		decodeElements(m, func(e found) {
			if len(e.comment) != maxComment {
				t.Fatalf("a comment of %d bytes, want %d", len(e.comment), maxComment)
			}
			count++
		})
	}
	if count != n {
		t.Errorf("%d elements, want %d", count, n)
	}
}

func TestMessageErr(t *testing.T) {
	errno := func(n int32) []byte {
		return append(binary.NativeEndian.AppendUint32(nil, uint32(n)), make([]byte, unix.NLMSG_HDRLEN)...)
	}
	tests := []struct {
		name string
		m    message
		want error
		text string
	}{
		{"acknowledgement", message{data: errno(0)}, nil, ""},
		{"refusal", message{data: errno(-int32(syscall.ENOENT))}, syscall.ENOENT, "no such file or directory"},
		{"refusal with words", message{flags: unix.NLM_F_ACK_TLVS, data: appendText(errno(-int32(syscall.EINVAL)), unix.NLMSGERR_ATTR_MSG, "bad set")},
			syscall.EINVAL, "invalid argument (bad set)"},
		{"cut", message{data: []byte{1}}, syscall.EBADMSG, "bad message"},
	}
	for _, tt := range tests {
		err := tt.m.err()
		if !errors.Is(err, tt.want) || err != nil && err.Error() != tt.text {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.text)
		}
	}
}

func TestDecodeComment(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"\x00\x05sshd\x00", "sshd"},
		{"\x07\x01x\x00\x05sshd\x00", "sshd"},
		{"\x00\x09sshd\x00", ""},
		{"\x00", ""},
		{"\x00\x04sshd", "sshd"},
	}
	for _, tt := range tests {
		if got := decodeComment([]byte(tt.in)); got != tt.want {
			t.Errorf("decodeComment(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestExplain(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{syscall.EPERM, "CAP_NET_ADMIN"},
		{syscall.EPROTONOSUPPORT, "OpenVZ"},
		{syscall.EOPNOTSUPP, "OpenVZ"},
		{syscall.ENOMEM, "cannot allocate memory"},
	}
	for _, tt := range tests {
		if got := explain(tt.err); !errors.Is(got, tt.err) || !strings.Contains(got.Error(), tt.want) {
			t.Errorf("explain(%v) = %v, want %q", tt.err, got, tt.want)
		}
	}
}

// Nothing that could come as a message makes the decoder fall over, or gives a ban without an address.
func FuzzDecode(f *testing.F) {
	b := newBatch("tocsin")
	b.add("s", element{key: []byte{192, 0, 2, 1}, timeout: 5000, comment: "sshd"})
	b.add("s", element{key: []byte{192, 0, 2, 2}, end: true})
	b.newSet("s", addrType(v4), unix.NFT_SET_TIMEOUT, "comment")
	wire, _ := b.seal(1, true)
	f.Add(wire)
	f.Add([]byte{})
	now := time.Unix(1e9, 0)
	f.Fuzz(func(t *testing.T, b []byte) {
		for m := range messages(b) {
			_ = m.err()
			_ = belongs(m, "tocsin")
			var part strings.Builder
			describe(&part, m)
			var all []found
			decodeElements(m, func(e found) { all = append(all, e) })
			for k := range kinds {
				for _, d := range decisions(scope{}, k, all, now) {
					if !d.Prefix.IsValid() || d.Prefix != d.Prefix.Masked() {
						t.Fatalf("a ban of %v", d.Prefix)
					}
				}
			}
		}
	})
}
