package objects

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// gf2 is a 32 by 32 matrix over GF(2), by columns: what appending bits does to a checksum.
type gf2 [32]uint32

func (m *gf2) times(v uint32) (sum uint32) {
	for i := 0; v != 0; i, v = i+1, v>>1 {
		if v&1 != 0 {
			sum ^= m[i]
		}
	}
	return sum
}

func (m *gf2) square() (out gf2) {
	for i := range m {
		out[i] = m.times(m[i])
	}
	return out
}

// joinCRC is the CRC32C of two pieces, one after the other, from those of the pieces: the first is moved past as many zero
// bytes as the second is long. The way of zlib's crc32_combine.
func joinCRC(first, second uint32, length int64) uint32 {
	var bit gf2 // one zero bit appended
	bit[0] = crc32.Castagnoli
	for i := 1; i < 32; i++ {
		bit[i] = 1 << (i - 1)
	}
	two := bit.square()
	shift := two.square() // four bits
	for n := length; n > 0; n >>= 1 {
		shift = shift.square() // eight bits, which is one byte, then two, four, ...
		if n&1 != 0 {
			first = shift.times(first)
		}
	}
	return first ^ second
}

// spellCRC is how S3 and GCS spell a CRC32C: base64 of its four bytes, the highest first.
func spellCRC(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

func parseCRC(s string) (uint32, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}
