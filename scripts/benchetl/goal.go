package main

import "fmt"

// Works of the parts. A goal is of one of them.
const (
	workWhole   = "files in GCS to tables in Postgres"
	workSums    = "raw files to sums by day, month, cell and month"
	workParse   = "raw files to checked rows, one core"
	workOneCore = "raw files to Parquet, one core"
	workHeap    = "cells into a table without index"
	workStream  = "one stream"
	workStreams = "four streams"
)

// The goals, on two processors.
const (
	wholeSeconds = 60
	wholePeak    = 1 << 30 // bytes
	ingestRate   = 5e6     // rows a second of one core
	loadRate     = 2.5e6   // rows a second
	copyRate     = 150e6   // bytes a second
	goalYears    = 34
)

// goal is what the pipeline should reach, and did or did not.
type goal struct {
	name, wanted, measured string
	held                   bool
}

func (g goal) verdict() string {
	if g.held {
		return "yes"
	}
	return "no"
}

// goals are those of which there are figures. Of the whole pipeline there is one over all years only.
func (r *Report) goals() []goal {
	var out []goal
	add := func(c Cell, name, wanted, measured string, held bool) {
		if c.N > 0 {
			out = append(out, goal{name, wanted, measured, held})
		}
	}
	if r.Years == goalYears {
		c := r.cell(partPipeline, workWhole, ours)
		add(c, "whole pipeline", "at most 60 s", fmt.Sprintf("%.1f s", c.Max), c.Max <= wholeSeconds)
		add(c, "its memory", "at most 1024 MiB", mebibytes(c.Peak), c.Peak <= wholePeak)
	}
	for _, g := range []struct {
		part, work, name, wanted string
		rate                     float64
	}{
		{partIngest, workParse, "ingest on one core: read and check", "at least 5 M rows/s", ingestRate},
		{partIngest, workOneCore, "the same, and Parquet", "at least 5 M rows/s", ingestRate},
		{partLoad, workHeap, "load into a heap", "at least 2.5 M rows/s", loadRate},
		{partCopy, workStream, "copy in one stream", "at least 150 MB/s", copyRate},
	} {
		c := r.cell(g.part, g.work, ours)
		add(c, g.name, g.wanted, c.rate(c.Rate), c.Rate >= g.rate)
	}
	return out
}
