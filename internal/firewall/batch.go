package firewall

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	headerLen = unix.NLMSG_HDRLEN + 4 // struct nlmsghdr and struct nfgenmsg
	// maxList is where a message's list of elements ends and the next message begins. The length of a netlink attribute
	// has 16 bits, and a longer one is not refused but silently cut (google/nftables v0.3.0 stores 59 of 2,400 elements).
	maxList = 40 << 10
)

// batch is one transaction for nf_tables: all of it happens, in one step that no packet can see the middle of, or nothing.
//
// Elements that are added to (or deleted from) the same set one after the other share a message.
type batch struct {
	table  string
	buf    []byte
	starts []int   // where each message begins, batch begin included
	labels []label // what each of them attempts

	list   int // where the open list of elements begins, 0 if none is open
	op     uint16
	set    string
	setIDs uint32
}

func newBatch(table string) *batch {
	b := &batch{table: table}
	b.reset()
	return b
}

// reset empties the batch and keeps its memory, unless one great restore has made it large.
func (b *batch) reset() {
	if cap(b.buf) > 1<<20 {
		b.buf = nil
	}
	b.buf, b.starts, b.labels = b.buf[:0], b.starts[:0], b.labels[:0]
	b.list, b.setIDs = 0, 0
	b.bound(unix.NFNL_MSG_BATCH_BEGIN)
}

// empty says whether there is nothing to do.
func (b *batch) empty() bool { return len(b.starts) == 1 }

// bound writes the message that begins or ends a transaction.
func (b *batch) bound(typ uint16) {
	b.starts = append(b.starts, len(b.buf))
	b.labels = append(b.labels, label{"change the rules", ""})
	b.header(typ, 0, unix.NFPROTO_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
}

func (b *batch) header(typ, flags uint16, family byte, res uint16) {
	b.buf = append(b.buf, 0, 0, 0, 0) // the length, known in seal
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, unix.NLM_F_REQUEST|flags)
	b.buf = append(b.buf, 0, 0, 0, 0, 0, 0, 0, 0) // number and port
	b.buf = append(b.buf, family, unix.NFNETLINK_V0)
	b.buf = binary.BigEndian.AppendUint16(b.buf, res)
}

// message begins a message of nf_tables. Its first attribute always is the table: every kind calls it number 1.
func (b *batch) message(typ, flags uint16, verb, object string) {
	b.closeList()
	b.starts = append(b.starts, len(b.buf))
	b.labels = append(b.labels, label{verb, object})
	b.header(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, unix.NFPROTO_INET, 0)
	b.text(unix.NFTA_TABLE_NAME, b.table)
}

// seal ends the transaction and fills in lengths and numbers, of which first belongs to its beginning. It returns what to
// send and the number of the message that asks for an acknowledgement.
func (b *batch) seal(first uint32, commit bool) (wire []byte, last uint32) {
	b.closeList()
	last = first + uint32(len(b.starts)) - 1
	if commit {
		b.bound(unix.NFNL_MSG_BATCH_END)
	}
	for i, at := range b.starts {
		end := len(b.buf)
		if i+1 < len(b.starts) {
			end = b.starts[i+1]
		}
		seq := first + uint32(i)
		binary.NativeEndian.PutUint32(b.buf[at:], uint32(end-at))
		binary.NativeEndian.PutUint32(b.buf[at+8:], seq)
		if seq == last {
			flags := binary.NativeEndian.Uint16(b.buf[at+6:])
			binary.NativeEndian.PutUint16(b.buf[at+6:], flags|unix.NLM_F_ACK)
		}
	}
	return b.buf, last
}

// label tells what message i attempts.
func (b *batch) label(i uint32) string { return b.labels[i].verb + b.labels[i].object }

// label is a message for people. Its two halves are joined only when something went wrong.
type label struct{ verb, object string }

// Attributes. Numbers are big endian in nf_tables; every attribute begins at a multiple of four.

func (b *batch) attr(typ uint16, data ...byte) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(4+len(data)))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = append(b.buf, data...)
	b.pad()
}

func (b *batch) text(typ uint16, s string) { b.buf = appendText(b.buf, typ, s) }

