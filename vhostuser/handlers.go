package vhostuser

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A handler is one row of the message table: what a message must look like and
// who serves it.
type handler struct {
	fn             func(*session, *message) error
	min, max       int // payload bytes
	minFDs, maxFDs int
	proto          uint64 // protocol feature it belongs to; 0: none
	reply          bool   // always replied to
}

// handlers is the specification's table of front-end messages, those that a
// file-system device needs. The rest is refused as unknown.
var handlers = map[Request]handler{
	GetFeatures:         {fn: (*session).getFeatures, reply: true},
	SetFeatures:         {fn: (*session).setFeatures, min: 8, max: 8},
	SetOwner:            {fn: (*session).nothing},
	ResetOwner:          {fn: (*session).resetOwner},
	SetMemTable:         {fn: (*session).setMemTable, min: 8, max: 8 + maxTable*regionSize, maxFDs: maxTable},
	SetLogBase:          {fn: (*session).setLogBase, min: 16, max: 16, minFDs: 1, maxFDs: 1, proto: ProtocolLogShmFD, reply: true},
	SetLogFD:            {fn: (*session).setLogFD, max: 8, maxFDs: 1},
	SetVringNum:         {fn: (*session).setVringNum, min: 8, max: 8},
	SetVringAddr:        {fn: (*session).setVringAddr, min: 40, max: 40},
	SetVringBase:        {fn: (*session).setVringBase, min: 8, max: 8},
	GetVringBase:        {fn: (*session).getVringBase, min: 8, max: 8, reply: true},
	SetVringKick:        {fn: (*session).setVringKick, min: 8, max: 8, maxFDs: 1},
	SetVringCall:        {fn: (*session).setVringCall, min: 8, max: 8, maxFDs: 1},
	SetVringErr:         {fn: (*session).setVringErr, min: 8, max: 8, maxFDs: 1},
	GetProtocolFeatures: {fn: (*session).getProtocolFeatures, reply: true},
	SetProtocolFeatures: {fn: (*session).setProtocolFeatures, min: 8, max: 8},
	GetQueueNum:         {fn: (*session).getQueueNum, proto: ProtocolMQ, reply: true},
	SetVringEnable:      {fn: (*session).setVringEnable, min: 8, max: 8},
	GetConfig:           {fn: (*session).getConfig, min: 12, max: 12 + maxConfig, proto: ProtocolConfig, reply: true},
	SetConfig:           {fn: (*session).setConfig, min: 12, max: 12 + maxConfig, proto: ProtocolConfig},
	GetInflightFD:       {fn: (*session).getInflightFD, min: 20, max: 24, proto: ProtocolInflightShmFD, reply: true},
	SetInflightFD:       {fn: (*session).setInflightFD, min: 20, max: 24, minFDs: 1, maxFDs: 1, proto: ProtocolInflightShmFD},
	ResetDevice:         {fn: (*session).resetDevice, proto: ProtocolResetDevice},
	GetMaxMemSlots:      {fn: (*session).getMaxMemSlots, proto: ProtocolConfigureSlots, reply: true},
	AddMemReg:           {fn: (*session).addMemReg, min: 8 + regionSize, max: 8 + regionSize, minFDs: 1, maxFDs: 1, proto: ProtocolConfigureSlots},
	RemMemReg:           {fn: (*session).remMemReg, min: 8 + regionSize, max: 8 + regionSize, maxFDs: 1, proto: ProtocolConfigureSlots},
	SetStatus:           {fn: (*session).setStatus, min: 8, max: 8, proto: ProtocolStatus},
	GetStatus:           {fn: (*session).getStatus, proto: ProtocolStatus, reply: true},
	SetDeviceStateFD:    {fn: (*session).setDeviceStateFD, min: 8, max: 8, minFDs: 1, maxFDs: 1, proto: ProtocolDeviceState, reply: true},
	CheckDeviceState:    {fn: (*session).checkDeviceState, proto: ProtocolDeviceState, reply: true},
}

// awaited are the messages among the rest that front-ends wait for an answer to.
var awaited = map[Request]bool{
	IOTLBMsg: true, CreateCryptoSession: true, PostcopyAdvise: true, PostcopyEnd: true, GetSharedObject: true, GetShmemConfig: true,
}

// maxConfig is the longest configuration space vhost-user knows.
const maxConfig = 256

func u32(p []byte, off int) uint32 { return binary.NativeEndian.Uint32(p[off:]) }
func u64(p []byte, off int) uint64 { return binary.NativeEndian.Uint64(p[off:]) }

// replyU64 sets a reply of one number.
func (m *message) replyU64(v uint64) {
	m.reply = binary.NativeEndian.AppendUint64(nil, v)
}

