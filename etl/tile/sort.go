package tile

import (
	"cmp"
	"math/bits"
	"slices"
)

// Compare orders rows by day, latitude, longitude and strikes: the order of Sort.
func Compare(a, b Row) int {
	return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Lat10, b.Lat10), cmp.Compare(a.Lon10, b.Lon10), cmp.Compare(a.Strikes, b.Strikes))
}

// Sorted tells whether the rows stand in the order of Sort.
func (t *Table) Sorted() bool {
	for i := 1; i < t.Len(); i++ {
		if t.Day[i] == t.Day[i-1] && t.Lat10[i] == t.Lat10[i-1] && t.Lon10[i] > t.Lon10[i-1] {
			continue // nearly always
		}
		if Compare(t.Row(i-1), t.Row(i)) > 0 {
			return false
		}
	}
	return true
}

// Sort orders the rows by day, latitude, longitude and, where these are equal, strikes: the result depends on the set of
// rows alone. It takes 16 bytes a row beside the table while it works.
func (t *Table) Sort() {
	if t.Sorted() {
		return
	}
	p, ok := t.packing()
	if !ok {
		t.sortRows()
		return
	}
	keys := make([]uint64, t.Len())
	for i := range keys {
		keys[i] = p.pack(t.Row(i))
	}
	for i, k := range radix(keys, p.width()) {
		r := p.unpack(k)
		t.Day[i], t.Lat10[i], t.Lon10[i], t.Strikes[i] = r.Day, r.Lat10, r.Lon10, r.Strikes
	}
}

// sortRows is for tables whose values reach too far to fit a row into 64 bits; tiles of the network never do.
func (t *Table) sortRows() {
	rows := make([]Row, t.Len())
	for i := range rows {
		rows[i] = t.Row(i)
	}
	slices.SortFunc(rows, Compare)
	t.Truncate(0)
	for _, r := range rows {
		t.Append(r)
	}
}

// packing says how a row becomes one number that orders as rows do: each column less its minimum, in as many bits as its
// range takes. A year of tiles takes 9+9+10 bits and 17 for the strikes.
type packing struct {
	least                  Row
	day, lat, lon, strikes uint // bits
}

// packing is false if a row does not fit.
func (t *Table) packing() (packing, bool) {
	least := Row{Day: slices.Min(t.Day), Lat10: slices.Min(t.Lat10), Lon10: slices.Min(t.Lon10), Strikes: slices.Min(t.Strikes)}
	reach := func(low, high int64) uint { return uint(bits.Len64(uint64(high - low))) }
	p := packing{
		least:   least,
		day:     reach(int64(least.Day), int64(slices.Max(t.Day))),
		lat:     reach(int64(least.Lat10), int64(slices.Max(t.Lat10))),
		lon:     reach(int64(least.Lon10), int64(slices.Max(t.Lon10))),
		strikes: reach(int64(least.Strikes), int64(slices.Max(t.Strikes))),
	}
	return p, p.width() <= 64
}

func (p *packing) width() uint { return p.day + p.lat + p.lon + p.strikes }

func (p *packing) pack(r Row) uint64 {
	k := uint64(int64(r.Day) - int64(p.least.Day))
	k = k<<p.lat | uint64(int64(r.Lat10)-int64(p.least.Lat10))
	k = k<<p.lon | uint64(int64(r.Lon10)-int64(p.least.Lon10))
	return k<<p.strikes | uint64(int64(r.Strikes)-int64(p.least.Strikes))
}

func (p *packing) unpack(k uint64) Row {
	low := func(n uint) int64 {
		v := k & (1<<n - 1)
		k >>= n
		return int64(v)
	}
	strikes, lon, lat := low(p.strikes), low(p.lon), low(p.lat)
	return Row{
		Day:     Day(int64(k) + int64(p.least.Day)),
		Lat10:   int16(lat + int64(p.least.Lat10)),
		Lon10:   int16(lon + int64(p.least.Lon10)),
		Strikes: int32(strikes + int64(p.least.Strikes)),
	}
}

// digit is the bits that one pass of radix sorts by: its counters fit the first-level cache.
const digit = 11

// radix sorts keys of the given width in bits, the least digit first, and returns them; the argument is used up.
func radix(keys []uint64, width uint) []uint64 {
	other := make([]uint64, len(keys))
	for shift := uint(0); shift < width; shift += digit {
		var at [1 << digit]int
		for _, k := range keys {
			at[k>>shift&(1<<digit-1)]++
		}
		sum := 0
		for i, n := range at {
			at[i], sum = sum, sum+n
		}
		for _, k := range keys {
			d := k >> shift & (1<<digit - 1)
			other[at[d]] = k
			at[d]++
		}
		keys, other = other, keys
	}
	return keys
}
