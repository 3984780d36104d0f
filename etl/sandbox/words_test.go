package sandbox_test

import (
	"encoding/base64"
	"encoding/binary"
)

func base64Of(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}
