package regex

// look writes a look-around, exactly if it can.
//
// The automaton decides three kinds: those of one character or none, which are conditions on the characters left and right
// of a place; and negative look-ahead over anything it decides itself, which it watches while it goes on. Any other is left
// out of the automaton's program, so that the program accepts more.
func (b *builder) look(n *node, next uint32) uint32 {
	if b.exact {
		sub := b.comp(n.subs[0], b.emit(inst{op: opSub}))
		look := inst{op: opLook, neg: n.neg, n: int32(n.back), arg: sub, out: next}
		if n.neg || !n.subs[0].captures() {
			look.alt = 1
		}
		return b.emit(look)
	}
	if conds, ok := places(n.subs[0], n.behind); ok {
		return b.places(conds, n.neg, next)
	}
	if !n.behind && n.neg {
		if sub, ok := b.watched(n.subs[0]); ok {
			return b.emit(inst{op: opWatch, arg: sub, out: next})
		}
	}
	b.approx = true
	return next
}

// watched writes the body of a negative look-ahead, if it is exact.
func (b *builder) watched(body *node) (uint32, bool) {
	approx, caps := b.approx, b.caps
	b.approx, b.caps = false, false
	sub := b.comp(body, b.emit(inst{op: opWatched}))
	ok := !b.approx && !watches(body)
	b.approx, b.caps = approx, caps
	return sub, ok
}

// watches tells whether the body holds a look-ahead that would itself be watched, or a conditional.
func watches(n *node) bool {
	if n.kind == kCond {
		return true
	}
	if n.kind == kLook {
		_, ok := places(n.subs[0], n.behind)
		return !ok
	}
	for _, s := range n.subs {
		if watches(s) {
			return true
		}
	}
	return false
}

// places turns the body of a look-around into conditions of which one must hold, if it is that simple.
func places(n *node, behind bool) ([]*node, bool) {
	switch n.kind {
	case kSet:
		if behind {
			return []*node{{kind: kAssert, assert: prevIn, set: n.set}}, true
		}
		return []*node{{kind: kAssert, assert: nextIn, set: n.set}}, true
	case kAssert:
		return []*node{n}, true
	case kAlt:
		var all []*node
		for _, s := range n.subs {
			conds, ok := places(s, behind)
			if !ok {
				return nil, false
			}
			all = append(all, conds...)
		}
		return all, true
	}
	return nil, false
}

// places writes conditions: one of them must hold, or with neg none.
func (b *builder) places(conds []*node, neg bool, next uint32) uint32 {
	at := next
	for i := len(conds) - 1; i >= 0; i-- {
		switch {
		case neg:
			opposite, ok := not(conds[i])
			if !ok {
				b.approx = true
				continue
			}
			at = b.assertion(opposite, at)
		case i == len(conds)-1:
			at = b.assertion(conds[i], next)
		default:
			at = b.alt(b.assertion(conds[i], next), at)
		}
	}
	return at
}

// not turns a condition into its opposite. The word boundaries have none: in an empty text neither \b nor \B holds.
func not(n *node) (*node, bool) {
	opposite := map[assertion]assertion{
		prevIn: prevNotIn, nextIn: nextNotIn,
		atBegin: notBegin, atBeginLine: notBeginLine, atEnd: notEnd, atEndOrFinal: notEndOrFinal, atEndLine: notEndLine,
	}
	op, ok := opposite[n.assert]
	return &node{kind: kAssert, assert: op, set: n.set}, ok
}
