// Package codec turns stored chunk bytes into chunk bytes and back: compressors,
// digests, checksums, and the cipher of encrypted blobs.
//
//	blob file                                                    chunk
//	stored bytes --[XTS.Decrypt]--> framed bytes --[Decoder]--> bytes --[Sum, CRC32C]--> proof
//	             <--[XTS.Encrypt]--              <--[Encoder]--
//
// Nothing that is decoded is trusted. A Decoder writes into a destination of
// the exact size the metadata promises, never allocates in proportion to what
// the input claims, and gives an error of class ErrData for anything else. Output
// has no standing before its digest was compared.
//
// Encoders are deterministic: the same bytes in give the same bytes out, on any
// machine, with the module versions in go.mod.
//
// Decoders and encoders hold scratch memory and are for one goroutine at a
// time; the functions may be called from any.
//
// Source: RAFS, sections 3 (framing), 4.7 (zran) and 4.9 (encryption); RFC 1951,
// RFC 1952, RFC 8878; IEEE 1619-2018 for XTS; RFC 3720 appendix B.4 for CRC-32C.
package codec

import "errors"

// ErrData is the class of compressed or encrypted input that does not decode to
// what the metadata says.
var ErrData = errors.New("bad compressed data")
