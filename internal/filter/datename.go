package filter

// Matched tells where Find found the last date: which line of the datepattern fits it, from 0, and which of the formats
// known by default, from 1 in the order of fail2ban's own list. The format is 0 if the line describes one of its own.
func (d *Dates) Matched() (line, format int) {
	e := d.patterns[d.last].expr
	switch {
	case e == nil:
		return d.last, int(d.learnt)
	case len(e.fields) == 1:
		return d.last, 0
	}
	format = e.rule + 1
	if format >= int(formatEpoch) {
		format++ // datesWithin leaves it out
	}
	return d.last, format
}

// Blank tells which line of the datepattern fitted the last text although it holds no date: such a pattern says which
// lines have none.
func (d *Dates) Blank() (line int, ok bool) {
	for i := range d.patterns {
		if e := d.patterns[i].expr; e != nil && e.blank {
			return i, true
		}
	}
	return 0, false
}
