package reputation

import (
	"math/bits"
	"strconv"
)

// Points measure evidence, in fixed point: one is 1<<32. Sums of whole numbers do not depend on their order nor on the
// machine, so the same evidence gives the same score bit for bit.
type Points int64

// One is what a fully trusted organisation says that has just seen an attack.
const One Points = 1 << 32

func (p Points) String() string { return strconv.FormatFloat(float64(p)/float64(One), 'f', 4, 64) }

// times is p*q, both between 0 and a few thousand.
func (p Points) times(q Points) Points {
	neg := (p < 0) != (q < 0)
	hi, lo := bits.Mul64(uint64(max(p, -p)), uint64(max(q, -q)))
	r := Points(hi<<32 | lo>>32)
	if neg {
		return -r
	}
	return r
}

// per is n/d in points.
func per(n, d int64) Points { return Points((n << 32) / d) }

// roots are 2^(-1/2^k) for k from 1 on, in points.
var roots = [24]uint64{3037000500, 3611622603, 3938502376, 4112874773, 4202935003, 4248701965, 4271771996, 4283353945,
	4289156690, 4292061010, 4293513907, 4294240540, 4294603903, 4294785595, 4294876445, 4294921870, 4294944583, 4294955939,
	4294961618, 4294964457, 4294965876, 4294966586, 4294966941, 4294967119}

// halved is 2^(-x): 1 at 0, and 0 from 40 on.
func halved(x Points) Points {
	if x <= 0 {
		return One
	}
	whole := uint64(x >> 32)
	if whole >= 40 {
		return 0
	}
	y := uint64(One)
	frac := uint32(x)
	for _, root := range roots {
		if frac == 0 {
			break
		}
		if frac&(1<<31) != 0 {
			hi, lo := bits.Mul64(y, root)
			y = hi<<32 | lo>>32
		}
		frac <<= 1
	}
	return Points(y >> whole)
}

// score is the curve from points to what people see: 400/3·(1 − 2^(−P/0.9)), cut to whole numbers between 0 and 100.
// P = 1.8 gives 100: two organisations of full weight. One alone gives 71.
func score(p Points) int {
	if p <= 0 {
		return 0
	}
	return min(100, int(400*(One-halved((p*10+8)/9))/(3*One)))
}
