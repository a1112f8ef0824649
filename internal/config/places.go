package config

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strconv"
)

// placeLine is a line that sets a place, without the blanks around it: the key, and what stands behind the "=".
var placeLine = regexp.MustCompile(`^["']?(state|socket)["']?[ \t]*=[ \t]*(.*)$`)

// Places finds state and socket in the file at path however many mistakes stand beside them: whoever must leave through the
// emergency exit cannot mend a file first. It reads the lines before the first table header, each by itself, takes texts
// whose quotes are missing too, and the first of two. A key that is not there, or whose value is no path even so, is "",
// and so are both where the file cannot be read.
func Places(path string) (state, socket string) {
	f, err := os.Open(path)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return "", ""
	}
	return places(data)
}

func places(data []byte) (state, socket string) {
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		line = bytes.TrimSpace(line)
		if bytes.HasPrefix(line, []byte("[")) {
			break
		}
		m := placeLine.FindSubmatch(line)
		if m == nil {
			continue
		}
		switch value := leniently(string(m[2])); {
		case string(m[1]) == "state" && state == "" && checkPath(value) == nil:
			state = value
		case string(m[1]) == "socket" && socket == "" && checkSocket(value) == nil:
			socket = value
		}
	}
	return state, socket
}

var (
	basicText   = regexp.MustCompile(`^"(?:[^"\\]|\\.)*"`)
	literalText = regexp.MustCompile(`^'[^']*'`)
	bareText    = regexp.MustCompile(`^["']?([^"'#]*[^"'# \t])`)
)

// leniently reads a text of TOML, or what was meant for one: without quotes, or with one of them.
func leniently(s string) string {
	if quoted := basicText.FindString(s); quoted != "" {
		if text, err := strconv.Unquote(quoted); err == nil {
			return text
		}
		return quoted[1 : len(quoted)-1]
	}
	if quoted := literalText.FindString(s); quoted != "" {
		return quoted[1 : len(quoted)-1]
	}
	if m := bareText.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}
