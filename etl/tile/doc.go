// Package tile is the domain of the pipeline: how many cloud-to-ground lightning strikes one tile of 0.1 degree saw on
// one day (UTC), and tables of such rows by columns.
//
// A tile is known by its centre in tenths of a degree, so that no float ever takes part: -95.5 is -955. A tile absent on
// a day that has others is a true zero; a day with no tile at all is unknown.
// Source of the facts: NOAA/NCEI Severe Weather Data Inventory, NLDN tile summaries.
package tile