// appendText appends an attribute that holds a text and its final zero. What stood in buf must end at a multiple of four.
func appendText(buf []byte, typ uint16, s string) []byte {
	buf = binary.NativeEndian.AppendUint16(buf, uint16(5+len(s)))
	buf = binary.NativeEndian.AppendUint16(buf, typ)
	buf = append(buf, s...)
	return append(buf, make([]byte, align(len(s)+1)-len(s))...)
}

func (b *batch) u32(typ uint16, v uint32) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, 8)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = binary.BigEndian.AppendUint32(b.buf, v)
}

func (b *batch) u64(typ uint16, v uint64) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, 12)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = binary.BigEndian.AppendUint64(b.buf, v)
}

// nest begins an attribute made of attributes; end closes it.
func (b *batch) nest(typ uint16) (at int) {
	at = len(b.buf)
	b.buf = append(b.buf, 0, 0)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ|unix.NLA_F_NESTED)
	return at
}

func (b *batch) end(at int) {
	n := len(b.buf) - at
	if n > 1<<16-1 {
		panic("BUG: a netlink attribute of more than 64 KiB")
	}
	binary.NativeEndian.PutUint16(b.buf[at:], uint16(n))
}

func (b *batch) pad() {
	for len(b.buf)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
}

// comment writes user data that `nft list` shows as a comment. kind is its number, which differs from object to object.
func (b *batch) comment(typ uint16, kind byte, s string) {
	if s == "" {
		return
	}
	s = s[:min(len(s), maxComment)]
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(4+2+len(s)+1))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, typ)
	b.buf = append(b.buf, kind, byte(len(s)+1))
	b.buf = append(b.buf, s...)
	b.buf = append(b.buf, 0)
	b.pad()
}

// maxComment is the longest comment in bytes that nft takes (NFTNL_UDATA_COMMENT_MAXLEN, less its final zero).
const maxComment = 127

// element is what a set holds: a key, or in an interval set the begin or the end of a range.
type element struct {
	key     []byte
	end     bool   // the range ends before key
	timeout uint64 // milliseconds, 0: without end
	comment string
}

func (b *batch) add(set string, e element) { b.element(unix.NFT_MSG_NEWSETELEM, set, e) }

// del deletes an element. The kernel refuses the whole transaction if there is none, so whoever does not know adds first.
func (b *batch) del(set string, e element) { b.element(unix.NFT_MSG_DELSETELEM, set, e) }

func (b *batch) element(op uint16, set string, e element) {
	if b.list == 0 || b.op != op || b.set != set || len(b.buf)-b.list > maxList {
		b.openList(op, set)
	}
	item := b.nest(unix.NFTA_LIST_ELEM)
	key := b.nest(unix.NFTA_SET_ELEM_KEY)
	b.attr(unix.NFTA_DATA_VALUE, e.key...)
	b.end(key)
	if e.end {
		b.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	if op == unix.NFT_MSG_NEWSETELEM {
		if e.timeout != 0 {
			b.u64(unix.NFTA_SET_ELEM_TIMEOUT, e.timeout)
		}
		b.comment(unix.NFTA_SET_ELEM_USERDATA, udataElementComment, e.comment)
	}
	b.end(item)
}

func (b *batch) openList(op uint16, set string) {
	var flags uint16
	verb := "delete elements of set "
	if op == unix.NFT_MSG_NEWSETELEM {
		flags, verb = unix.NLM_F_CREATE, "add elements to set "
	}
	b.message(op, flags, verb, set)
	b.text(unix.NFTA_SET_ELEM_LIST_SET, set)
	b.op, b.set = op, set
	b.list = b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
}

func (b *batch) closeList() {
	if b.list != 0 {
		b.end(b.list)
		b.list = 0
	}
}

// grow makes room for n bytes more.
func (b *batch) grow(n int) { b.buf = slices.Grow(b.buf, n) }

// flush empties a set.
func (b *batch) flush(set string) {
	b.message(unix.NFT_MSG_DELSETELEM, 0, "empty set ", set)
	b.text(unix.NFTA_SET_ELEM_LIST_SET, set)
}

// Numbers of nf_tables and libnftnl that x/sys/unix lacks.
const (
	nftaTableHandle   = 4
	nftaTableUserdata = 6
	nftaChainUserdata = 12
	nftaSetHandle     = 16
	nftaSetCount      = 20 // since Linux 6.17: how many elements the set holds

	udataTableComment   = 0
	udataChainComment   = 0
	udataRuleComment    = 0
	udataElementComment = 0
	udataSetComment     = 7
)

func (b *batch) addTable(comment string) {
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "add table ", b.table)
	b.u32(unix.NFTA_TABLE_FLAGS, 0)
	b.comment(nftaTableUserdata, udataTableComment, comment)
}

