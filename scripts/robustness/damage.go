package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
)

// pageBytes is what a file system and bbolt write at once.
const pageBytes = 4096

// flipByte changes one byte of a file, at an offset that is drawn among those that hold something.
func flipByte(path string, dice *rand.Rand) error {
	return change(path, func(text []byte) []byte {
		if at := held(text); at > 0 {
			text[dice.IntN(at)] ^= byte(1 + dice.IntN(255))
		}
		return text
	})
}

// cutFile ends a file at an offset that is drawn.
func cutFile(path string, dice *rand.Rand) error {
	return change(path, func(text []byte) []byte { return text[:dice.IntN(held(text)+1)] })
}

// tearPage has the second part of one page, from a sector's begin on, be what was there before anybody wrote: nothing.
func tearPage(path string, dice *rand.Rand) error {
	const sector = 512
	return change(path, func(text []byte) []byte {
		page := dice.IntN(held(text)/pageBytes+1) * pageBytes
		from := page + sector*(1+dice.IntN(pageBytes/sector-1))
		if from < len(text) {
			clear(text[from:min(page+pageBytes, len(text))])
		}
		return text
	})
}

// held is how long a file is without the zeros at its end.
func held(text []byte) int {
	for n := len(text); n > 0; n-- {
		if text[n-1] != 0 {
			return n
		}
	}
	return 0
}

// change writes a file anew, in place.
func change(path string, how func(text []byte) []byte) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("damage file: %w", err)
	}
	changed := how(text)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("damage file: %w", err)
	}
	_, err = file.WriteAt(changed, 0)
	if err := errors.Join(err, file.Truncate(int64(len(changed))), file.Close()); err != nil {
		return fmt.Errorf("damage file: %w", err)
	}
	return nil
}
