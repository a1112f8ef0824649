package probe

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// bbbAddress is where BigBlueButton's own web application listens on its machine, behind nginx.
const bbbAddress = "http://127.0.0.1:8090/bigbluebutton/api/"

// bbbProbe counts the meetings and people of a BigBlueButton server, and what it recorded: numbers alone, no names
// (https://docs.bigbluebutton.org/development/api/). The secret of its interface is root's; it does not leave the machine.
var bbbProbe = Probe{
	Name: "bigbluebutton", Doubles: []string{"bigbluebutton", "bbb"}, Interval: 30 * time.Second, Root: true,
	New: func(h *Host) (Reader, error) {
		secret, algorithms := h.bbbSecret()
		switch {
		case secret == "" && h.BigBlueButton != "":
			return nil, &Off{"no securitySalt in the properties of " + h.BigBlueButton}
		case secret == "":
			return nil, &Off{"no BigBlueButton here"}
		}
		return &bbbReader{h: h, api: bbbAddress, secret: secret, sha256: strings.Contains(algorithms, "sha256")}, nil
	},
}

// bbbSecret reads the properties: those of the package, then those of the operator.
func (h *Host) bbbSecret() (secret, algorithms string) {
	files := []string{"usr/share/bbb-web/WEB-INF/classes/bigbluebutton.properties", "etc/bigbluebutton/bbb-web.properties"}
	if h.BigBlueButton != "" {
		files = []string{filepath.Join(h.BigBlueButton, "*.properties")}
	}
	for _, text := range confFiles(h.Root, files...) {
		for line := range strings.Lines(string(text)) {
			key, value, ok := strings.Cut(line, "=")
			if value = strings.TrimSpace(value); !ok || value == "" {
				continue
			}
			switch strings.TrimSpace(key) {
			case "securitySalt":
				secret = value
			case "supportedChecksumAlgorithms":
				algorithms = value
			}
		}
	}
	return secret, algorithms
}

type bbbReader struct {
	h      *Host
	api    string
	secret string
	sha256 bool // else SHA-1, which all versions know
}

// bbbMeetings is the answer to getMeetings. What names people and meetings is not read.
type bbbMeetings struct {
	Code    string `xml:"returncode"`
	Key     string `xml:"messageKey"`
	Meeting []struct {
		People    float64 `xml:"participantCount"`
		Listeners float64 `xml:"listenerCount"`
		Voices    float64 `xml:"voiceParticipantCount"`
		Videos    float64 `xml:"videoCount"`
		Recording bool    `xml:"recording"`
		Breakout  bool    `xml:"isBreakout"`
	} `xml:"meetings>meeting"`
}

var (
	bbbMeetingsGraph = describe("bbb_meetings", `
		graph_title BigBlueButton meetings
		graph_args --base 1000 -l 0
		graph_vlabel meetings
		graph_category other
		meetings.label meetings
		breakout.label of these, breakout rooms
		recording.label being recorded`)
	bbbPeopleGraph = describe("bbb_people", `
		graph_title BigBlueButton people
		graph_args --base 1000 -l 0
		graph_vlabel people
		graph_category other
		people.label people
		voices.label with a microphone
		listeners.label who listen
		videos.label cameras
		largest.label in the largest meeting`)
	bbbRecordingsGraph = describe("bbb_recordings", `
		graph_title BigBlueButton recordings
		graph_args --base 1000 -l 0
		graph_vlabel recordings
		graph_category other
		published.label published
		waiting.label to be worked on`)
)

func (r *bbbReader) Read(ctx context.Context) ([]Reading, error) {
	const call = "getMeetings"
	sum := sha1.Sum([]byte(call + r.secret))
	checksum := hex.EncodeToString(sum[:])
	if r.sha256 {
		long := sha256.Sum256([]byte(call + r.secret))
		checksum = hex.EncodeToString(long[:])
	}
	body, err := statusPage(ctx, r.api+call+"?checksum="+checksum, "")
	if err != nil {
		if isRefused(err) {
			return nil, &Off{"BigBlueButton is installed, but does not run"}
		}
		// The address with the checksum is not told.
		return nil, fmt.Errorf("BigBlueButton: %s", strings.ReplaceAll(err.Error(), checksum, "..."))
	}
	out, err := parseBBB(body)
	if err != nil {
		return nil, err
	}
	published, _ := os.ReadDir(r.h.at("var/bigbluebutton/published/presentation"))
	waiting, _ := filepath.Glob(r.h.at("var/bigbluebutton/recording/status/recorded/*.done"))
	return append(out, readingOf(bbbRecordingsGraph, from(map[string]float64{"published": float64(len(published)), "waiting": float64(len(waiting))}))), nil
}

func parseBBB(body []byte) ([]Reading, error) {
	var m bbbMeetings
	if err := xml.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("BigBlueButton's answer: %w", err)
	}
	if m.Code != "SUCCESS" {
		if m.Key == "checksumError" {
			return nil, &Off{"BigBlueButton does not take the secret of its properties; run: bbb-conf --secret"}
		}
		return nil, errors.New("BigBlueButton refuses: " + plain(m.Code+" "+m.Key))
	}
	v := map[string]float64{"breakout": 0, "recording": 0, "people": 0, "voices": 0, "listeners": 0, "videos": 0, "largest": 0, "meetings": float64(len(m.Meeting))}
	for _, one := range m.Meeting {
		if one.Breakout {
			v["breakout"]++
		}
		if one.Recording {
			v["recording"]++
		}
		v["people"] += one.People
		v["voices"] += one.Voices
		v["listeners"] += one.Listeners
		v["videos"] += one.Videos
		v["largest"] = max(v["largest"], one.People)
	}
	return []Reading{readingOf(bbbMeetingsGraph, from(v)), readingOf(bbbPeopleGraph, from(v))}, nil
}
