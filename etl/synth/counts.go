package synth

// How many strikes a tile has on a day in which it is struck: many have few, few have many. The law is one table of
// quantiles for all days, stretched by how busy the day is. August 2018 has 21.6 strikes a row, the rest of that year
// 10.8, all of it quartiles 2, 4 and 12.

// lawSize is the number of quantiles; a draw is 16 random bits.
const lawSize = 1 << 16

// lawUnit is the strikes of the law, less one, in fractions.
const lawUnit = 64

// knots are points of the quantile function: strikes less one, times lawUnit, at so many 65536ths.
var knots = [...]struct{ at, strikes uint32 }{
	{0, 0},
	{6554, 10},            // 10 %
	{16384, 60},           // 25 %
	{32768, 195},          // 50 %
	{49152, 620},          // 75 %
	{58982, 1510},         // 90 %
	{62259, 2580},         // 95 %
	{64881, 5340},         // 99 %
	{65470, 15000},        // 99.9 %
	{65529, 38000},        // 99.99 %
	{lawSize - 1, 100000}, // the rest
}

// strikesLaw is the quantile function between the knots.
func strikesLaw() []uint32 {
	law := make([]uint32, lawSize)
	for i := 1; i < len(knots); i++ {
		a, b := knots[i-1], knots[i]
		for at := a.at; at <= b.at; at++ {
			law[at] = a.strikes + (b.strikes-a.strikes)*(at-a.at)/(b.at-a.at)
		}
	}
	return law
}

// stretch is how much longer than the law's the tail of a day is, in 1024ths.
func stretch(strikes int64, scale int64) uint64 { return uint64(462 + strikes*million/scale/378) }

// counts appends the strikes of the day's tiles that are not fixed. Their sum is the day's, less the fixed ones'.
func (p *plan) counts(d DayTotal, into []uint16) []uint16 {
	rest := d.Strikes
	for _, row := range p.fixed[d.Day] {
		rest -= int64(row.Strikes)
	}
	r := newRandom(p.spec.Seed, uint64(d.Day), 3)
	factor := stretch(d.Strikes, p.scale)
	const half = lawUnit * 1024 / 2
	for {
		word := r.next()
		for range 4 {
			n := int64(min(1+(uint64(p.law[word&(lawSize-1)])*factor+half)/(lawUnit*1024), mostStrikes))
			word >>= 16
			if n >= rest {
				if rest > 0 {
					into = append(into, uint16(rest))
				}
				return into
			}
			into = append(into, uint16(n))
			rest -= n
		}
	}
}
