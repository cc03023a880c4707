package vhostuser

import "fmt"

// Header layout (vhost-user, "Header"): {u32 request, u32 flags, u32 size}.
const (
	// HeaderSize is the length of a message header in bytes.
	HeaderSize = 12
	// MaxPayload is the longest payload accepted.
	MaxPayload = 4096

	// FlagVersion is the protocol version in bits 0 and 1 of flags.
	FlagVersion = 1
	// FlagReply marks a reply.
	FlagReply = 1 << 2
	// FlagNeedReply asks for an acknowledgement (with ProtocolReplyAck).
	FlagNeedReply = 1 << 3

	flagVersionMask = 3

	maxFDs = 32 // in one control message
)

// A Request is the id of a front-end message (vhost-user, "Front-end message
// types").
type Request uint32

// Front-end messages.
const (
	GetFeatures         Request = 1
	SetFeatures         Request = 2
	SetOwner            Request = 3
	ResetOwner          Request = 4
	SetMemTable         Request = 5
	SetLogBase          Request = 6
	SetLogFD            Request = 7
	SetVringNum         Request = 8
	SetVringAddr        Request = 9
	SetVringBase        Request = 10
	GetVringBase        Request = 11
	SetVringKick        Request = 12
	SetVringCall        Request = 13
	SetVringErr         Request = 14
	GetProtocolFeatures Request = 15
	SetProtocolFeatures Request = 16
	GetQueueNum         Request = 17
	SetVringEnable      Request = 18
	SendRARP            Request = 19
	NetSetMTU           Request = 20
	SetBackendReqFD     Request = 21
	IOTLBMsg            Request = 22
	SetVringEndian      Request = 23
	GetConfig           Request = 24
	SetConfig           Request = 25
	CreateCryptoSession Request = 26
	CloseCryptoSession  Request = 27
	PostcopyAdvise      Request = 28
	PostcopyListen      Request = 29
	PostcopyEnd         Request = 30
	GetInflightFD       Request = 31
	SetInflightFD       Request = 32
	ResetDevice         Request = 34
	VringKick           Request = 35
	GetMaxMemSlots      Request = 36
	AddMemReg           Request = 37
	RemMemReg           Request = 38
	SetStatus           Request = 39
	GetStatus           Request = 40
	GetSharedObject     Request = 41
	SetDeviceStateFD    Request = 42
	CheckDeviceState    Request = 43
	GetShmemConfig      Request = 44
)

var requestNames = map[Request]string{
	GetFeatures: "GET_FEATURES", SetFeatures: "SET_FEATURES", SetOwner: "SET_OWNER", ResetOwner: "RESET_OWNER",
	SetMemTable: "SET_MEM_TABLE", SetLogBase: "SET_LOG_BASE", SetLogFD: "SET_LOG_FD", SetVringNum: "SET_VRING_NUM",
	SetVringAddr: "SET_VRING_ADDR", SetVringBase: "SET_VRING_BASE", GetVringBase: "GET_VRING_BASE",
	SetVringKick: "SET_VRING_KICK", SetVringCall: "SET_VRING_CALL", SetVringErr: "SET_VRING_ERR",
	GetProtocolFeatures: "GET_PROTOCOL_FEATURES", SetProtocolFeatures: "SET_PROTOCOL_FEATURES",
	GetQueueNum: "GET_QUEUE_NUM", SetVringEnable: "SET_VRING_ENABLE", SendRARP: "SEND_RARP", NetSetMTU: "NET_SET_MTU",
	SetBackendReqFD: "SET_BACKEND_REQ_FD", IOTLBMsg: "IOTLB_MSG", SetVringEndian: "SET_VRING_ENDIAN",
	GetConfig: "GET_CONFIG", SetConfig: "SET_CONFIG",
	CreateCryptoSession: "CREATE_CRYPTO_SESSION", CloseCryptoSession: "CLOSE_CRYPTO_SESSION",
	PostcopyAdvise: "POSTCOPY_ADVISE", PostcopyListen: "POSTCOPY_LISTEN", PostcopyEnd: "POSTCOPY_END", GetInflightFD: "GET_INFLIGHT_FD", SetInflightFD: "SET_INFLIGHT_FD",
	ResetDevice: "RESET_DEVICE", VringKick: "VRING_KICK", GetMaxMemSlots: "GET_MAX_MEM_SLOTS", AddMemReg: "ADD_MEM_REG",
	RemMemReg: "REM_MEM_REG", SetStatus: "SET_STATUS", GetStatus: "GET_STATUS", GetSharedObject: "GET_SHARED_OBJECT",
	SetDeviceStateFD: "SET_DEVICE_STATE_FD", CheckDeviceState: "CHECK_DEVICE_STATE", GetShmemConfig: "GET_SHMEM_CONFIG",
}

// String returns the message's name in the specification.
func (r Request) String() string {
	if s, ok := requestNames[r]; ok {
		return s
	}
	return fmt.Sprintf("message %d", uint32(r))
}

// Virtio feature bits that concern the transport.
const (
	FeatureLogAll           = 1 << 26
	FeatureIndirectDesc     = 1 << 28
	FeatureEventIdx         = 1 << 29
	FeatureProtocolFeatures = 1 << 30
	FeatureVersion1         = 1 << 32
	FeatureAccessPlatform   = 1 << 33
	FeatureRingPacked       = 1 << 34
	FeatureInOrder          = 1 << 35
	FeatureNotificationData = 1 << 38
	FeatureRingReset        = 1 << 40

	// featuresBinding change what is in a ring: a front-end that sets one we did
	// not offer can't be served. Others not offered are masked.
	featuresBinding = FeatureAccessPlatform | FeatureRingPacked | FeatureInOrder | FeatureNotificationData | FeatureRingReset
)

// Protocol feature bits (vhost-user, "Protocol features").
const (
	ProtocolMQ             = 1 << 0
	ProtocolLogShmFD       = 1 << 1
	ProtocolReplyAck       = 1 << 3
	ProtocolBackendReq     = 1 << 5
	ProtocolConfig         = 1 << 9
	ProtocolBackendSendFD  = 1 << 10
	ProtocolInflightShmFD  = 1 << 12
	ProtocolResetDevice    = 1 << 13
	ProtocolConfigureSlots = 1 << 15
	ProtocolStatus         = 1 << 16
	ProtocolDeviceState    = 1 << 19
)

const (
	// MaxMemSlots is the answer to GET_MAX_MEM_SLOTS.
	MaxMemSlots = 509
	// maxTable is the longest SET_MEM_TABLE: what one control message can carry.
	maxTable = maxFDs

	regionSize = 32     // a memory region description
	vringNoFD  = 1 << 8 // in the u64 of SET_VRING_KICK, CALL and ERR
)

// A message is one request, its descriptors, and the reply being made for it.
type message struct {
	req     Request
	flags   uint32
	payload []byte
	fds     []int // owned; those a handler keeps are taken out with take

	reply   []byte // set by a handler of a message that is always replied to
	replyFD int    // sent with reply, stays the handler's; -1: none
}

// take hands descriptor i over to the caller.
func (m *message) take(i int) int {
	fd := m.fds[i]
	m.fds[i] = -1
	return fd
}

// closeFDs closes what no handler took.
func (m *message) closeFDs() {
	for _, fd := range m.fds {
		discard(fd)
	}
	m.fds = m.fds[:0]
}
