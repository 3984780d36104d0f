package synth

import "math/bits"

// random is SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014). Not the standard
// library's: its streams are promised to stay, and so are these, but these we can promise ourselves.
type random struct{ state uint64 }

const golden64 = 0x9e3779b97f4a7c15 // 2^64 / phi

// newRandom is the stream of a seed and what it is for.
func newRandom(seed uint64, purpose ...uint64) random {
	r := random{seed}
	for _, p := range purpose {
		r.state = r.next() ^ p*golden64
	}
	return r
}

func (r *random) next() uint64 {
	r.state += golden64
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below is in 0..n-1, n > 0.
func (r *random) below(n int) int {
	high, _ := bits.Mul64(r.next(), uint64(n))
	return int(high)
}
