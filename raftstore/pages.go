package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Layout of a bbolt file below its meta pages. A page, with those that it overflows into, begins with its number (8 bytes), kind
// (2), count of elements (2) and of overflow pages (4). An element is 16 bytes and says where, from itself, its key lies: of a
// branch that (4), the key's length (4) and the page below (8), of a leaf a flag (4), that, the key's length and its value's, which
// follows the key. A leaf with the flag is a bucket: its value begins with the number of its root, or 0 and, 8 bytes on, with
// the one page that it has. The free list is a count of numbers, of 8 bytes each; 0xFFFF says that the first of them is the count.
const (
	pageHeader   = 16
	elementBytes = 16
	bucketBytes  = 16

	kindBranch   = 0x01
	kindLeaf     = 0x02
	kindFreelist = 0x10
	bucketFlag   = 0x01

	metaRoot     = 16 // where the number of the root's page is in a meta page
	metaFreelist = 32 // that of the free list's
	metaEnd      = 40 // that of the first page which is in no use
	metaTx       = 48 // the transaction

	pagesDeep = 16 // a tree of bbolt that is deeper is none
)

// pages checks the tree of a bbolt file before bbolt maps it. bbolt itself looks at none of it when it opens a file, and takes
// what it finds for addresses: one flipped byte ends the process with a panic, at once or in the middle of a later write, and
// one in the free list has it write over a page that is in use.
type pages struct {
	file  io.ReaderAt
	size  int64           // of a page
	end   uint64          // number of the first page that is in no use
	taken map[uint64]bool // pages seen so far
}

// checkPages wants every page of the newest transaction to be what it must be, and to be in use once or free once. The error says
// which is not.
func checkPages(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	meta, size, err := newestMeta(file)
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	p := &pages{file: file, size: size, end: binary.NativeEndian.Uint64(meta[metaEnd:]), taken: map[uint64]bool{}}
	if length := info.Size() / size; uint64(length) < p.end {
		return fmt.Errorf("check %s: %w: it has %d pages of %d", path, errPage, length, p.end)
	}
	if err := p.check(meta); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	return nil
}

// errPage is the root of all complaints about a page.
var errPage = errors.New("damaged page")

// newestMeta returns the meta page that bbolt goes by, and the size of a page.
func newestMeta(file io.ReaderAt) (meta []byte, size int64, err error) {
	for _, at := range []int64{0, int64(os.Getpagesize())} {
		if size > 0 {
			at = size
		}
		sound, told, err := readMeta(file, at)
		if err != nil {
			return nil, 0, err
		}
		if !sound {
			continue
		}
		page := make([]byte, metaSummed)
		if _, err := file.ReadAt(page, at+metaOffset); err != nil {
			return nil, 0, err
		}
		if meta == nil || binary.NativeEndian.Uint64(page[metaTx:]) > binary.NativeEndian.Uint64(meta[metaTx:]) {
			meta, size = page, told
		}
	}
	if meta == nil || size < pageHeader+metaSummed {
		return nil, 0, fmt.Errorf("%w: neither meta page is whole", errPage)
	}
	return meta, size, nil
}

func (p *pages) check(meta []byte) error {
	if err := p.free(binary.NativeEndian.Uint64(meta[metaFreelist:])); err != nil {
		return err
	}
	if err := p.tree(binary.NativeEndian.Uint64(meta[metaRoot:]), nil, nil, 0); err != nil {
		return err
	}
	for id := uint64(2); id < p.end; id++ {
		if !p.taken[id] {
			return fmt.Errorf("%w %d: it is neither in use nor free", errPage, id)
		}
	}
	return nil
}

// take counts a page as used; once only.
func (p *pages) take(id uint64) error {
	if id < 2 || id >= p.end || p.taken[id] {
		return fmt.Errorf("%w %d: it is used twice, or is none of %d", errPage, id, p.end)
	}
	p.taken[id] = true
	return nil
}

// read returns a page that nobody else uses, with its overflow.
func (p *pages) read(id uint64) ([]byte, error) {
	if err := p.take(id); err != nil {
		return nil, err
	}
	header := make([]byte, pageHeader)
	if _, err := p.file.ReadAt(header, int64(id)*p.size); err != nil {
		return nil, err
	}
	more := uint64(binary.NativeEndian.Uint32(header[12:]))
	if got := binary.NativeEndian.Uint64(header); got != id || more >= p.end {
		return nil, fmt.Errorf("%w %d: it says that it is %d, with %d more", errPage, id, got, more)
	}
	for i := range more {
		if err := p.take(id + 1 + i); err != nil {
			return nil, err
		}
	}
	page := make([]byte, int64(more+1)*p.size)
	_, err := p.file.ReadAt(page, int64(id)*p.size)
	return page, err
}

