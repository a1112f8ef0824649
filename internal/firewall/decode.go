package firewall

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// message is one netlink message as it came from the kernel; data begins behind struct nlmsghdr.
type message struct {
	typ, flags uint16
	seq        uint32
	data       []byte
}

// messages splits what one read returned. It stops at the first message that does not fit.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			n := int(binary.NativeEndian.Uint32(b))
			if n < unix.NLMSG_HDRLEN || n > len(b) {
				return
			}
			m := message{
				typ:   binary.NativeEndian.Uint16(b[4:]),
				flags: binary.NativeEndian.Uint16(b[6:]),
				seq:   binary.NativeEndian.Uint32(b[8:]),
				data:  b[unix.NLMSG_HDRLEN:n],
			}
			if !yield(m) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

// attrs yields the attributes in b by number, without their flags. It stops at the first that does not fit.
func attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= 4 {
			n := int(binary.NativeEndian.Uint16(b))
			if n < 4 || n > len(b) {
				return
			}
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(typ, b[4:n]) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

func align(n int) int { return (n + 3) &^ 3 }

// attrs yields the attributes of a message of nf_tables, which stand behind struct nfgenmsg.
func (m message) attrs() iter.Seq2[uint16, []byte] {
	if len(m.data) < 4 {
		return attrs(nil)
	}
	return attrs(m.data[4:])
}

// kind is the number of the message within nf_tables, such as unix.NFT_MSG_NEWSET; ok is false for other subsystems.
func (m message) kind() (kind uint16, ok bool) {
	return m.typ & 0xff, m.typ>>8 == unix.NFNL_SUBSYS_NFTABLES
}

// err reads an answer: nil if it is an acknowledgement, else an error that wraps the kernel's syscall.Errno.
func (m message) err() error {
	if len(m.data) < 4 {
		return syscall.EBADMSG
	}
	errno := int32(binary.NativeEndian.Uint32(m.data))
	if errno == 0 {
		return nil
	}
	err := syscall.Errno(-errno)
	if m.flags&unix.NLM_F_ACK_TLVS == 0 || len(m.data) < 4+unix.NLMSG_HDRLEN {
		return err
	}
	for typ, data := range attrs(m.data[4+unix.NLMSG_HDRLEN:]) {
		if typ == unix.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w (%s)", err, cString(data))
		}
	}
	return err
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func beUint32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func beUint64(b []byte) uint64 {
	if len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// found is an element that a dump showed.
type found struct {
	key     []byte
	end     bool          // the end of a range
	timed   bool          // the kernel will remove it
	left    time.Duration // until then
	comment string
}

// decodeElements hands over the elements in one message of a dump. Keys are copied.
func decodeElements(m message, each func(found)) {
	for typ, list := range m.attrs() {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		for typ, item := range attrs(list) {
			if typ == unix.NFTA_LIST_ELEM {
				each(decodeElement(item))
			}
		}
	}
}

func decodeElement(item []byte) (e found) {
	for typ, data := range attrs(item) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			for typ, value := range attrs(data) {
				if typ == unix.NFTA_DATA_VALUE {
					e.key = bytes.Clone(value)
				}
			}
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = beUint32(data)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.timed, e.left = true, time.Duration(beUint64(data))*time.Millisecond
		case unix.NFTA_SET_ELEM_USERDATA:
			e.comment = decodeComment(data)
		}
	}
	return e
}

// decodeComment finds the comment in an element's user data, which is a list of kind, length, value.
func decodeComment(b []byte) string {
	for len(b) >= 2 {
		kind, n := b[0], int(b[1])
		if n > len(b)-2 {
			return ""
		}
		if kind == udataElementComment {
			return cString(b[2 : 2+n])
		}
		b = b[2+n:]
	}
	return ""
}
