package synth

import (
	_ "embed" // golden.yaml
	"fmt"
	"math"

	"github.com/duoflow/duoflow/etl/tile"
	"github.com/goccy/go-yaml"
)

//go:embed golden.yaml
var goldenText []byte

// golden is golden.yaml, key by key.
type golden struct {
	Years      map[int]int64    `yaml:"years"`
	Of2018     []int64          `yaml:"months_2018"`
	Of2016     map[int]int64    `yaml:"months_2016"`
	Of2017     map[int]int64    `yaml:"months_2017"`
	Of2019     map[int]int64    `yaml:"months_2019"`
	Quarters   []int64          `yaml:"quarters_2009"`
	TopDays    map[string]int64 `yaml:"top_days_2018"`
	TopTiles   []topTile        `yaml:"top_tiles_2018"`
	Missing    []string         `yaml:"missing_days_2018"`
	Rows       int64            `yaml:"rows_2018"`
	RowsAugust int64            `yaml:"rows_2018_08"`
	Tiles      int              `yaml:"tiles_2018"`
	Ranges     ranges           `yaml:"ranges_2018"`
	Guess      struct {
		Years   map[int]int64 `yaml:"years"`
		Shape   []int64       `yaml:"shape"`
		LastDay string        `yaml:"last_day_2020"`
	} `yaml:"guess"`
}

type topTile struct {
	Day     string  `yaml:"day"`
	Lat     float64 `yaml:"lat"`
	Lon     float64 `yaml:"lon"`
	Strikes int32   `yaml:"strikes"`
}

type ranges struct {
	Lon       []float64 `yaml:"lon"`
	Lat       []float64 `yaml:"lat"`
	Strikes   []int32   `yaml:"strikes"`
	Quartiles []int32   `yaml:"quartiles"`
	Mean      float64   `yaml:"mean"`
}

func readGolden() (*golden, error) {
	var g golden
	if err := yaml.UnmarshalWithOptions(goldenText, &g, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("read golden.yaml: %w", err)
	}
	return &g, nil
}

// total is what the year must come to.
func (g *golden) total(year int) int64 {
	if n, ok := g.Years[year]; ok {
		return n
	}
	return g.Guess.Years[year]
}

// months are the known totals of a year's months, by number; absent ones are free.
func (g *golden) months(year int) map[int]int64 {
	switch year {
	case 2016:
		return g.Of2016
	case 2017:
		return g.Of2017
	case 2018:
		all := map[int]int64{}
		for i, n := range g.Of2018 {
			all[i+1] = n
		}
		return all
	case 2019:
		return g.Of2019
	}
	return nil
}

// topDays are the known totals of days. No other day of the year reaches the least of them.
func (g *golden) topDays(year int) (map[tile.Day]int64, error) {
	days := map[tile.Day]int64{}
	if year != 2018 {
		return days, nil
	}
	for name, n := range g.TopDays {
		d, err := tile.ParseDay(name)
		if err != nil {
			return nil, fmt.Errorf("golden.yaml: %w", err)
		}
		days[d] = n
	}
	return days, nil
}

// unknown are the days of the year of which nothing is known, so that no row may exist.
func (g *golden) unknown(year int) (map[tile.Day]bool, error) {
	days := map[tile.Day]bool{}
	switch year {
	case 2018:
		for _, name := range g.Missing {
			d, err := tile.ParseDay(name)
			if err != nil {
				return nil, fmt.Errorf("golden.yaml: %w", err)
			}
			days[d] = true
		}
	case 2020:
		last, err := tile.ParseDay(g.Guess.LastDay)
		if err != nil {
			return nil, fmt.Errorf("golden.yaml: %w", err)
		}
		for d := last + 1; d <= tile.Chunk("2020").Last(); d++ {
			days[d] = true
		}
	}
	return days, nil
}

// fixed are rows that the year must have as they are: its top tiles, and one tile at each edge of what was seen.
func (g *golden) fixed(year int, scale int64) (map[tile.Day][]tile.Row, error) {
	rows := map[tile.Day][]tile.Row{}
	if year != 2018 {
		return rows, nil
	}
	edges, _ := tile.DayOf(2018, 7, 1)
	south, north, west, east := tenths(g.Ranges.Lat[0]), tenths(g.Ranges.Lat[1]), tenths(g.Ranges.Lon[0]), tenths(g.Ranges.Lon[1])
	rows[edges] = []tile.Row{
		{Day: edges, Lat10: south, Lon10: -900, Strikes: 1}, {Day: edges, Lat10: north, Lon10: -950, Strikes: 1},
		{Day: edges, Lat10: 450, Lon10: west, Strikes: 1}, {Day: edges, Lat10: 300, Lon10: east, Strikes: 1},
	}
	if scale != million {
		return rows, nil
	}
	for _, t := range g.TopTiles {
		d, err := tile.ParseDay(t.Day)
		if err != nil {
			return nil, fmt.Errorf("golden.yaml: %w", err)
		}
		rows[d] = append(rows[d], tile.Row{Day: d, Lat10: tenths(t.Lat), Lon10: tenths(t.Lon), Strikes: t.Strikes})
	}
	return rows, nil
}

func tenths(degrees float64) int16 { return int16(math.Round(degrees * 10)) }