// free takes the pages of the free list, and the list's own.
func (p *pages) free(id uint64) error {
	page, err := p.read(id)
	if err != nil {
		return err
	}
	kind, count := binary.NativeEndian.Uint16(page[8:]), uint64(binary.NativeEndian.Uint16(page[10:]))
	numbers := page[pageHeader:]
	if count == 0xFFFF {
		count, numbers = binary.NativeEndian.Uint64(numbers), numbers[8:]
	}
	if kind != kindFreelist || count > uint64(len(numbers)/8) {
		return fmt.Errorf("%w %d: kind %#x with %d numbers, want the free list", errPage, id, kind, count)
	}
	for i := range count {
		if err := p.take(binary.NativeEndian.Uint64(numbers[8*i:])); err != nil {
			return fmt.Errorf("free list: %w", err)
		}
	}
	return nil
}

// tree checks a page and all below it; its keys lie between low and high, nil = anywhere.
func (p *pages) tree(id uint64, low, high []byte, deep int) error {
	if deep > pagesDeep {
		return fmt.Errorf("%w %d: it lies too deep", errPage, id)
	}
	page, err := p.read(id)
	if err != nil {
		return err
	}
	if err := p.elements(page, low, high, deep); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// element is one of a page.
type element struct {
	key   []byte
	value []byte // of a leaf's
	below uint64 // of a branch's
	flags uint32 // of a leaf's
}

func (p *pages) elements(page, low, high []byte, deep int) error {
	kind, all, err := readElements(page)
	if err != nil {
		return err
	}
	for i, e := range all {
		if i > 0 && bytes.Compare(all[i-1].key, e.key) >= 0 || bytes.Compare(e.key, low) < 0 ||
			high != nil && bytes.Compare(e.key, high) >= 0 {
			return fmt.Errorf("%w: its key %d is out of order", errPage, i)
		}
		next := high
		if i+1 < len(all) {
			next = all[i+1].key
		}
		switch {
		case kind == kindBranch:
			err = p.tree(e.below, e.key, next, deep+1)
		case e.flags == bucketFlag:
			err = p.bucket(e.value, deep+1)
		case e.flags != 0:
			err = fmt.Errorf("%w: flags %#x of its element %d", errPage, e.flags, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket checks the tree of a bucket, which may lie in its value.
func (p *pages) bucket(value []byte, deep int) error {
	if len(value) < bucketBytes {
		return fmt.Errorf("%w: a bucket of %d bytes", errPage, len(value))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return p.tree(root, nil, nil, deep)
	}
	return p.elements(value[bucketBytes:], nil, nil, deep)
}

// readElements reads a page of a tree.
func readElements(page []byte) (kind uint16, all []element, err error) {
	if len(page) < pageHeader {
		return 0, nil, fmt.Errorf("%w: of %d bytes", errPage, len(page))
	}
	kind = binary.NativeEndian.Uint16(page[8:])
	count := int(binary.NativeEndian.Uint16(page[10:]))
	if kind != kindBranch && kind != kindLeaf || pageHeader+count*elementBytes > len(page) || kind == kindBranch && count == 0 {
		return 0, nil, fmt.Errorf("%w: kind %#x with %d elements", errPage, kind, count)
	}
	for i := range count {
		at := page[pageHeader+i*elementBytes:]
		e, pos, keyBytes, valueBytes := element{}, uint64(0), uint64(0), uint64(0)
		number := func(from int) uint64 { return uint64(binary.NativeEndian.Uint32(at[from:])) }
		if kind == kindBranch {
			pos, keyBytes, e.below = number(0), number(4), binary.NativeEndian.Uint64(at[8:])
		} else {
			e.flags, pos, keyBytes, valueBytes = uint32(number(0)), number(4), number(8), number(12)
		}
		if pos+keyBytes+valueBytes > uint64(len(at)) {
			return 0, nil, fmt.Errorf("%w: its element %d lies outside", errPage, i)
		}
		e.key, e.value = at[pos:pos+keyBytes], at[pos+keyBytes:pos+keyBytes+valueBytes]
		all = append(all, e)
	}
	return kind, all, nil
}