// offer computes what this connection offers.
func (s *session) offer() {
	s.offered = FeatureVersion1 | FeatureIndirectDesc | FeatureEventIdx | FeatureProtocolFeatures | FeatureLogAll
	if !s.o.NoPacked {
		s.offered |= FeatureRingPacked
	}
	s.offeredProto = ProtocolMQ | ProtocolLogShmFD | ProtocolInflightShmFD | ProtocolResetDevice | ProtocolConfigureSlots
	for bit, on := range map[uint64]bool{
		ProtocolReplyAck:    !s.o.NoReplyAck,
		ProtocolConfig:      len(s.prop.Config) != 0,
		ProtocolStatus:      s.o.Status,
		ProtocolDeviceState: s.prop.Migratable,
	} {
		if on {
			s.offeredProto |= bit
		}
	}
}

func (s *session) nothing(*message) error { return nil }

func (s *session) getFeatures(m *message) error {
	m.replyU64(s.offered)
	return nil
}

// setFeatures may come again at any time, to switch dirty logging.
func (s *session) setFeatures(m *message) error {
	f := u64(m.payload, 0)
	if f&FeatureVersion1 == 0 {
		return fmt.Errorf("%w: features %#x without VERSION_1", errRefused, f)
	}
	if bad := f &^ s.offered & featuresBinding; bad != 0 {
		return fmt.Errorf("%w: features %#x were not offered", errRefused, bad)
	}
	s.features, s.haveFeatures = f&s.offered, true
	if s.features&FeatureProtocolFeatures == 0 {
		for _, r := range s.rings {
			r.enabled = true
		}
	}
	s.updateLog()
	return s.startAll()
}

func (s *session) getProtocolFeatures(m *message) error {
	m.replyU64(s.offeredProto)
	return nil
}

// setProtocolFeatures ignores bits never offered.
func (s *session) setProtocolFeatures(m *message) error {
	s.proto = u64(m.payload, 0) & s.offeredProto
	return nil
}

func (s *session) getQueueNum(m *message) error {
	m.replyU64(uint64(len(s.rings)))
	return nil
}

// resetOwner is deprecated and was never well defined: rings are disabled,
// nothing is forgotten.
func (s *session) resetOwner(*message) error {
	for _, r := range s.rings {
		r.enabled = false
		r.halt()
	}
	return nil
}

// getConfig replies {offset, size, flags, bytes}; an empty reply is an error.
func (s *session) getConfig(m *message) error {
	off, n := u32(m.payload, 0), u32(m.payload, 4)
	if uint64(n) != uint64(len(m.payload)-12) || uint64(off)+uint64(n) > maxConfig {
		m.reply = []byte{}
		return fmt.Errorf("%w: %d bytes of configuration at %d", errRefused, n, off)
	}
	m.reply = append([]byte{}, m.payload...)
	clear(m.reply[12:])
	if int(off) < len(s.prop.Config) {
		copy(m.reply[12:], s.prop.Config[off:])
	}
	return nil
}

// setConfig accepts only what a migration target may say: what is true already.
func (s *session) setConfig(m *message) error {
	const migration = 1
	off, n, flags := u32(m.payload, 0), u32(m.payload, 4), u32(m.payload, 8)
	if uint64(n) == uint64(len(m.payload)-12) && flags == migration && uint64(off)+uint64(n) <= uint64(len(s.prop.Config)) &&
		bytes.Equal(m.payload[12:], s.prop.Config[off:off+n]) {
		return nil
	}
	return fmt.Errorf("%w: configuration is read-only", errRefused)
}

// resetDevice forgets the session; memory, owner and protocol features stay.
func (s *session) resetDevice(*message) error {
	for _, r := range s.rings {
		s.stop(r, false)
		r.enabled, r.base, r.haveAddr = false, 0, false
		closeFD(r.kick)
		r.kick, r.kickSet = -1, false
	}
	s.status = 0
	s.dev.Reset()
	return nil
}

// setStatus does not gate the rings: QEMU was seen to stop at FEATURES_OK.
func (s *session) setStatus(m *message) error {
	v := u64(m.payload, 0)
	if v > 0xff {
		return fmt.Errorf("%w: status %#x", errRefused, v)
	}
	if v == 0 {
		return s.resetDevice(m)
	}
	s.status = uint8(v)
	return nil
}

func (s *session) getStatus(m *message) error {
	const featuresOK = 8
	v := s.status
	if !s.haveFeatures {
		v &^= featuresOK
	}
	m.replyU64(uint64(v))
	return nil
}

func putU32(p []byte, off int, v uint32) { binary.NativeEndian.PutUint32(p[off:], v) }
