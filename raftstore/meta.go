package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// Layout of bbolt's two meta pages: a 16 byte page header, then magic, version, page size and flags
// (4 bytes each), five 8 byte fields, and an FNV-1a sum of all those. Page 1 begins one page size in.
const (
	metaOffset   = 16
	metaSummed   = 56
	metaMagic    = 0xED0CDAED
	metaPageSize = 8 // where the page size is in it
)

// metaDoubt says why the file may have gone back in time: bbolt keeps two meta pages and, when the
// newer one is damaged, opens the file as of the transaction before without a word. A vote or an
// acknowledged entry is lost with it (seen with v1.5.0: one flipped byte brought back the older vote).
// "" = both are sound.
func metaDoubt(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	defer file.Close()
	size := int64(os.Getpagesize())
	first, known, err := readMeta(file, 0)
	if err != nil {
		return "", fmt.Errorf("read meta page 0 of %s: %w", path, err)
	}
	if first {
		size = known
	}
	second, _, err := readMeta(file, size)
	if err != nil {
		return "", fmt.Errorf("read meta page 1 of %s: %w", path, err)
	}
	if first && second {
		return "", nil
	}
	return "a meta page of " + diskFile + " is damaged, so its last transaction may be missing", nil
}

// readMeta checks the meta page at offset and returns the page size it tells.
func readMeta(file io.ReaderAt, offset int64) (sound bool, pageSize int64, err error) {
	page := make([]byte, metaSummed+8)
	if _, err := file.ReadAt(page, offset+metaOffset); errors.Is(err, io.EOF) {
		return false, 0, nil
	} else if err != nil {
		return false, 0, err
	}
	sum := fnv.New64a()
	_, _ = sum.Write(page[:metaSummed])
	sound = binary.NativeEndian.Uint32(page) == metaMagic &&
		binary.NativeEndian.Uint64(page[metaSummed:]) == sum.Sum64()
	return sound, int64(binary.NativeEndian.Uint32(page[metaPageSize:])), nil
}