func (b *batch) delTable() {
	b.message(unix.NFT_MSG_DELTABLE, 0, "delete table ", b.table)
}

// baseChain adds a chain that sees every incoming packet, before it is known where it goes.
func (b *batch) baseChain(name string, priority int32, comment string) {
	b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, "add chain ", name)
	b.text(unix.NFTA_CHAIN_NAME, name)
	hook := b.nest(unix.NFTA_CHAIN_HOOK)
	b.u32(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_PRE_ROUTING)
	b.u32(unix.NFTA_HOOK_PRIORITY, uint32(priority))
	b.end(hook)
	b.u32(unix.NFTA_CHAIN_POLICY, verdictAccept)
	b.text(unix.NFTA_CHAIN_TYPE, "filter")
	b.comment(nftaChainUserdata, udataChainComment, comment)
}

const verdictAccept = 1 // NF_ACCEPT

func (b *batch) chain(name, comment string) {
	b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, "add chain ", name)
	b.text(unix.NFTA_CHAIN_NAME, name)
	b.comment(nftaChainUserdata, udataChainComment, comment)
}

// flushChain removes the rules of a chain.
func (b *batch) flushChain(name string) {
	b.message(unix.NFT_MSG_DELRULE, 0, "empty chain ", name)
	b.text(unix.NFTA_RULE_CHAIN, name)
}

func (b *batch) delChain(name string) {
	b.message(unix.NFT_MSG_DELCHAIN, 0, "delete chain ", name)
	b.text(unix.NFTA_CHAIN_NAME, name)
}

func (b *batch) delSet(name string) {
	b.message(unix.NFT_MSG_DELSET, 0, "delete set ", name)
	b.text(unix.NFTA_SET_NAME, name)
}

// rule appends a rule to a chain.
func (b *batch) rule(chain, comment string, exprs ...expr.Any) {
	b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, "add a rule to chain ", chain)
	b.text(unix.NFTA_RULE_CHAIN, chain)
	list := b.nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range exprs {
		data, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			panic(fmt.Sprintf("BUG: expression %T: %v", e, err))
		}
		b.attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data...)
	}
	b.end(list)
	b.comment(unix.NFTA_RULE_USERDATA, udataRuleComment, comment)
}

// keyType is a type of nft, by the number under which nft knows it (datatype.h of nftables), and its length in bytes.
type keyType struct{ magic, len uint32 }

// portType is inet_service.
var portType = keyType{13, 2}

// newSet adds a set. gcInterval (milliseconds) is given to sets with timeouts only.
func (b *batch) newSet(name string, key keyType, flags uint32, comment string) {
	b.sizedSet(name, key, flags, 0, comment)
}

// sizedSet adds a set that holds at most size elements, 0: any number. A hash set of known size has its buckets from the
// beginning, while the kernel makes another one larger again and again as it is filled.
func (b *batch) sizedSet(name string, key keyType, flags, size uint32, comment string) {
	b.setIDs++
	b.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, "add set ", name)
	b.text(unix.NFTA_SET_NAME, name)
	b.u32(unix.NFTA_SET_FLAGS, flags)
	b.u32(unix.NFTA_SET_KEY_TYPE, key.magic)
	b.u32(unix.NFTA_SET_KEY_LEN, key.len)
	b.u32(unix.NFTA_SET_ID, b.setIDs)
	if size != 0 {
		desc := b.nest(unix.NFTA_SET_DESC)
		b.u32(unix.NFTA_SET_DESC_SIZE, size)
		b.end(desc)
	}
	if flags&unix.NFT_SET_TIMEOUT != 0 {
		b.u32(unix.NFTA_SET_GC_INTERVAL, gcInterval)
	}
	b.comment(unix.NFTA_SET_USERDATA, udataSetComment, comment)
}

// gcInterval is how often, in milliseconds, the kernel frees what has timed out. An element stops to match at once, so
// this is about memory only; the kernel's own choice of a second walks large sets all day.
const gcInterval = 30_000
