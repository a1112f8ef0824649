package tocsin

import "time"

// Notice is one message on its way to one receiver of a contact. A message to several receivers is several of them, so
// that one that is down holds up no other.
type Notice struct {
	ID       int64  // its number in the outbox
	Contact  string // the contact's name
	Via      string // by which of its ways: "mail", "ntfy", "webhook", "command"
	Incident int64  // 0: it is about none, as a digest
	Kind     string // a word of notify's: what happened
	Urgency  Urgency
	Made     time.Time
	Due      time.Time // not sent before
	Tries    int
	Fold     bool // beyond what the contact takes in an hour: all that fold become one message
	State    NoticeState
	Ended    time.Time // when it was sent, or given up; zero while it waits
	Said     string    // what the receiver answered last; a stranger's text
	Body     []byte    // notify's own; nobody else reads it
}

// NoticeState says how far a notice came.
type NoticeState uint8

// The states of a notice. Failed: it was refused for good, or a day was not enough.
const (
	Waiting NoticeState = iota
	Sent
	Failed
)

func (s NoticeState) String() string { return word("state", int(s), "waiting", "sent", "failed") }
