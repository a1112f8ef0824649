package probe

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/s2"
)

// maxPluginText bounds what UnpackText unpacks: more than the runner lets a plugin print.
const maxPluginText = 8 << 20

// PluginList is what the runner knows of the plugins.
type PluginList struct {
	Plugins  []Plugin
	Problems []string // with how they are to be run
}

// Plugin is one of them.
type Plugin struct {
	Name    string        `json:"n"`
	Rate    time.Duration `json:"r,omitempty"` // update_rate of plugin-conf.d; 0: it says nothing
	Timeout time.Duration `json:"t,omitempty"` // after which the runner kills it
}

type wirePlugins struct {
	Version  int      `json:"v"`
	Plugins  []Plugin `json:"p,omitempty"`
	Problems []string `json:"w,omitempty"`
}

// EncodePlugins makes a word without spaces of a list, DecodePlugins is the other way.
func EncodePlugins(l PluginList) string {
	text, err := json.Marshal(wirePlugins{1, l.Plugins, l.Problems})
	if err != nil {
		panic("BUG: probe: a list of plugins is no JSON: " + err.Error())
	}
	return PackText(text)
}

// DecodePlugins reads what EncodePlugins made.
func DecodePlugins(word string) (PluginList, error) {
	text, err := UnpackText(word)
	if err != nil {
		return PluginList{}, err
	}
	var w wirePlugins
	if err := json.Unmarshal(text, &w); err != nil {
		return PluginList{}, fmt.Errorf("list of the runner: %w", err)
	}
	if w.Version != 1 {
		return PluginList{}, fmt.Errorf("list of the runner: version %d; the runner is of another version: restart it", w.Version)
	}
	return PluginList{w.Plugins, w.Problems}, nil
}

// PackText makes a word without spaces of what a plugin printed, which may be any bytes.
func PackText(text []byte) string { return base64.StdEncoding.EncodeToString(s2.Encode(nil, text)) }

// UnpackText is the other way.
func UnpackText(word string) ([]byte, error) {
	packed, err := base64.StdEncoding.DecodeString(word)
	if err != nil {
		return nil, fmt.Errorf("text of the runner: %w", err)
	}
	if n, err := s2.DecodedLen(packed); err != nil || n > maxPluginText {
		return nil, errors.New("text of the runner: too long, or torn")
	}
	text, err := s2.Decode(nil, packed)
	if err != nil {
		return nil, fmt.Errorf("text of the runner: %w", err)
	}
	return text, nil
}
