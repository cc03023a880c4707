package daemon

import (
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv/passthrough"
	"vrafs/internal/tlv"
	"vrafs/vhostuser"
)

// An inPlace is what a successor in the same process needs beyond a savedState.
type inPlace struct {
	front   []byte // the front-end's session; nil: none is connected
	sock    savedSocket
	control savedSocket // fd 0: none
	began   int64       // when the pause began, CLOCK_MONOTONIC in nanoseconds
	lives   uint64
	parent  int64
	shares  []*savedShare // the shared directories
	numbers []byte        // which inode numbers of theirs were given out; nil: there are none
}

// A savedShare is a shared directory.
type savedShare struct {
	identity string
	state    []byte
	taken    bool // its descriptors are another's business
}

// share returns the shared directory of an identity, nil if there is none.
func (p *inPlace) share(identity string) *savedShare {
	if p != nil {
		for _, s := range p.shares {
			if s.identity == identity && !s.taken {
				return s
			}
		}
	}
	return nil
}

// discard closes what of the shared directories nobody has taken.
func (p *inPlace) discard() {
	for _, s := range p.shares {
		if !s.taken {
			passthrough.Discard(s.state)
		}
	}
}

// A savedSocket is a listening socket that stays open.
type savedSocket struct {
	fd       int
	identity []byte
}

const (
	tagFront        = tlv.Required | 1
	tagSockFD       = tlv.Required | 2
	tagSockName     = tlv.Required | 3
	tagControlFD    = tlv.Required | 4
	tagControlName  = tlv.Required | 5
	tagBegan        = tlv.Tag(6)
	tagLives        = tlv.Tag(7)
	tagParent       = tlv.Tag(8)
	tagShare        = tlv.Required | 9 // one for each shared directory
	tagNumbers      = tlv.Required | 10
	maxInPlaceState = 256 << 20

	// Of shared directories.
	tagShareName  = tlv.Required | 1
	tagShareState = tlv.Required | 2
)

func (p *inPlace) encode(e *tlv.Encoder) {
	if p.front != nil {
		e.Bytes(tagFront, p.front)
	}
	e.Uint(tagSockFD, uint64(p.sock.fd))
	e.Bytes(tagSockName, p.sock.identity)
	if p.control.fd != 0 {
		e.Uint(tagControlFD, uint64(p.control.fd))
		e.Bytes(tagControlName, p.control.identity)
	}
	e.Uint(tagBegan, uint64(p.began))
	e.Uint(tagLives, p.lives)
	e.Uint(tagParent, uint64(p.parent))
	for _, s := range p.shares {
		e.Nested(tagShare, func(e *tlv.Encoder) {
			e.Text(tagShareName, s.identity)
			e.Bytes(tagShareState, s.state)
		})
	}
	if p.numbers != nil {
		e.Bytes(tagNumbers, p.numbers)
	}
}

func decodeShare(b []byte) (*savedShare, error) {
	records, err := tlv.Records(b, tagShareName, tagShareState)
	if err != nil {
		return nil, err
	}
	s := &savedShare{}
	for _, r := range records {
		if r.Tag == tagShareName {
			s.identity = string(r.Value)
		} else {
			s.state = r.Value
		}
	}
	return s, nil
}

func decodeInPlace(b []byte) (*inPlace, error) {
	records, err := tlv.Records(b, tagFront, tagSockFD, tagSockName, tagControlFD, tagControlName, tagBegan, tagLives, tagParent, tagShare, tagNumbers)
	if err != nil {
		return nil, err
	}
	p := &inPlace{}
	for _, r := range records {
		n := uint64(0)
		switch r.Tag {
		case tagFront:
			p.front = r.Value
			continue
		case tagSockName:
			p.sock.identity = r.Value
			continue
		case tagControlName:
			p.control.identity = r.Value
			continue
		case tagNumbers:
			p.numbers = r.Value
			continue
		case tagShare:
			s, err := decodeShare(r.Value)
			if err != nil {
				return nil, err
			}
			p.shares = append(p.shares, s)
			continue
		}
		if n, err = r.Uint(); err != nil {
			return nil, err
		}
		switch r.Tag {
		case tagSockFD:
			p.sock.fd = int(min(n, math.MaxInt32))
		case tagControlFD:
			p.control.fd = int(min(n, math.MaxInt32))
		case tagBegan:
			p.began = int64(n)
		case tagLives:
			p.lives = n
		case tagParent:
			p.parent = int64(n)
		}
	}
	return p, nil
}

// check reads everything that has a form of its own.
func (p *inPlace) check(queues int) error {
	if p.front != nil {
		if err := vhostuser.CheckState(p.front, queues); err != nil {
			return err
		}
	}
	for _, s := range p.shares {
		if err := passthrough.CheckState(s.state); err != nil {
			return fmt.Errorf("shared directory: %w", err)
		}
	}
	if p.numbers == nil {
		return nil
	}
	return new(passthrough.Numbers).Load(p.numbers)
}

// memoryFile holds a state, for another program.
func memoryFile(s *savedState) (*os.File, error) {
	fd, err := unix.MemfdCreate("vrafsd-state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "state")
	text := s.encode()
	if len(text) > maxInPlaceState {
		err = fmt.Errorf("%d bytes, at most %d are read", len(text), maxInPlaceState)
	} else {
		_, err = f.Write(text)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("save state: %w", err)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// readState reads a state from a descriptor, which it closes.
func readState(fd int) (*savedState, error) {
	f := os.NewFile(uintptr(fd), "state")
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxInPlaceState))
	if err != nil {
		return nil, fmt.Errorf("state of the former program: %w", err)
	}
	s, err := decodeState(text)
	if err != nil {
		return nil, fmt.Errorf("state of the former program: %w", err)
	}
	return s, nil
}
