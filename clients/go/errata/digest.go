package errata

import (
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math/bits"

	"golang.org/x/crypto/blake2b"
)

const digestBytes = 16

// Digest is the sum modulo 2^128 of one hash an example, by which a watcher proves that it holds what the
// Learner holds; see WatchBookmark.digest in the contract. A sum, so that either side keeps it in constant
// time: add the example that came, subtract the one that went. The zero value is the digest of no examples.
type Digest struct{ high, low uint64 }

// Add puts one example in.
func (d *Digest) Add(key Key, revision int64) {
	row := rowHash(key, revision)
	var carry uint64
	d.low, carry = bits.Add64(d.low, row.low, 0)
	d.high, _ = bits.Add64(d.high, row.high, carry)
}

// Subtract takes one example out.
func (d *Digest) Subtract(key Key, revision int64) {
	row := rowHash(key, revision)
	var borrow uint64
	d.low, borrow = bits.Sub64(d.low, row.low, 0)
	d.high, _ = bits.Sub64(d.high, row.high, borrow)
}

// Bytes is the digest as the wire has it: 16 big-endian bytes.
func (d Digest) Bytes() []byte {
	encoded := make([]byte, 0, digestBytes)
	encoded = binary.BigEndian.AppendUint64(encoded, d.high)
	return binary.BigEndian.AppendUint64(encoded, d.low)
}

// String is the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d.Bytes()) }

// rowHash is BLAKE2b-128(namespace ‖ 0x00 ‖ ID ‖ 0x00 ‖ revision), read as a big-endian number.
func rowHash(key Key, revision int64) Digest {
	hashed := newBlake2b128()
	hashed.Write([]byte(key.Namespace + "\x00" + key.ID + "\x00"))
	hashed.Write(binary.BigEndian.AppendUint64(nil, uint64(revision)))
	sum := hashed.Sum(nil)
	return Digest{high: binary.BigEndian.Uint64(sum[:8]), low: binary.BigEndian.Uint64(sum[8:])}
}

func newBlake2b128() hash.Hash {
	hashed, err := blake2b.New(digestBytes, nil)
	if err != nil {
		// It refuses sizes over 64 and keys over 64 bytes alone.
		panic(err)
	}
	return hashed
}
