// Package synth makes tiles that are not real: totals, shape and holes are those of the published dataset, each single
// row is invented.
//
// What is published (golden.yaml) is met exactly: totals of years, months and quarters, the top days and tiles of 2018, its
// missing days, the partial 2020. Rows, distinct tiles and quartiles of 2018 are met within a percent. Years without a
// published total are guessed, as golden.yaml says.
//
// The same Spec gives the same rows, and the same bytes of a file, on every machine: integers only, a random generator of
// our own, a packer of a pinned version. Whatever is written says "synthetic" where its format has a place for it.
package synth
