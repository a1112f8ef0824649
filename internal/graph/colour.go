package graph

import (
	"encoding/hex"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// rgb is a colour.
type rgb [3]uint8

var (
	black = rgb{}
	white = rgb{255, 255, 255}
)

// hex is the colour as CSS writes it, in the short form where there is one.
func (c rgb) hex() string {
	s := hex.EncodeToString(c[:])
	if s[0] == s[1] && s[2] == s[3] && s[4] == s[5] {
		s = s[0:1] + s[2:3] + s[4:5]
	}
	return "#" + s
}

// parseColour reads RRGGBB, with or without a # before and an opacity behind.
func parseColour(text string) (c rgb, ok bool) {
	text = strings.TrimPrefix(strings.TrimSpace(text), "#")
	if len(text) != 6 && len(text) != 8 {
		return c, false
	}
	_, err := hex.Decode(c[:], []byte(text[:6]))
	return c, err == nil
}

// fieldColour is a field's colour: its own, or the n-th of the palette.
func fieldColour(text string, palette []rgb, n int) rgb {
	if index, ok := strings.CutPrefix(text, "COLOUR"); ok {
		if i, err := strconv.ParseUint(index, 10, 32); err == nil {
			return palette[i%uint64(len(palette))]
		}
	}
	if c, ok := parseColour(text); ok {
		return c
	}
	return palette[n%len(palette)]
}

// palettes are Munin's.
var palettes = map[string][]rgb{
	"default": list("00CC00 0066B3 FF8000 FFCC00 330099 990099 CCFF00 FF0000 808080 008F00 00487D B35A00 B38F00 6B006B 8FB300 B30000 BEBEBE 80FF80 80C9FF FFC080 FFE680 AA80FF EE00CC FF8080 666600 FFBFFF 00FFCC CC6699 999900"),
	"old":     list("22ff22 0022ff ff0000 00aaaa ff00ff ffa500 cc0000 0000cc 0080C0 8080C0 FF0080 800080 688e23 408080 808000 000000 00FF00 0080FF FF8000 800000 FB31FB"),
}

func list(text string) (all []rgb) {
	for s := range strings.FieldsSeq(text) {
		c, _ := parseColour(s)
		all = append(all, c)
	}
	return all
}

// luminance is how bright a colour is, 0 to 1 (WCAG 2, relative luminance).
func (c rgb) luminance() float64 {
	part := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*part(c[0]) + 0.7152*part(c[1]) + 0.0722*part(c[2])
}

// contrast is that of two colours, 1 to 21 (WCAG 2).
func contrast(a, b rgb) float64 {
	x, y := a.luminance(), b.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// mix is c with so much of other, 0 to 1, in it.
func (c rgb) mix(other rgb, share float64) rgb {
	for i := range c {
		c[i] = uint8(math.Round(float64(c[i])*(1-share) + float64(other[i])*share))
	}
	return c
}

// against is c, brought nearer to toward until it can be told from the background.
func (c rgb) against(background, toward rgb, least float64) rgb {
	seen := c
	for share := 0.05; contrast(seen, background) < least && share <= 1; share += 0.05 {
		seen = c.mix(toward, share)
	}
	return seen
}

// ink is a colour in both themes.
type ink struct{ light, dark rgb }

// The inks of what is not a curve. Text has a contrast of 4.5 and more to the paper.
var (
	paper    = ink{white, rgb{0x16, 0x1a, 0x1e}}
	letters  = ink{rgb{0x1c, 0x20, 0x24}, rgb{0xe6, 0xe9, 0xec}}
	muted    = ink{rgb{0x56, 0x5f, 0x69}, rgb{0x9f, 0xa9, 0xb3}}
	faint    = ink{rgb{0xe6, 0xe9, 0xed}, rgb{0x2a, 0x30, 0x37}}
	stronger = ink{rgb{0xcb, 0xd1, 0xd8}, rgb{0x43, 0x4b, 0x55}}
	frame    = ink{rgb{0x7b, 0x85, 0x90}, rgb{0x76, 0x80, 0x8b}}
	pale     = ink{rgb{0x8a, 0x93, 0x9d}, rgb{0x8a, 0x93, 0x9d}}
	amber    = ink{rgb{0xb4, 0x6a, 0x00}, rgb{0xf2, 0xa9, 0x3b}}
	red      = ink{rgb{0xc4, 0x1d, 0x1d}, rgb{0xff, 0x6b, 0x6b}}
)

// inkOf is a curve's colour on both papers: Munin's own where it can be seen there. A thin line needs more than an area.
func inkOf(c rgb, area bool) ink {
	switch {
	case c == black:
		return letters
	case area:
		return ink{c.against(paper.light, black, 1.1), c.against(paper.dark, white, 1.4)}
	}
	return ink{c.against(paper.light, black, 1.6), c.against(paper.dark, white, 2.5)}
}

func sortedColours(set map[rgb]bool) []rgb {
	return slices.SortedFunc(maps.Keys(set), func(a, b rgb) int { return slices.Compare(a[:], b[:]) })
}
