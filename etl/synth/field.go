package synth

import (
	"math/bits"
	"slices"
)

// The grid is the box that 2018's tiles lie in.
const (
	south, west   = 166, -1418 // tenths of a degree of the first row and column
	rows, columns = 352, 987
	wordsPerRow   = (columns + 63) / 64
)

// climate says how much lightning there is, 0..9, at every fifth degree: from 51.7 N to 11.7 N, from 141.8 W to 41.8 W.
var climate = [...]string{
	"000012222222221110000",
	"000112223454332211000",
	"000111234566543221100",
	"000011356788754322110",
	"000001456788875433211",
	"000001455667795432211",
	"000001354335564332110",
	"000000123443333210000",
	"000000001222110000000",
}

// step is the distance of two characters of climate, in tiles.
const step = 50

// field is where lightning strikes: the tiles that it may strike, and how often.
type field struct {
	open    [rows][wordsPerRow]uint64
	centers []uint32 // of storms: row<<16 | column, each as often as its tile is likely
}

// openTiles is how many tiles are struck in a year, more or less: with the fixed ones, and those that are missed, 2018 has
// the 170,855 that were seen.
const openTiles = 170_856

// newField opens the likeliest tiles.
func newField() *field {
	var f field
	weights := make([]uint32, 0, rows*columns)
	for row := range rows {
		for column := range columns {
			weights = append(weights, likelihood(row, column))
		}
	}
	sorted := slices.Sorted(slices.Values(weights))
	least := sorted[len(sorted)-openTiles]
	left, total := openTiles, uint64(0)
	for i, w := range weights {
		if w < least || left == 0 {
			weights[i] = 0
			continue
		}
		left--
		f.open[i/columns][i%columns/64] |= 1 << (i % columns % 64)
		weights[i] += 4000 // the rim would else be seen too seldom
		total += uint64(weights[i])
	}
	f.centers = make([]uint32, 0, lawSize)
	run := uint64(0)
	for i, w := range weights {
		run += uint64(w)
		for uint64(len(f.centers)) < run*lawSize/total {
			f.centers = append(f.centers, uint32(i/columns)<<16|uint32(i%columns))
		}
	}
	return &f
}

// likelihood is climate between its characters, 0..22500, with a little of its own so that no two tiles are alike.
func likelihood(row, column int) uint32 {
	fromNorth := rows - 1 - row
	i, down := fromNorth/step, uint32(fromNorth%step)
	j, right := column/step, uint32(column%step)
	at := func(i, j int) uint32 { return uint32(climate[i][j] - '0') }
	above := at(i, j)*(step-right) + at(i, j+1)*right
	below := at(i+1, j)*(step-right) + at(i+1, j+1)*right
	grain := newRandom(uint64(row), uint64(column))
	return above*(step-down) + below*down + uint32(grain.below(64))
}

// pattern is one day's tiles.
type pattern [rows][wordsPerRow]uint64

// set marks a tile and tells whether it was not marked before.
func (p *pattern) set(row, column int) bool {
	word, bit := &p[row][column/64], uint64(1)<<(column%64)
	fresh := *word&bit == 0
	*word |= bit
	return fresh
}

// strike marks n more open tiles, in storms of some tens of tiles.
func (f *field) strike(p *pattern, n int, r *random) {
	reach := 2 + min(10, n/100) // a day with little lightning has small storms
	for tries := 0; n > 0; tries++ {
		if tries > 1<<20 { // every open tile is marked
			return
		}
		center := f.centers[r.next()&(lawSize-1)]
		row, column := int(center>>16), int(center&0xffff)
		high, wide, tilt := 1+r.below(reach), 1+r.below(2*reach), r.below(9)-4
		for y := -high; y <= high && n > 0; y++ {
			if row+y < 0 || row+y >= rows {
				continue
			}
			half := wide * (high*high - y*y) / (high * high)
			middle := column + y*tilt/4
			n -= f.run(p, row+y, max(0, middle-half), min(columns-1, middle+half), n, r)
		}
	}
}

// run marks about three quarters of the open tiles from..to of a row, at most n, and returns how many.
func (f *field) run(p *pattern, row, from, to, n int, r *random) (marked int) {
	for word := from / 64; word <= to/64 && from <= to; word++ {
		mask := ^uint64(0)
		if word == from/64 {
			mask &= ^uint64(0) << (from % 64)
		}
		if word == to/64 {
			mask &= ^uint64(0) >> (63 - to%64)
		}
		half, quarter := r.next(), r.next()
		fresh := mask & f.open[row][word] &^ p[row][word] & (half | quarter)
		for bits.OnesCount64(fresh) > n-marked {
			fresh &= fresh - 1
		}
		p[row][word] |= fresh
		marked += bits.OnesCount64(fresh)
	}
	return marked
}
